import numpy as np
import pytest

from dnabert2_jax.data.statistics import corpus_statistics, unigram_entropy


def test_statistics_add_up(corpus, genomes):
    statistics = corpus_statistics(corpus.folder)
    assert statistics["bases"] == sum(len(x) for contigs in genomes.values() for x in contigs.values())
    assert statistics["train_tokens"] == corpus.unigram_counts.sum() == corpus.indices["train"].tokens.sum()
    assert [entry["species"] for entry in statistics["by_species"]] == list(genomes)
    tokens = statistics["train_tokens"] + statistics["validation_tokens"]
    bases = statistics["train_bases"] + statistics["validation_bases"]
    assert statistics["bases_per_token"] == pytest.approx(2 * bases / tokens)
    shares = corpus.unigram_counts[corpus.unigram_counts > 0] / corpus.unigram_counts.sum()
    assert statistics["unigram_entropy"] == pytest.approx(sum(-p * np.log(p) for p in shares))


def test_the_entropy_of_equal_counts_is_the_logarithm_of_their_number():
    assert unigram_entropy(np.array([0, 7, 7, 0, 7, 7])) == pytest.approx(np.log(4))
