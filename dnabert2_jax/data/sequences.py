"""Sequences to embed or predict: a FASTA file or a table in, names and sequences out, one by one."""

from collections.abc import Iterator
from typing import NamedTuple

from dnabert2_jax.data.tables import Row, check_sequence, read_table, row_name
from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import read_records
from dnabert2_jax.genome.inputs import Source, open_input, quoted, warn_of_rna


class Place(NamedTuple):
    """Where a sequence lies: 0-based, the end exclusive; strand "-" where it is read off the other strand."""

    contig: str
    start: int
    end: int
    strand: str


class Entry(NamedTuple):
    """What an input says of a sequence, or of a pair of sequences.

    Attributes:
      name: what it is called.
      example: the sequence, or the two of a pair.
      label: the column `label` of a table; None where there is none.
      place: in a genome, where it was cut out of one.
    """

    name: str
    example: str | tuple[str, str]
    label: str | None = None
    place: Place | None = None


def read_sequences(source: Source) -> Iterator[Entry]:
    """Reads sequences, in the order of the file, holding one at a time.

    What the file is, is told by what it holds: FASTA begins with ">"; else it is a table with a column
    `sequence`, separated by tabs if its header has one and by commas otherwise. Plain or gzip.

    Args:
      source: a path, "-" for standard input, or an open reader.

    Yields:
      Entries of single sequences, in the case of the file. The name is the FASTA record's, or the column
      `name` or `id`, or else the number of the row counted from 1.

    Warns:
      InputWarning: the file has RNA; U is read as T.

    Raises:
      UserError: the file cannot be read, is neither, is damaged, or has a row without a sequence.
    """
    with open_input(source) as file:
        if not file.peek():
            raise UserError(f"{file.name}: is empty; give FASTA, or a table with a column 'sequence'")
        beginning = file.peek().removeprefix(b"\xef\xbb\xbf").lstrip(b" \r\n")
        if beginning.startswith(b">"):
            for record in read_records(file):
                if not record.sequence:
                    raise UserError(
                        f"{file.name}: record {quoted(record.name)}: the sequence is empty; give one or"
                        " remove the record"
                    )
                yield Entry(record.name, record.sequence)
            return
        delimiter = "\t" if b"\t" in beginning.partition(b"\n")[0] else ","
        rows = read_table(file, required=(("sequence",),), delimiter=delimiter)
        reader = SequenceColumns(str(file.name))
        for number, row in enumerate(rows, start=1):
            yield Entry(row_name(row, number), reader.read(row, "sequence"), row.fields.get("label"))


class SequenceColumns:
    """Reads the fields of a table that hold sequences; says once where the first RNA is.

    Args:
      name: what messages call the table.
    """

    def __init__(self, name: str):
        self._name = name
        self._is_rna = False

    def read(self, row: Row, column: str) -> str:
        """The sequence in a column of a row, U read as T.

        Raises:
          UserError: the field is no sequence.
        """
        check_sequence(self._name, row, column)
        sequence = row.fields[column]
        if not self._is_rna and "U" in sequence.upper():
            self._is_rna = True
            warn_of_rna(self._name, f"line {row.line}")
        return sequence.replace("U", "T").replace("u", "t")
