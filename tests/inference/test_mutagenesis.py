"""Mutagenesis and base probabilities against their definition, one mutant and one mask at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.errors import UserError
from dnabert2_jax.genome.alleles import AlleleWindows
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.base_probabilities import base_probabilities
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.mutagenesis import mutagenesis, mutate
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.inference.variants import MaskedScorer
from dnabert2_jax.inference.views import cut_views, subject
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.problem import Problem
from dnabert2_jax.tokenizer.kmers import KmerTokenizer
from dnabert2_jax.tokenizer.tokenizer import Tokenizer
from dnabert2_jax.tokenizer.vocabulary import MASK_ID

SEQUENCE = "GATTACAGGCATNGATCCGTTAAGC"


@pytest.fixture(scope="module")
def model(tiny_model):
    return from_pretrained(tiny_model)


def fine_tuned(architecture, folder, classes, problem: Problem = "single_label_classification"):
    description = ModelDescription(architecture, classes, problem)
    _, parameters = split(description.build(nnx.Rngs(5)))
    return Pretrained(description, parameters, Tokenizer.load(folder))


@pytest.fixture(scope="module")
def classifier(tiny_architecture, tiny_tokenizer):
    return fine_tuned(tiny_architecture, tiny_tokenizer, ("none", "donor"))


def float64(model):
    with jax.enable_x64(True):
        parameters = {name: jnp.asarray(array, jnp.float64) for name, array in model.parameters.items()}
    return Pretrained(model.description, parameters, model.tokenizer, "float64")


def trimmed(sequence, phase):
    return sequence[phase : len(sequence) - phase]


def expected_effects(model, sequence, phases):
    """Mutant minus reference, of the second class, each mutant on each strand alone; and of its log odds."""

    def says(text):
        p = [float(np.float64(model.predict([strand])[0, 1])) for strand in (text, reverse_complement(text))]
        return np.mean(p), np.mean([np.log(value) - np.log1p(-value) for value in p])

    found = np.full((2, len(sequence), 4, phases), np.nan)
    for phase in range(phases):
        text = trimmed(sequence, phase)
        reference = np.array(says(text))
        for place, letter in enumerate(text):
            if letter == "N":
                continue
            for number, base in enumerate("ACGT"):
                mutant = text[:place] + base + text[place + 1 :]
                found[:, phase + place, number, phase] = np.array(says(mutant)) - reference
    return found


def test_effects_are_those_of_each_mutant_alone(classifier):
    sequence = "gattNCAT"
    found = mutate(classifier, subject(sequence), phases=2)
    reference = float64(classifier)
    expected = expected_effects(reference, sequence.upper(), 2)
    n = sequence.index("N")
    assert np.isnan(found.effects[n]).all()
    mean = np.nanmean(np.delete(expected, n, axis=1), axis=-1)
    assert found.log_odds is not None
    np.testing.assert_allclose(np.delete(found.effects, n, axis=0), mean[0], atol=2e-6)
    np.testing.assert_allclose(np.delete(found.log_odds, n, axis=0), mean[1], atol=2e-5)
    assert np.abs(mean[0]).max() > 1e-3
    assert found.reference.shape == (2,)


def test_the_base_that_is_there_has_no_effect(classifier):
    found = mutagenesis(classifier, SEQUENCE)
    for letter, row in zip(SEQUENCE, found, strict=True):
        assert (row == 0).tolist() == [base == letter for base in "ACGT"]


@pytest.mark.parametrize("scale", ["probability", "log_odds"])
def test_the_reverse_complement_gives_the_flipped_array(classifier, scale):
    one = mutagenesis(classifier, SEQUENCE, scale=scale)
    other = mutagenesis(classifier, reverse_complement(SEQUENCE), scale=scale)
    np.testing.assert_allclose(one, other[::-1, ::-1], atol=1e-6)
    alone = mutagenesis(classifier, SEQUENCE, scale=scale, reverse_complement=False)
    assert np.nanmax(np.abs(alone - one)) > 1e-4


@pytest.mark.parametrize("window", [None, 16])
def test_probabilities_add_up_and_turn_with_the_strand(model, window):
    found = base_probabilities(model, SEQUENCE, window=window)
    is_base = np.array(list(SEQUENCE)) != "N"
    np.testing.assert_allclose(found[is_base].sum(axis=1), 1, atol=1e-6)
    assert np.isnan(found[~is_base]).all()
    other = base_probabilities(model, reverse_complement(SEQUENCE), window=window)
    np.testing.assert_allclose(found, other[::-1, ::-1], atol=1e-6)
    with_window = cut_views(subject(SEQUENCE), 16, 1)
    assert len(with_window) > 1


@pytest.mark.slow
def test_the_batch_does_not_matter(model, classifier):
    for explain, explained in ((base_probabilities, model), (mutagenesis, model), (mutagenesis, classifier)):
        one, many = (explain(explained, SEQUENCE, batch_size=size) for size in (1, 64))
        np.testing.assert_allclose(one, many, atol=1e-5)


def test_probabilities_of_bases_are_the_masked_tokens_that_agree(model):
    sequence = SEQUENCE.replace("N", "A")
    wide = float64(model)
    found = base_probabilities(wide, sequence, phases=1, reverse_complement=False)
    tokens, ids = model.tokenizer.tokens, model.tokenizer.encode(sequence)
    place, start = 0, 0
    for site, row in enumerate(found):
        while place == 0 or start + len(tokens[ids[place]]) <= site:
            start += len(tokens[ids[place]]) if place else 0
            place += 1
        masked = ids.copy()
        masked[place] = MASK_ID
        logits = np.asarray(wide.mlm_logits(masked[None])[0, place])
        sums = np.zeros(4)
        for token, logit in zip(tokens[5:], logits[5:], strict=True):
            covered = sequence[start : start + len(token)]
            offset = site - start
            if len(token) > offset and len(covered) == len(token):
                changed = covered[:offset] + token[offset] + covered[offset + 1 :]
                if changed == token:
                    sums["ACGT".index(token[offset])] += np.exp(logit)
        np.testing.assert_allclose(row, sums / sums.sum(), atol=1e-6)


def test_mutants_of_a_masked_model_have_the_score_of_variants(model):
    log_unigram = np.log(np.random.default_rng(0).dirichlet(np.ones(model.tokenizer.vocab_size)))
    sequence = SEQUENCE.replace("N", "A")
    found = mutagenesis(model, sequence, phases=1, log_unigram=log_unigram)
    scorer = MaskedScorer(model, log_unigram)
    for site in (0, 7, len(sequence) - 1):
        for number, base in enumerate("ACGT"):
            mutant = sequence[:site] + base + sequence[site + 1 :]
            (score,) = scorer.score([AlleleWindows(sequence, mutant, site)], [False])
            assert found[site, number] == pytest.approx(score.score, abs=1e-5)


def test_flanks_are_context_and_are_not_explained(classifier, model):
    left, bases, right = SEQUENCE[:8], SEQUENCE[8:17], SEQUENCE[17:]
    for explain, explained in ((base_probabilities, model), (mutagenesis, classifier)):
        whole = explain(explained, SEQUENCE)
        part = explain(explained, bases, left=left, right=right)
        np.testing.assert_allclose(part, whole[8:17], atol=1e-5)


@pytest.mark.slow
def test_a_model_of_numbers_and_one_of_several_labels(tiny_architecture, tiny_tokenizer):
    numbers = fine_tuned(tiny_architecture, tiny_tokenizer, ("activity",), "regression")
    found = mutate(numbers, subject("GATTACA"), phases=1, reverse_complement=False)
    assert found.log_odds is None
    one, other = numbers.predict(["GATTACA", "GATTCCA"])[:, 0]
    assert found.effects[4, 1] == pytest.approx(other - one, abs=1e-6)
    with pytest.raises(UserError, match="no probabilities"):
        mutagenesis(numbers, "GATTACA", scale="log_odds")
    labels = fine_tuned(tiny_architecture, tiny_tokenizer, ("a", "b", "c"), "multi_label_classification")
    effects = mutagenesis(labels, "GATTACA", class_name="b", phases=1, reverse_complement=False)
    one, other = labels.predict(["GATTACA", "GATTCCA"])[:, 1]
    assert effects[4, 1] == pytest.approx(other - one, abs=1e-6)


def test_what_a_model_cannot_give_is_refused(model, classifier, tiny_architecture, tiny_tokenizer):
    three = fine_tuned(tiny_architecture, tiny_tokenizer, ("a", "b", "c"))
    kmers = Pretrained(model.description, model.parameters, KmerTokenizer(3, overlapping=True))
    for complaint, explain in {
        "no masked-language-model head": lambda: base_probabilities(classifier, "ACGT"),
        "k-mers of this model overlap": lambda: base_probabilities(kmers, "ACGT"),
        "no class 'acceptor'; it has none, donor": lambda: mutagenesis(
            classifier, "ACGT", class_name="acceptor"
        ),
        "3 classes; name one": lambda: mutagenesis(three, "ACGT"),
        "has no classes": lambda: mutagenesis(model, "ACGT", class_name="donor"),
        "is empty": lambda: base_probabilities(model, " \n"),
        "--window": lambda: base_probabilities(model, "ACGT", window=4),
        "--phases": lambda: base_probabilities(model, "ACGT", phases=0),
        "20,000 bases": lambda: mutagenesis(classifier, "ACGT" * 5_000),
    }.items():
        with pytest.raises(UserError, match=complaint):
            explain()


@pytest.mark.parametrize("sequence", ["N", "NNNNNNNN", "A", "RYSWK"])
def test_sequences_with_hardly_a_base(model, classifier, sequence):
    for explain, explained in ((base_probabilities, model), (mutagenesis, model), (mutagenesis, classifier)):
        found = explain(explained, sequence)
        assert found.shape == (len(sequence), 4)
        assert np.isnan(found).any() == (sequence != "A")


def test_a_letter_of_no_alphabet_has_no_numbers(model):
    found = base_probabilities(model, "GATTÄCAGGC", phases=1)
    assert np.isnan(found).all(axis=1).tolist() == [letter == "Ä" for letter in "GATTÄCAGGC"]
