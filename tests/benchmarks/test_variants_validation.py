"""The validation of variant scores: sites by brute force over letters, k-mer models and AUROC by the book."""

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dnabert2_jax.genome.packed import encode_letters
from dnabert2_jax.genome.sequence import reverse_complement

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FLANK = 16


def load(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)


substitutions, markov, validation = map(load, ("substitutions", "markov", "variants_validation"))


def dna(rng, length):
    return "".join(rng.choice(list("ACGT"), length))


def changed(text, places, rng):
    letters = list(text)
    for place in places:
        letters[place] = rng.choice([base for base in "ACGT" if base != letters[place]])
    return "".join(letters)


@pytest.fixture
def genomes(tmp_path):
    """Two genomes; in the second one contig is turned round, and a piece of another lies elsewhere too."""
    rng = np.random.default_rng(0)
    one = {"I": dna(rng, 900), "II": dna(rng, 700), "III": dna(rng, 300)}
    one["I"] = one["I"][:400] + one["I"][100:180] + one["I"][480:]  # stands there twice
    one["II"] = one["II"][:300] + "N" + one["II"][301:]
    palindrome = dna(rng, FLANK)
    one["III"] = one["III"][:100] + palindrome + "A" + reverse_complement(palindrome) + one["III"][133:]
    other = {
        "I": changed(one["I"], [50, 250, 260, 600, 700], rng),
        "II": reverse_complement(changed(one["II"], [80, 200, 450], rng)),
        "III": one["II"][600:660] + changed(one["III"], [200], rng).lower(),
    }
    paths = []
    for name, contigs in (("one", one), ("other", other)):
        paths.append(tmp_path / f"{name}.fa")
        paths[-1].write_text("".join(f">{contig}\n{text}\n" for contig, text in contigs.items()))
    return one, other, paths


def flanks_of(contigs):
    """Every pair of flanks on either strand, in letters: where it stands, and the base within."""
    found = {}
    for contig, text in contigs.items():
        for strand, letters in (("+", text.upper()), ("-", reverse_complement(text.upper()))):
            for place in range(FLANK, len(letters) - FLANK):
                around = letters[place - FLANK : place + FLANK + 1]
                if "N" not in around:
                    at = place if strand == "+" else len(text) - 1 - place
                    key = around[:FLANK] + around[FLANK + 1 :]
                    found.setdefault(key, []).append((contig, at, strand, letters[place]))
    return found


def test_sites_are_those_of_letters(genomes):
    one, other, paths = genomes
    mine, theirs = flanks_of(one), flanks_of(other)
    expected = {}
    for key, places in mine.items():
        if len(places) == 1 and len(theirs.get(key, [])) == 1 and places[0][2] == "+":
            contig, at, _, base = places[0]
            elsewhere, _, _, base_there = theirs[key][0]
            if contig == elsewhere and contig != "III":
                expected[contig, at] = (one[contig][at - 1 : at + 2], base_there)
                assert one[contig][at] == base
    first, second = map(substitutions.read_genome, paths)
    sites = substitutions.comparable_sites(first, second, ["I", "II"])
    found = {
        (first.names[contig], int(at)): ("".join("ACGT"[code] for code in context), "ACGT"[base])
        for contig, at, context, base in zip(*sites, strict=True)
    }
    assert found == expected
    differ = {place for place, (context, base) in found.items() if context[1] != base}
    # Two of the changes lie in each other's flanks.
    assert differ == {("I", 50), ("I", 600), ("I", 700), ("II", 80), ("II", 200), ("II", 450)}
    (third,) = substitutions.comparable_sites(first, second, ["III"]).position[[0]]
    assert third >= FLANK


def test_pairs_have_the_same_bases():
    rng = np.random.default_rng(1)
    count = 4_000
    context = rng.integers(0, 4, (count, 3)).astype(np.uint8)
    differs = rng.random(count) < 0.3
    other = np.where(differs, (context[:, 1] + rng.integers(1, 4, count)) % 4, context[:, 1])
    sites = substitutions.Sites(np.zeros(count), np.arange(count), context, other.astype(np.uint8))
    differences, random = substitutions.matched_pairs(sites, seed=3)
    assert differs[differences].all()
    assert not differs[random].any()
    np.testing.assert_array_equal(context[differences], context[random])
    assert len({*differences.tolist(), *random.tolist()}) == 2 * len(differences)
    assert len(differences) > 0.9 * differs.sum()
    np.testing.assert_array_equal(substitutions.matched_pairs(sites, seed=3), (differences, random))
    assert differences.tolist() != substitutions.matched_pairs(sites, seed=4)[0].tolist()
    # Where such sites run out the others are left out.
    few = sites.take(np.r_[np.flatnonzero(differs), np.flatnonzero(~differs)[:50]])
    assert len(substitutions.matched_pairs(few, seed=3)[0]) <= 50


def test_a_markov_chain_by_hand():
    rng = np.random.default_rng(2)
    texts = [dna(rng, 300), dna(rng, 100) + "N" + dna(rng, 50)]
    chain = markov.MarkovChain([encode_letters(text.encode()) for text in texts], 3)
    counts = Counter()
    for text in texts:
        for strand in (text, reverse_complement(text)):
            counts.update(word for at in range(len(strand) - 3) if "N" not in (word := strand[at : at + 4]))

    def p(base, context):
        if context is None:
            return 0.25
        ending = {word: count for word, count in counts.items() if word[:3].endswith(context)}
        of_base = sum(count for word, count in ending.items() if word[3] == base)
        shorter = p(base, context[1:] if context else None)
        return (of_base + 10 * shorter) / (sum(ending.values()) + 10)

    windows = [dna(rng, 9) for _ in range(5)]
    for order in (0, 1, 3):
        expected = [
            sum(np.log(p(window[at], window[at - order : at])) for at in range(order, 9))
            for window in windows
        ]
        found = chain.log_likelihood(np.stack([encode_letters(w.encode()) for w in windows]), order)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_auroc_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    values = rng.integers(0, 12, 200) / 4  # with ties
    is_positive = rng.random(200) < 0.4
    weights = rng.integers(0, 4, (5, 200))
    expected = [roc_auc_score(is_positive, values, sample_weight=row) for row in weights]
    np.testing.assert_allclose(validation.auroc(values, is_positive, weights), expected, rtol=1e-12)
