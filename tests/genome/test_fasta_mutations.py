"""Damaged FASTA files: whatever happened to the bytes, it is read or refused, quickly and in one sentence."""

import gzip
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from byte_mutations import mutate, read_mutants

from dnabert2_jax.errors import InputWarning, UserError
from dnabert2_jax.genome.fasta import read_chunks, read_records

_TEXTS = [
    b">a\nACGT\n",
    b">chr1 first contig\nACGTNNNNacgtn\nACGTACGTACGTA\nACG\n>chr2\nGGCC\nTT\n",
    b">chr1\r\nACGTACGT\r\nACGT\r\n>chr2 x\r\n\r\nGG CC\r\n",
    b">codes\nACGTRYSWKMBDHVN\nacgtryswkmbdhvn\n>empty\n>rna\nACGUacgu\n",
    b"\xef\xbb\xbf\n>one line\n" + b"ACGTTGCA" * 40,
    b">sp|P1 protein\nMKVLAT*\n",
    b">gap\nAC--GT..AC\n",
    b"\n\n>\xc3\xa9 unicode\nACGT\n\n\n>last",
    b"@read\nACGT\n+\nIIII\n",
    b"name,sequence\na,ACGT\n",
]
_TOKENS = [
    b">", b"\n", b"\r", b"\r\n", b">a\n", b">chr1\n", b"\n>", b"N", b"U", b"X", b"-", b"*", b"\0", b"\xff",
    b" ", b"\t", b"\x1f\x8b", b"\xef\xbb\xbf", b">" * 50, b"A" * 500, b"BC\x02\x00",
]  # fmt: skip


def seeds(bgzip: Callable[..., list[bytes]]) -> list[bytes]:
    """The texts as they are, and packed in three ways."""
    packed = [gzip.compress(text, 6, mtime=0) for text in _TEXTS]
    halves = [gzip.compress(text[:9], 1, mtime=0) + gzip.compress(text[9:], 1, mtime=0) for text in _TEXTS]
    return [*_TEXTS, *packed, *halves, *(b"".join(bgzip(text, 30)) for text in _TEXTS)]


def outcome(path: Path) -> str:
    """Reads a file in both ways, which must agree, and says what came of it."""
    try:
        records = [(record.name, record.sequence.upper().encode()) for record in read_records(path)]
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < len(str(path)) + 400
        with pytest.raises(UserError) as again:
            list(read_chunks(path, 7))
        assert str(again.value) == message
        return "refused"
    contigs: dict[str, bytes] = {}
    for chunk in read_chunks(path, 7):
        assert len(contigs.get(chunk.contig, b"")) == chunk.start
        contigs[chunk.contig] = contigs.get(chunk.contig, b"") + chunk.bases.tobytes()
    assert list(contigs.items()) == records
    return "read"


def mutants(sources: list[bytes], count: int) -> Iterator[bytes]:
    """Damaged sources. Half of the packed ones are mutated before they are packed."""
    rng = np.random.default_rng(count)
    for _ in range(count):
        source, other = (sources[rng.integers(len(sources))] for _ in range(2))
        if source.startswith(b"\x1f\x8b") and rng.random() < 0.5:
            text = _TEXTS[rng.integers(len(_TEXTS))]
            damaged = mutate(text, _TEXTS[rng.integers(len(_TEXTS))], _TOKENS, rng)
            yield gzip.compress(damaged, 1, mtime=0)
        else:
            yield mutate(source, other, _TOKENS, rng)


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(120_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_mutated_files_are_read_or_refused(tmp_path, bgzip, count):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        assert read_mutants(tmp_path / "mutant", mutants(seeds(bgzip), count), outcome) == count
