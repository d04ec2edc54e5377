"""Sequences to embed or predict: a FASTA file or a table in, names and sequences out, one by one."""

import os
from collections.abc import Iterator

from dnabert2_jax.data.tables import check_sequence, open_bytes, read_table
from dnabert2_jax.genome.fasta import read_records

_NAME_COLUMNS = ("name", "id")
_LONGEST_FIRST_LINE = 1 << 16


def read_sequences(path: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """Reads sequences, in the order of the file, holding one at a time.

    What the file is, is told by what it holds: FASTA begins with ">"; else it is a table with a column
    `sequence`, separated by tabs if its header has one and by commas otherwise. Plain or gzip.

    Args:
      path: the file.

    Yields:
      Name and sequence as written. The name is the FASTA record's, or the column `name` or `id`, or else the
      number of the row counted from 1.

    Raises:
      UserError: the file cannot be read, is neither, is damaged, or has a row without a sequence.
    """
    first_line = _first_line(path)
    if first_line.startswith(b">"):
        for record in read_records(path):
            yield record.name, record.sequence
        return
    delimiter = "\t" if b"\t" in first_line else ","
    for number, row in enumerate(read_table(path, required=(("sequence",),), delimiter=delimiter), start=1):
        check_sequence(path, row, "sequence")
        named = next((row.fields[column] for column in _NAME_COLUMNS if row.fields.get(column)), str(number))
        yield named, row.fields["sequence"]


def _first_line(path: str | os.PathLike) -> bytes:
    with open_bytes(path) as file:
        while line := file.readline(_LONGEST_FIRST_LINE):
            if text := line.removeprefix(b"\xef\xbb\xbf").strip(b" \r\n"):
                return text
    return b""
