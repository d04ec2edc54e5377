"""Windows drawn from a genome file, apart by region: FASTA in, sequences for train, dev and test out."""

import os

import numpy as np

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.fasta import acgt_stretches, read_chunks, scan
from dnabert2_jax.genome.splits import SPLITS, split_of


def sample_windows(
    path: str | os.PathLike, counts: dict[str, int], *, length: int, seed: int
) -> dict[str, list[str]]:
    """Draws windows of A, C, G and T that do not overlap, each split from its own region of every contig.

    The regions are those of `SPLITS`, so that no base is in two splits. Memory grows with `counts`, not with
    the genome.

    Args:
      path: a FASTA file.
      counts: how many windows of each of "train", "dev" and "test".
      length: bases of a window.
      seed: of the draw.

    Raises:
      UserError: the genome is too small for so many.
    """
    contig_lengths = {contig.name: contig.length for contig in scan(path)}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen = dict.fromkeys(SPLITS, 0)
    for window in acgt_stretches(read_chunks(path), length=length, minimum=length):
        split = split_of(window.start, window.start + length, contig_lengths[window.contig])
        if split is None:
            continue
        # Reservoir sampling: every window seen so far is kept with the same probability.
        seen[split] += 1
        place = len(drawn[split]) if seen[split] <= counts[split] else int(rng.integers(seen[split]))
        if place < counts[split]:
            drawn[split][place : place + 1] = [window.bases.tobytes().decode("ascii")]
    for split, windows in drawn.items():
        if len(windows) < counts[split]:
            raise UserError(
                f"{path}: has room for {len(windows)} windows of {length} bases in the {split} region, and "
                f"{counts[split]} are needed; give a larger genome"
            )
    return drawn
