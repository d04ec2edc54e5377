"""Reading holds as much memory for 50 million bases as for 5 million."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from isal import igzip

MEASURE = """
import resource, sys
from dnabert2_jax.genome.fasta import acgt_stretches, read_chunks, scan
contigs = scan(sys.argv[1])
stretches = acgt_stretches(read_chunks(sys.argv[1]), length=10_000, minimum=50)
bases = sum(len(stretch.bases) for stretch in stretches)
assert bases == sum(contig.length for contig in contigs), bases
print(bases, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_genome(path: Path, bases: int, line: int, *, compress: bool) -> None:
    """One contig of `bases` bases; gzip in members, as a file that was put together from parts."""
    text = np.random.default_rng(0).choice(np.frombuffer(b"ACGTacgt", np.uint8), 1_000_000).tobytes()
    bounds = [*range(0, len(text), line), len(text)]
    block = b"\n".join(text[start:end] for start, end in pairwise(bounds))
    pieces = [b">contig\n", block]
    first, block = (igzip.compress(piece, 1) for piece in pieces) if compress else pieces
    with open(path, "wb") as file:
        file.write(first)
        for _ in range(bases // len(text)):
            file.write(block)


@pytest.mark.parametrize("line", [80, 1_000_000], ids=["wrapped", "one line"])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_memory_does_not_grow_with_the_genome(tmp_path, start_python, line, compress):
    resident = []
    for bases in (5_000_000, 50_000_000):
        write_genome(tmp_path / "genome", bases, line, compress=compress)
        output, errors = start_python(MEASURE, tmp_path / "genome").communicate(timeout=120)
        assert errors == ""
        read, kilobytes = map(int, output.split())
        assert read == bases
        resident.append(kilobytes)
    assert resident[1] < 1.1 * resident[0]
