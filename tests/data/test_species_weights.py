import msgspec
import numpy as np
import pytest

from dnabert2_jax.data.species_weights import species_shares
from dnabert2_jax.errors import UserError


def with_species(corpus, *rows: tuple[int, float | None]):
    """The corpus' metadata with species of these training bases and weights."""
    like = corpus.metadata.species[0]
    species = [
        msgspec.structs.replace(like, species=f"s{i}", train_bases=bases, weight=weight)
        for i, (bases, weight) in enumerate(rows)
    ]
    return msgspec.structs.replace(corpus.metadata, species=species)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("proportional", [1 / 17, 16 / 17, 0]),
        (0.5, [1 / 5, 4 / 5, 0]),
        ("equal", [1 / 2, 1 / 2, 0]),
        (0, [1 / 2, 1 / 2, 0]),
        ("corpus", [1 / (1 + 16**0.7), 16**0.7 / (1 + 16**0.7), 0]),
    ],
)
def test_shares_follow_the_rule(corpus, weights, expected):
    metadata = with_species(corpus, (1000, None), (16_000, None), (0, None))
    assert species_shares(metadata, weights) == pytest.approx(expected)


def test_weights_of_the_table_come_first(corpus):
    metadata = with_species(corpus, (1000, 3.0), (16_000, 1.0), (0, None))
    assert species_shares(metadata).tolist() == [0.75, 0.25, 0]
    assert species_shares(metadata, "equal").tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("weights", ["square", -0.1, 1.5, float("nan")])
def test_other_rules_are_refused(corpus, weights):
    with pytest.raises(UserError, match="species weights are"):
        species_shares(corpus.metadata, weights)


def test_the_figures_of_the_papers_corpus(shared, corpus):
    """The table in the module's docstring, from the paper's Table 11."""
    table = (shared / "tables" / "table11_pretraining_species.csv").read_text().splitlines()[1:]
    rows = [(line.split(",")[0], line.split(",")[1], float(line.split(",")[3]) * 1e6) for line in table]
    category, name, bases = (np.array(column) for column in zip(*rows, strict=True))
    metadata = with_species(corpus, *((int(size), None) for size in bases))
    read = 500_000 * 4096 * 126 * 4.9  # steps, windows, tokens, bases per token
    found = {}
    for exponent in (1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0):
        shares = species_shares(metadata, exponent)
        passes = read * shares / (2 * bases)
        bacteria = category == "Bacteria"
        vertebrates = (category == "Mammalian") | (category == "Other Vertebrate")
        found[exponent] = (
            100 * shares[vertebrates].sum(),
            100 * shares[bacteria].sum(),
            passes[name == "Human"].item(),
            np.median(passes[bacteria]),
        )
    expected = {
        1: (82, 1.1, 19, 19),
        0.9: (79, 2.0, 18, 36),
        0.8: (76, 3.6, 17, 66),
        0.7: (71, 6.4, 15, 119),
        0.6: (64, 11, 13, 206),
        0.5: (56, 18, 11, 340),
        0.3: (34, 40, 6.4, 752),
        0: (9, 74, 1.5, 1344),
    }
    for exponent, figures in expected.items():
        assert found[exponent] == pytest.approx(figures, rel=0.06), exponent
