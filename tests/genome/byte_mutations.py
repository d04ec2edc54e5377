"""Damaged files: bytes in, the same bytes with a few changes out; and what comes of reading many of them."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

_SECONDS_PER_FILE = 2.0


def mutate(data: bytes, other: bytes, tokens: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """One to four changes: a byte or bit changed, bytes cut out, doubled, put in or replaced from `other`.

    Args:
      data: what is changed.
      other: what is spliced in.
      tokens: what matters to the format, to be put in.
      rng: draws the changes.
    """
    mutant = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        start, end = sorted(rng.integers(0, len(mutant) + 1, 2).tolist())
        match rng.integers(8):
            case 0 if mutant:
                mutant[rng.integers(len(mutant))] = rng.integers(256)
            case 1 if mutant:
                mutant[rng.integers(len(mutant))] ^= 1 << int(rng.integers(8))
            case 2:
                del mutant[start : start + int(rng.integers(1, 8))]
            case 3:
                del mutant[start:]
            case 4:
                mutant[start:start] = mutant[start:end]
            case 5:
                mutant[start:start] = tokens[rng.integers(len(tokens))]
            case 6:
                first, last = sorted(rng.integers(0, len(other) + 1, 2).tolist())
                mutant[start:end] = other[first:last]
            case 7:
                mutant[start:start] = rng.bytes(int(rng.integers(1, 6)))
    return bytes(mutant)


def read_mutants(path: Path, mutants: Iterable[bytes], outcome: Callable[[Path], str]) -> int:
    """Reads files one after another, each within two seconds, and gives their number.

    Args:
      path: where each lies while it is read.
      mutants: their bytes.
      outcome: reads a file; "read" or "refused", of each of which there must be more than a tenth.
    """
    outcomes = {"read": 0, "refused": 0}
    for index, mutant in enumerate(mutants):
        path.write_bytes(mutant)
        start = time.perf_counter()
        try:
            outcomes[outcome(path)] += 1
        except Exception as error:
            raise AssertionError(f"mutant {index}: {mutant!r}") from error
        assert time.perf_counter() - start < _SECONDS_PER_FILE, mutant
    count = sum(outcomes.values())
    # Mutants that all end in the same way would test little.
    assert min(outcomes.values()) > count / 10
    return count
