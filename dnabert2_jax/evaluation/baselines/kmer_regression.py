"""The simplest baseline: logistic regression on how often each short word occurs in a sequence.

It takes seconds, and on most sets of GUE it beats a model without pre-training; no table is printed without
it.
"""

import time
from collections.abc import Sequence

import numpy as np

from dnabert2_jax.data.labelled import LabelledData, LabelledSplit
from dnabert2_jax.evaluation.baselines.logistic import predict_classes
from dnabert2_jax.evaluation.predictions import Predictions, check_classes
from dnabert2_jax.genome.packed import OTHER, pack

_LETTERS_AT_ONCE = 1 << 22


def kmer_regression(data: LabelledData, *, largest_k: int = 5) -> Predictions:
    """Learns from the counts of all words of 1 to k letters.

    The features of a sequence are log(1 + count) of all words, scaled to length 1, so that neither its
    length nor a word that is repeated over and over outweighs the rest. A word and its reverse complement
    are two features. Of pairs the features of both sequences stand side by side.

    Args:
      data: classes that exclude each other.
      largest_k: k.

    Raises:
      UserError: the labels are no classes, or there is one class only.
    """
    check_classes(data)
    start = time.perf_counter()
    train, dev, test = (_features(split, largest_k) for split in data.splits)
    return predict_classes((train, dev, test), data, start, {"largest_k": largest_k})


def count_kmers(sequences: Sequence[str], largest_k: int) -> np.ndarray:
    """How often each word of 1 to k letters A C G T occurs in each sequence, overlaps counted.

    Args:
      sequences: n of them, in either case; words with another letter in them do not count.
      largest_k: k.

    Returns:
      float64 [n, 4 + 16 + … + 4^k], words of one letter first, each length in alphabetical order.
    """
    sizes = [4**k for k in range(1, largest_k + 1)]
    counts = np.empty((len(sequences), sum(sizes)))
    for first, block in pack(sequences).blocks(_LETTERS_AT_ONCE) if sequences else ():
        rows = np.repeat(np.arange(len(block)), block.lengths + 1)
        words, known = np.zeros(len(rows), np.int64), np.ones(len(rows), np.bool_)
        end = 0
        for size in sizes:
            # One letter more to the words that begin at each place.
            letters = block.codes[len(block.codes) - len(words) :]
            words, known = 4 * words + letters, known & (letters < OTHER)
            places = rows[: len(words)][known] * size + words[known]
            found = np.bincount(places, minlength=len(block) * size)
            counts[first : first + len(block), end : end + size] = found.reshape(len(block), size)
            words, known, end = words[:-1], known[:-1], end + size
    return counts


def _features(split: LabelledSplit, largest_k: int) -> np.ndarray:
    columns = [split.sequences] if split.seconds is None else [split.sequences, split.seconds]
    parts = []
    for sequences in columns:
        part = np.log1p(count_kmers(sequences, largest_k))
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        part /= np.where(lengths > 0, lengths, 1)  # a sequence may be all N
        parts.append(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
