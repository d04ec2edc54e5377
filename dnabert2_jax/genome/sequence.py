"""Nucleotide letters: which are bases, how they pair, and the reverse complement.

Sequences come in and go out as `str` or as NumPy arrays of ASCII bytes.
"""

from typing import overload

import numpy as np

IUPAC = "ACGTURYSWKMBDHVN"
"""The nucleotide codes of IUPAC-IUB 1984, and U for RNA."""

NUCLEOTIDES = IUPAC + IUPAC.lower()
"""The letters that a sequence may have."""

_PAIRS = str.maketrans("ACGTURYSWKMBDHVNacgturyswkmbdhvn", "TGCAAYRSWMKVHDBNtgcaayrswmkvhdbn")


def _byte_table(values: list, dtype: type) -> np.ndarray:
    table = np.array(values, dtype)
    table.flags.writeable = False
    return table


ACGT = _byte_table([chr(byte) in "ACGTacgt" for byte in range(256)], np.bool_)
"""bool [256], indexed by an ASCII byte: whether it is one of the four bases, in either case."""

COMPLEMENT = _byte_table([_PAIRS.get(byte, byte) for byte in range(256)], np.uint8)
"""uint8 [256], indexed by an ASCII byte: the base it pairs with, in the same case."""


@overload
def reverse_complement(bases: str) -> str: ...
@overload
def reverse_complement(bases: np.ndarray) -> np.ndarray: ...
def reverse_complement(bases: str | np.ndarray) -> str | np.ndarray:
    """The other strand, read in its own direction.

    Case is kept, ambiguity codes pair as sets (R with Y, N with N), U pairs with A, and what is no
    nucleotide code stays as it is.

    Args:
      bases: text, or uint8 [..., L] of ASCII bytes.

    Returns:
      The same type and shape; an array is a new one.

    Examples:
      >>> reverse_complement("GATTACA")
      'TGTAATC'
    """
    if isinstance(bases, str):
        return bases.translate(_PAIRS)[::-1]
    return COMPLEMENT[bases[..., ::-1]]
