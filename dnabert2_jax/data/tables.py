"""Small tables people make: CSV or TSV, plain or gzip, in; rows with their line numbers out."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.inputs import Source, open_input
from dnabert2_jax.genome.sequence import NUCLEOTIDES


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: the line it ends on, counted from 1, and its fields by column."""

    line: int
    fields: dict[str, str]


def read_table(source: Source, *, required: Sequence[tuple[str, ...]], delimiter: str = ",") -> Iterator[Row]:
    """Reads a table row by row. Blanks around names and fields do not count, nor do blank lines.

    Args:
      source: the file, plain or gzip (told by its first bytes), UTF-8; or "-" for standard input.
      required: sets of columns; the header must have all of one set. Other columns are kept too.
      delimiter: what separates fields.

    Raises:
      UserError: the file cannot be read, is damaged, is no UTF-8 text, lacks the columns or any rows, or has
        a row with more or fewer fields than the header.
    """
    header: list[str] = []
    empty = True
    with open_input(source) as file:
        path = str(file.name)
        # newline="" as the csv module asks for; utf-8-sig skips the mark that spreadsheets write.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        while True:
            try:
                fields = [field.strip() for field in next(rows)]
            except StopIteration:
                break
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
            except csv.Error as error:
                raise UserError(
                    f"{path}: line {rows.line_num}: is no valid row ({error}); mend the line"
                ) from error
            if fields in ([], [""]):
                continue
            if not header:
                _check_header(path, rows.line_num, fields, required, delimiter)
                header = fields
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{path}: line {rows.line_num}: has {len(fields)} fields and the header {len(header)};"
                    " give each row one field per column"
                )
            empty = False
            yield Row(rows.line_num, dict(zip(header, fields, strict=True)))
        if not header:
            raise UserError(f"{path}: is empty; its first line must be {_shown(required, delimiter)}")
        if empty:
            raise UserError(f"{path}: has a header and no rows; give at least one row")


def row_name(row: Row, number: int) -> str:
    """What the column `name` or `id` calls a row, or else its number."""
    return next((row.fields[column] for column in ("name", "id") if row.fields.get(column)), str(number))


def check_sequence(path: str | os.PathLike, row: Row, column: str) -> None:
    """Refuses a field that has other letters than the IUPAC nucleotide codes, in either case.

    Raises:
      UserError: names the file, the line and the first such letter.
    """
    sequence = row.fields[column]
    if not sequence:
        raise UserError(f"{path}: line {row.line}: the {column} is empty; give one or remove the line")
    refused = sequence.lstrip(NUCLEOTIDES)
    if refused:
        shown = sequence if len(sequence) <= 20 else sequence[:20] + "…"
        raise UserError(
            f"{path}: line {row.line}: the {column} {shown!r} is no DNA sequence"
            f" ({refused[0]!r} is no IUPAC nucleotide code); use the letters A, C, G, T and N"
        )


def _check_header(
    path: str | os.PathLike,
    line: int,
    header: list[str],
    required: Sequence[tuple[str, ...]],
    delimiter: str,
) -> None:
    if not any(set(columns) <= set(header) for columns in required):
        shown = ", ".join(repr(name if len(name) <= 20 else name[:20] + "…") for name in header[:8])
        raise UserError(
            f"{path}: line {line}: the header has the columns {shown};"
            f" it must have {_shown(required, delimiter)}"
        )
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: line {line}: two columns are named {repeated[0]!r}; give each its own name")


def _shown(required: Sequence[tuple[str, ...]], delimiter: str) -> str:
    return " or ".join(repr(delimiter.join(columns)) for columns in required)
