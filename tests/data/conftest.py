"""Two small genomes with everything that matters (gaps, lower case, short contigs) and a corpus of them."""

from pathlib import Path

import numpy as np
import pytest

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.tokenizer.training import train_bpe


@pytest.fixture(scope="session")
def genomes() -> dict[str, dict[str, str]]:
    """For each species and contig its letters, lower case and N included."""
    rng = np.random.default_rng(5)

    def contig(length: int) -> str:
        return "".join(rng.choice(list("ACGT"), length, p=[0.35, 0.15, 0.2, 0.3]))

    first, second = contig(300_000), contig(90_000)
    first = first[:1000] + "N" * 5000 + first[6000:]  # a gap early on
    first = first[:50_000] + first[50_000:70_000].lower() + first[70_000:]  # a repeat
    first = first[:150_000] + "NACGTACGTN" + first[150_010:]  # a run that is too short
    second = second[:40_000] + "R" + second[40_001:]
    return {
        "alpha": {"one": first, "two": second, "short": contig(900)},
        "beta": {f"scaffold{i}": contig(2_000 + 100 * i) for i in range(12)},
    }


@pytest.fixture(scope="session")
def fastas(genomes, tmp_path_factory) -> list[tuple[str, Path]]:
    """Species and FASTA file of each genome."""
    folder = tmp_path_factory.mktemp("genomes")
    for species, contigs in genomes.items():
        text = "".join(f">{name} of {species}\n{letters}\n" for name, letters in contigs.items())
        (folder / f"{species}.fa").write_text(text)
    return [(species, folder / f"{species}.fa") for species in genomes]


@pytest.fixture(scope="session")
def tokenizer_folder(genomes, tmp_path_factory) -> Path:
    text = genomes["alpha"]["one"][200_000:230_000].upper()
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe([text], 128).save(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(fastas, tokenizer_folder, tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    build_corpus(fastas, tokenizer_folder, folder, region_bases=4_000, unit_bases=100_000)
    return Corpus.open(folder)
