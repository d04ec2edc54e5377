"""Which part of a contig belongs to which split: the first to train, the next to dev, the last to test."""

SPLITS = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0)}
"""The region of each split, in shares of a contig's length."""


def split_of(start: int, end: int, contig_length: int) -> str | None:
    """The split in whose region bases [start, end) lie; None where they straddle two.

    Examples:
      >>> split_of(100, 400, contig_length=1000), split_of(750, 850, contig_length=1000)
      ('train', None)
    """
    for split, (first, last) in SPLITS.items():
        if int(first * contig_length) <= start and end <= int(last * contig_length):
            return split
    return None
