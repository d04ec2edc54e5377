"""Sequences to embed or predict: a FASTA file or a table in, names and sequences out, one by one."""

import os
from collections.abc import Iterator

from dnabert2_jax.data.tables import check_sequence, read_table
from dnabert2_jax.genome.fasta import read_records
from dnabert2_jax.genome.inputs import open_input, warn_of_rna

_NAME_COLUMNS = ("name", "id")


def read_sequences(path: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """Reads sequences, in the order of the file, holding one at a time.

    What the file is, is told by what it holds: FASTA begins with ">"; else it is a table with a column
    `sequence`, separated by tabs if its header has one and by commas otherwise. Plain or gzip.

    Args:
      path: the file, or "-" for standard input.

    Yields:
      Name and sequence, in the case of the file. The name is the FASTA record's, or the column `name` or
      `id`, or else the number of the row counted from 1.

    Warns:
      InputWarning: the file has RNA; U is read as T.

    Raises:
      UserError: the file cannot be read, is neither, is damaged, or has a row without a sequence.
    """
    with open_input(path) as file:
        beginning = file.peek().removeprefix(b"\xef\xbb\xbf").lstrip(b" \r\n")
        if beginning.startswith(b">"):
            for record in read_records(file):
                yield record.name, record.sequence
            return
        delimiter = "\t" if b"\t" in beginning.partition(b"\n")[0] else ","
        rows = read_table(file, required=(("sequence",),), delimiter=delimiter)
        is_rna = False
        for number, row in enumerate(rows, start=1):
            check_sequence(file.name, row, "sequence")
            named = next(
                (row.fields[column] for column in _NAME_COLUMNS if row.fields.get(column)), str(number)
            )
            sequence = row.fields["sequence"]
            if not is_rna and "U" in sequence.upper():
                is_rna = True
                warn_of_rna(str(file.name), f"line {row.line}")
            yield named, sequence.replace("U", "T").replace("u", "t")
