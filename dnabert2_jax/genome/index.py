"""Indexed FASTA files: a contig and a range of bases go in; the sequence comes out, without reading the rest.

Plain and bgzip files, with the `.fai` and `.gzi` indexes of samtools; htslib (through pysam) does the work.
"""

import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pysam

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.genome.fasta_parser import parse_fasta
from dnabert2_jax.genome.inputs import is_bgzip, is_standard_input, peek_stored, quoted, warn, warn_of_rna
from dnabert2_jax.genome.sequence import IUPAC

_WITHOUT_NUCLEOTIDES = str.maketrans("", "", IUPAC + IUPAC.lower())


class IndexedFasta:
    """A FASTA file that is read in places. Close it, or use it in a `with` statement.

    An index beside the file is used where it is at least as new as the file. Otherwise one is made in a
    temporary folder from one pass through the file, which is checked on the way; `write_index` makes one to
    keep. The folder of the file is only read. An object is for one thread and one process.

    Attributes:
      path: the file.
      contigs: for each contig its length in bases, in the order of the file. Contigs without bases are
        absent, as samtools leaves them out.

    Examples:
      >>> with IndexedFasta("genome.fa") as genome:
      ...     genome.contigs, genome.fetch("chr1", 0, 4)
      ({'chr1': 8}, 'ACGT')
    """

    def __init__(self, path: str | os.PathLike):
        """Opens the file.

        Raises:
          UserError: the file cannot be read, is gzip but not bgzip, or its index is damaged; where the index
            has to be made: what `genome.fasta.read_chunks` refuses, and lines of unequal length.
        """
        self.path = Path(path)
        with TemporaryDirectory(prefix="fasta_index_") as folder:
            indexes = _index_paths(self.path, self.path.parent)
            if not _are_fresh(self.path, indexes):
                indexes = _make_indexes(self.path, Path(folder))
            self._file = _open(self.path, indexes)
        self.contigs: dict[str, int] = dict(zip(self._file.references, self._file.lengths, strict=True))
        self._is_rna = False

    def fetch(self, contig: str, start: int, end: int) -> str:
        """The bases [start, end) of a contig, 0-based, in the case of the file, as DNA (U is read as T).

        Raises:
          UserError: the contig or the range is not in the file, or what stands there is no sequence.
        """
        if contig not in self.contigs:
            raise UserError(
                f"{self.path}: has no contig {quoted(contig)}; the first that it has is"
                f" {quoted(next(iter(self.contigs)))}"
            )
        if not 0 <= start <= end <= self.contigs[contig]:
            raise UserError(
                f"{self.path}: contig {quoted(contig)} has {self.contigs[contig]} bases, and {start} to {end}"
                " is asked; give 0-based positions within it, the smaller one first"
            )
        try:
            with _quiet():
                letters = self._file.fetch(contig, start, end)
        except (OSError, ValueError, UnicodeDecodeError) as error:
            raise self._disagreement(contig, start, end) from error
        if len(letters) != end - start or letters.translate(_WITHOUT_NUCLEOTIDES):
            raise self._disagreement(contig, start, end)
        if not self._is_rna and "U" in letters.upper():
            self._is_rna = True
            warn_of_rna(str(self.path), f"contig {quoted(contig)}")
        return letters.replace("U", "T").replace("u", "t")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _disagreement(self, contig: str, start: int, end: int) -> UserError:
        return UserError(
            f"{self.path}: contig {quoted(contig)}, bases {start} to {end}: is no nucleotide sequence where"
            " the index says so; remove the index beside the file if there is one, and check the file"
        )


def write_index(path: str | os.PathLike) -> None:
    """Writes the index of a FASTA file beside it, as `samtools faidx` does: .fai, and for bgzip also .gzi.

    Raises:
      UserError: as `IndexedFasta`, or the folder cannot be written to.
    """
    fasta = Path(path)
    with TemporaryDirectory(prefix="fasta_index_") as folder:
        made = _make_indexes(fasta, Path(folder))
        for source, target in zip(made, _index_paths(fasta, fasta.parent), strict=True):
            with open(source, "rb") as reader, atomic_file(target) as writer:
                shutil.copyfileobj(reader, writer)


def _index_paths(fasta: Path, folder: Path) -> list[Path]:
    """The .fai, and for bgzip also the .gzi."""
    if is_standard_input(fasta):
        raise UserError("standard input: cannot be read in places; save it as a file")
    beginning = peek_stored(fasta)
    if not beginning:
        raise UserError(f"{fasta}: is empty; give a FASTA file with at least one record")
    if not beginning.startswith(b"\x1f\x8b"):
        return [folder / f"{fasta.name}.fai"]
    if not is_bgzip(beginning):
        raise UserError(
            f"{fasta}: is compressed with gzip, which cannot be read in places; unpack it, or pack it with"
            " bgzip"
        )
    return [folder / f"{fasta.name}.fai", folder / f"{fasta.name}.gzi"]


def _are_fresh(fasta: Path, indexes: list[Path]) -> bool:
    if not all(index.is_file() for index in indexes):
        return False
    stale = [index for index in indexes if index.stat().st_mtime_ns < fasta.stat().st_mtime_ns]
    for index in stale:
        warn(f"{index}: is older than {fasta.name} and is not used; remove it or run samtools faidx again")
    return not stale


def _make_indexes(fasta: Path, folder: Path) -> list[Path]:
    indexes = _index_paths(fasta, folder)
    # htslib takes the first of two contigs of one name, and any letters; our parser refuses both.
    deque(parse_fasta(fasta), maxlen=0)
    options = [
        word for pair in zip(("--fai-idx", "--gzi-idx"), map(str, indexes), strict=False) for word in pair
    ]
    try:
        with _quiet():
            pysam.faidx(_local(fasta), *options)
    except pysam.SamtoolsError as error:
        raise UserError(
            f"{fasta}: cannot be indexed; wrap the sequence so that all lines of a record but the last have"
            " the same length, with no blank lines between"
        ) from error
    return indexes


def _open(fasta: Path, indexes: list[Path]) -> pysam.FastaFile:
    fai, gzi = (*map(str, indexes), None)[:2]
    try:
        with _quiet():
            file = pysam.FastaFile(_local(fasta), filepath_index=fai, filepath_index_compressed=gzi)
    except (OSError, ValueError) as error:
        raise UserError(f"{fai}: is no index of {fasta.name}, or damaged; remove it") from error
    if not file.references:
        raise UserError(f"{fasta}: has no contig with bases, or an empty index beside it; check both")
    return file


def _local(path: Path) -> str:
    # htslib would take a leading dash for an option, and a name with a colon for an address.
    return os.path.abspath(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps htslib from printing what we say in our own words."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)
