"""The one way to read a tokenizer of whichever kind from disk: a path in, a SequenceTokenizer out."""

import os
from pathlib import Path

from dnabert2_jax.tokenizer.kmer_files import stored_kmers
from dnabert2_jax.tokenizer.kmers import KmerTokenizer
from dnabert2_jax.tokenizer.sequence_tokenizer import Case, SequenceTokenizer
from dnabert2_jax.tokenizer.tokenizer import Tokenizer


def load_tokenizer(path: str | os.PathLike, case: Case = "upper") -> SequenceTokenizer:
    """Reads a BPE or k-mer tokenizer from a tokenizer folder, a model folder, or a file of one.

    Args:
      path: the folder or file.
      case: "upper" reads a c g t as A C G T; "released" takes them for unknown letters.

    Raises:
      UserError: there is no tokenizer at `path`, it is broken or of another kind, or its files disagree.
    """
    stored = stored_kmers(Path(path))
    if stored is None:
        return Tokenizer.load(path, case)
    return KmerTokenizer(stored.k, stored.overlapping, case)
