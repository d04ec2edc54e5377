"""Damaged BED files: whatever happened to the bytes, it is read or refused, quickly and in one sentence."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from byte_mutations import mutate, read_mutants

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.bed import read_bed, read_bed_lines

_TEXTS = [
    b"chr1\t0\t10\n",
    b"track name=x\nbrowser position chr1:1-9\n# note\n\nchr1\t5\t9\tpeak\t960\t-\nchr2\t1\t5\t.\t0\t.\n",
    b"\xef\xbb\xbfI 3 9 a 0 +\r\nII 0 0\r\n",
    b"chr1\t10\t20\tname with blanks\t0\t+\t10\t20\t255,0,0\t2\t3,4\t0,6\n",
    b"contig\tstart\tend\nchr1\t1\t2\n",
    b"chr1,1,2\n",
    b">a\nACGT\n",
    b"chr1\t999999999999999999\t999999999999999999\n",
]
_TOKENS = [
    b"\t", b"\n", b"\r", b"\r\n", b"\t\t", b"#", b"track", b"browser ", b"-1", b"+", b"-", b".", b"0",
    b"9" * 19, b"1e5", b"\0", b"\xff", b" ", b"\x1f\x8b", b"\xef\xbb\xbf", b"\xc2\xb2", b"\x0b",
    b"chr1\t1\t2\t", b"x" * 500,
]  # fmt: skip


def outcome(path: Path) -> str:
    """Reads a file in both ways and says what came of the lines."""
    try:
        read_bed(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    try:
        lines = list(read_bed_lines(path))
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < len(str(path)) + 400
        return "refused"
    assert lines
    assert all(0 <= line.start <= line.end and line.strand in "+-." for line in lines)
    assert [line.number for line in lines] == sorted({line.number for line in lines})
    return "read"


def test_both_readers_agree_on_whole_files(tmp_path):
    (tmp_path / "a.bed").write_bytes(_TEXTS[1])
    regions = read_bed(tmp_path / "a.bed")
    lines = list(read_bed_lines(tmp_path / "a.bed"))
    assert [(line.number, line.contig, line.start, line.end) for line in lines] == [
        (5, "chr1", 5, 9),
        (6, "chr2", 1, 5),
    ]
    assert [(line.name, line.strand) for line in lines] == [("peak", "-"), ("", ".")]
    assert {contig: bounds.tolist() for contig, bounds in regions.bounds.items()} == {
        "chr1": [5, 9],
        "chr2": [1, 5],
    }


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(120_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_mutated_files_are_read_or_refused(tmp_path, count):
    assert read_mutants(tmp_path / "mutant", mutants(count), outcome) == count


def mutants(count: int) -> Iterator[bytes]:
    """Damaged texts, one in five of them packed, before or after they were damaged."""
    rng = np.random.default_rng(count)
    for _ in range(count):
        text, other = (_TEXTS[rng.integers(len(_TEXTS))] for _ in range(2))
        match rng.integers(10):
            case 0:
                yield mutate(gzip.compress(text, 1, mtime=0), other, _TOKENS, rng)
            case 1:
                yield gzip.compress(mutate(text, other, _TOKENS, rng), 1, mtime=0)
            case _:
                yield mutate(text, other, _TOKENS, rng)
