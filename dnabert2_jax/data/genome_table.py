"""The table of a corpus of many species: a TSV file comes in, the inputs it names go out.

    # Lines that begin with a hash are comments.
    path	species	split	weight
    yeast.fa.gz	Saccharomyces cerevisiae
    mouse/chr1.fa.gz	Mus musculus	train	2.5

`path` and `species` are needed; `split`, `weight`, `expected_bases`, `keep_bed` and `drop_bed` may be left
out or empty.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from dnabert2_jax.data.inputs import CorpusInput, check_inputs
from dnabert2_jax.data.layout import Split
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.inputs import open_input

REQUIRED = ("path", "species")
OPTIONAL = ("split", "weight", "expected_bases", "keep_bed", "drop_bed")

_SPLITS: dict[str, Split] = {"": "auto", "auto": "auto", "train": "train", "validation": "validation"}


def read_genome_table(table: str | os.PathLike) -> list[CorpusInput]:
    """Reads a table of genomes; its paths are relative to its folder.

    Args:
      table: the TSV file, UTF-8, plain or gzip.

    Returns:
      One input for each row, in order.

    Raises:
      UserError: the table cannot be read, its header or a row is wrong, a file it names is not there, or its
        rows contradict each other.
    """
    rows = list(_rows(table))
    if not rows:
        raise UserError(
            f"{table}: has no rows; its first line is {'<tab>'.join(REQUIRED)}, then a row a file"
        )
    unfilled = [(place, fields) for place, fields in rows if not fields["path"]]
    if unfilled:
        place, fields = unfilled[0]
        others = f" (and that of {len(unfilled) - 1} other rows)" if len(unfilled) > 1 else ""
        raise UserError(
            f"{place}: the path of {fields['species']!r} is empty{others};"
            " fill in its FASTA file or remove the row"
        )
    inputs = [_input(Path(table).parent, place, fields) for place, fields in rows]
    try:
        check_inputs(inputs)
    except UserError as error:
        raise UserError(f"{table}: {error}") from error
    return inputs


def _rows(table: str | os.PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    header: list[str] = []
    with open_input(table) as file:
        for number, line in enumerate(file, start=1):
            place = f"{table}: line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{place}: is not UTF-8 text; save the table as UTF-8") from error
            fields = [field.strip() for field in text.rstrip("\r\n").split("\t")]
            if not any(fields) or fields[0].startswith("#"):
                continue
            if not header:
                _check_header(place, fields)
                header = fields
                continue
            if len(fields) > len(header):
                raise UserError(
                    f"{place}: has {len(fields)} fields and the header {len(header)};"
                    " separate fields by single tabs"
                )
            # Editors drop the tabs at the end of a line.
            fields += [""] * (len(header) - len(fields))
            yield place, dict.fromkeys(OPTIONAL, "") | dict(zip(header, fields, strict=True))


def _check_header(place: str, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"{place}: the header has no column {missing[0]!r}; it must name {' and '.join(REQUIRED)},"
            f" and may name {', '.join(OPTIONAL)}, separated by tabs"
        )
    unknown = [name for name in header if name not in REQUIRED + OPTIONAL]
    if unknown:
        raise UserError(
            f"{place}: the header has the column {unknown[0][:40]!r}; the columns there are are"
            f" {', '.join(REQUIRED + OPTIONAL)}"
        )
    if len(set(header)) < len(header):
        raise UserError(f"{place}: the header names a column twice; name each once")


def _input(folder: Path, place: str, fields: dict[str, str]) -> CorpusInput:
    if not fields["species"]:
        raise UserError(f"{place}: the species is empty; give {fields['path']} one")
    if fields["split"] not in _SPLITS:
        raise UserError(
            f"{place}: the split {fields['split'][:40]!r} is none; write train, validation, or nothing"
        )
    expected = _number(place, "expected_bases", fields["expected_bases"])
    return CorpusInput(
        species=fields["species"],
        path=_file(folder, place, "path", fields["path"]),
        split=_SPLITS[fields["split"]],
        weight=_number(place, "weight", fields["weight"]),
        expected_bases=None if expected is None else round(expected),
        keep_bed=_file(folder, place, "keep_bed", fields["keep_bed"]) if fields["keep_bed"] else None,
        drop_bed=_file(folder, place, "drop_bed", fields["drop_bed"]) if fields["drop_bed"] else None,
    )


def _file(folder: Path, place: str, column: str, name: str) -> Path:
    path = folder / name
    if "\0" in name or not path.is_file():
        raise UserError(
            f"{place}: the {column} {name!r} is no file (looked for {str(path)!r}); paths are relative to the"
            " table, so mend the row or fetch the file"
        )
    return path


def _number(place: str, column: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise UserError(
            f"{place}: the {column} {text[:40]!r} is no number above 0; mend it or leave it empty"
        )
    return value
