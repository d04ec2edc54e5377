"""What lies where in a corpus folder: file names, the typed `metadata.json`, and the index of a split.

The builder writes these, the reader reads them; nobody else needs to know a file name.
"""

import json
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from dnabert2_jax.errors import UserError

FORMAT = 2
RECORD_TOKENS = 8192
SPLITS = ("train", "validation")
METADATA_FILE = "metadata.json"
TOKENIZER_FOLDER = "tokenizer"
UNIGRAM_FILE = "unigram.npy"


Split = Literal["auto", "train", "validation"]
Holdout = Literal["region", "chromosome", "species"]
InputKind = Literal["fasta", "text"]


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a corpus is made of its inputs.

    Attributes:
      validation_share: share of each genome to hold out, in (0, 0.5].
      holdout: "region": contiguous regions of each genome; "chromosome": whole contigs; "species": whole
        species. `holdout` (the module) says how they are chosen.
      holdout_contigs: with "chromosome", the names of the contigs to hold out.
      region_bases: length of a held-out region, about.
      minimum_bases: runs of A, C, G, T shorter than this are dropped (and counted).
      stretch_bases: most bases of a record. 1000 makes of a genome what the paper made of it.
      max_bases_per_species: a species gives its first so many bases, in the order of its files and contigs;
        contigs that `holdout_contigs` names do not count.
      drop_impure_lines: of text files, whether a line with another letter than A, C, G, T is dropped, as in
        the paper, and not split there.
      unit_bases: a shard holds the text of so many bases of a file; also what an interrupted build loses.
        None chooses about a 64th of all bases, within limits.
    """

    validation_share: float = 0.05
    holdout: Holdout = "region"
    holdout_contigs: tuple[str, ...] = ()
    region_bases: int = 20_000
    minimum_bases: int = 50
    stretch_bases: int = 36_000
    max_bases_per_species: int | None = None
    drop_impure_lines: bool = False
    unit_bases: int | None = None


class InputFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file the corpus was built from; `file` is its name without folders, BED files are by SHA-256."""

    species: str
    file: str
    kind: InputKind
    sha256: str
    keep_bed: str | None = None
    drop_bed: str | None = None


class SpeciesCounts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One species: what was asked for, and what became of its bases.

    Bases are counted on the forward strand; tokens are of both strands. `bases` = `train_bases` +
    `validation_bases` + the four `dropped_…`: runs shorter than the minimum, letters other than A, C, G and T
    (and lines that hold them, where they are dropped), what lies outside of the BED regions, and what exceeds
    the cap. `weight` is None where none was given, `expected_bases` where no size was.
    """

    species: str
    split: Split
    weight: float | None
    expected_bases: int | None
    contigs: int
    bases: int
    soft_masked: int
    dropped_short: int
    dropped_other: int
    dropped_regions: int
    dropped_cap: int
    train_bases: int = 0
    validation_bases: int = 0
    train_tokens: int = 0
    validation_tokens: int = 0


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ArrayRecord file of a split."""

    file: str
    sha256: str
    records: int
    tokens: int


class ValidationRegion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A held-out interval [start, end) of a contig, 0-based; its place in the list is the region's id."""

    species: str
    contig: str
    start: int
    end: int


class CorpusMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a corpus that fits in a JSON file."""

    format: int
    tokenizer_sha256: str
    vocab_size: int
    settings: BuildSettings
    inputs: list[InputFile]
    species: list[SpeciesCounts]
    splits: dict[str, list[Shard]]
    validation_regions: list[ValidationRegion]


@dataclass(frozen=True, slots=True, eq=False)
class SplitIndex:
    """What is known of a split's n records without opening them.

    Records 2i and 2i + 1 are the forward and the reverse strand of nearly the same place.

    Attributes:
      tokens: [n] int32, tokens of each record.
      species: [n] int32, place in `CorpusMetadata.species`.
      strand: [n] int8, 0 forward (+), 1 reverse (-).
      region: [n] int32, place in `CorpusMetadata.validation_regions`; -1 in the training split.
    """

    tokens: np.ndarray
    species: np.ndarray
    strand: np.ndarray
    region: np.ndarray

    def __len__(self) -> int:
        return self.tokens.size

    @classmethod
    def join(cls, parts: "Sequence[SplitIndex]") -> "SplitIndex":
        """One index behind the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _INDEX_TYPES))


_INDEX_TYPES = {
    "tokens": np.dtype(np.int32),
    "species": np.dtype(np.int32),
    "strand": np.dtype(np.int8),
    "region": np.dtype(np.int32),
}


# What reading a damaged file ends in. RuntimeError: zipfile is asked for a password or for what it has not
# implemented. SyntaxError, TokenError: NumPy reads the header of an array as a Python expression.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def shard_name(split: str, number: int) -> str:
    """The file name of a split's shard."""
    return f"{split}-{number:05d}.arrayrecord"


def write_metadata(folder: Path, metadata: CorpusMetadata) -> None:
    """Writes `metadata.json`; the same metadata gives the same bytes."""
    text = json.dumps(msgspec.to_builtins(metadata), indent=1, ensure_ascii=False)
    (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def read_metadata(folder: Path) -> CorpusMetadata:
    """Reads `metadata.json`.

    Raises:
      UserError: there is none, it is damaged, or it is of another format.
    """
    path = folder / METADATA_FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: no such corpus folder; build one with `dnabert2 corpus build`")
    if not path.is_file():
        raise UserError(
            f"{folder}: is not a corpus (it has no {METADATA_FILE}); build one with `dnabert2 corpus build`"
        )
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
        if isinstance(content, dict) and content.get("format") != FORMAT:
            raise UserError(
                f"{path}: is of corpus format {content.get('format')!r}, and this version reads {FORMAT}; "
                "build the corpus again"
            )
        metadata = msgspec.convert(content, CorpusMetadata)
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: is damaged ({error}); build the corpus again") from error
    if set(metadata.splits) != set(SPLITS):
        raise UserError(f"{path}: must list the splits {' and '.join(SPLITS)}; build the corpus again")
    for shard in (shard for shards in metadata.splits.values() for shard in shards):
        if Path(shard.file).name != shard.file:
            raise UserError(f"{path}: names the shard {shard.file!r} outside of its folder; build it again")
    return metadata


def write_index(folder: Path, split: str, index: SplitIndex) -> None:
    """Writes `<split>-index.npz`."""
    columns = {name: getattr(index, name).astype(dtype) for name, dtype in _INDEX_TYPES.items()}
    with open(folder / f"{split}-index.npz", "wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def read_index(folder: Path, split: str) -> SplitIndex:
    """Reads `<split>-index.npz`.

    Raises:
      UserError: it is missing or damaged.
    """
    path = folder / f"{split}-index.npz"
    columns = _read_numpy(path)
    types = {name: column.dtype for name, column in columns.items()}
    if types != _INDEX_TYPES or len({column.shape for column in columns.values()}) != 1:
        raise UserError(f"{path}: its columns are not those of an index; build the corpus again")
    return SplitIndex(**columns)


def write_unigram_counts(folder: Path, counts: np.ndarray) -> None:
    """Writes how often each id occurs in the training text of each species, int64 [species, V]."""
    np.save(folder / UNIGRAM_FILE, counts.astype(np.int64), allow_pickle=False)


def read_unigram_counts(folder: Path) -> np.ndarray:
    """Reads how often each id occurs in the training text of each species, int64 [species, V].

    Raises:
      UserError: the file is missing or damaged.
    """
    return _read_numpy(folder / UNIGRAM_FILE)


def _read_numpy(path: Path) -> Any:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                return dict(content)
        return content
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; build the corpus again") from None
    except _DAMAGE as error:
        raise UserError(f"{path}: is damaged ({error}); build the corpus again") from error
