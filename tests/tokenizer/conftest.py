"""Tokenizers to test with: a small one learnt on the spot, and the released one where it is at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.training import train_bpe


@pytest.fixture(scope="session")
def random_dna() -> Callable[[int, int], str]:
    """random_dna(length, seed): letters of unequal shares, with runs and short repeats among them."""

    def make(length: int, seed: int) -> str:
        rng = np.random.default_rng(seed)
        text = ""
        while len(text) < length:
            text += "".join(rng.choice(list("ACGT"), rng.integers(1, 40), p=[0.35, 0.15, 0.2, 0.3]))
            text += "".join(rng.choice(list("ACGT"), rng.integers(1, 5))) * int(rng.integers(1, 12))
        return text[:length]

    return make


@pytest.fixture(scope="session")
def small(random_dna: Callable[[int, int], str]) -> Tokenizer:
    return train_bpe([random_dna(20_000, 1)], 300)


@pytest.fixture(scope="session")
def golden(shared: Path) -> Tokenizer:
    return Tokenizer.load(shared / "golden" / "tokenizer.json", case="released")


@pytest.fixture(scope="session")
def small_in_library(small: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    """`small`, saved and read by the `tokenizers` library."""
    folder = tmp_path_factory.mktemp("small")
    small.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def golden_in_library(shared: Path) -> tokenizers.Tokenizer:
    """The released file itself, read by the `tokenizers` library."""
    return tokenizers.Tokenizer.from_file(str(shared / "golden" / "tokenizer.json"))
