"""A model that has learnt one motif of a genome: variants, mutagenesis and logos stand out inside of it."""

import numpy as np
import pytest

from dnabert2_jax.config import load_settings
from dnabert2_jax.data.corpus_build import build_corpus
from dnabert2_jax.genome.alleles import Change, ReferenceBases
from dnabert2_jax.genome.index import IndexedFasta
from dnabert2_jax.inference.base_probabilities import read_bases
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.mutagenesis import mutagenesis
from dnabert2_jax.inference.unigram import genome_unigram
from dnabert2_jax.inference.variant_annotations import Annotator, Wanted
from dnabert2_jax.inference.views import Subject
from dnabert2_jax.reports.logos import effect_heights, information_heights
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.tokenizer.training import train_from_fasta
from dnabert2_jax.training.pretrain import pretrain

_MOTIF = "TGACGTCATTGCGCAATCCGGAAGTGAT"
_APART = 60
_FLANK = 15


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The FASTA of random bases with a motif in each stretch of 60, and where they lie."""
    rng = np.random.default_rng(0)
    bases = rng.choice(list("ACGT"), 90_000)
    places = np.arange(20, len(bases) - _APART, _APART) + rng.integers(0, 10, len(bases) // _APART - 1)
    for place in places:
        bases[place : place + len(_MOTIF)] = list(_MOTIF)
    path = tmp_path_factory.mktemp("planted") / "genome.fa"
    path.write_text(f">planted\n{''.join(bases)}\n")
    return path, places


@pytest.fixture(scope="module")
def trained(planted, tiny_config, tmp_path_factory):
    fasta, _ = planted
    folder = tmp_path_factory.mktemp("trained")
    tokenizer, _ = train_from_fasta([fasta], 32, sample_bases=90_000, seed=0)
    tokenizer.save(folder / "tokenizer")
    build_corpus(
        [("planted", fasta)],
        folder / "tokenizer",
        folder / "corpus",
        validation_share=0.1,
        region_bases=3_000,
    )
    changes = {
        "model.vocab_size": 32,
        "model.num_hidden_layers": 1,
        "model.hidden_size": 64,
        "model.hidden_dropout_prob": 0,
        "model.initializer_range": 0.1,
        "training.steps": 1500,
        "training.batch_size": 16,
        "training.evaluate_every": 1500,
        "training.checkpoint_every": 1500,
        "optimizer.learning_rate": 5e-3,
    }
    words = [f"--{name}={value}" for name, value in changes.items()]
    settings = load_settings(PretrainSettings, str(tiny_config), words)
    return from_pretrained(pretrain(settings, folder / "corpus", folder / "run").model)


@pytest.mark.slow
def test_the_strongest_scores_lie_inside_the_motif(planted, trained):
    path, places = planted
    with IndexedFasta(path) as fasta:
        genome = ReferenceBases(fasta)
        annotator = Annotator(trained, Wanted(window=100), genome_unigram(fasta, trained.tokenizer))
        scores = []
        for place in places[100:104].tolist():
            start, end = place - _FLANK, place + len(_MOTIF) + _FLANK
            bases = genome.bases("planted", start, end)
            changes = [
                Change("planted", start + offset, base, other)
                for offset, base in enumerate(bases)
                for other in "ACGT"
                if other != base
            ]
            values = annotator.annotate(genome, changes)[:, 0]
            scores.append(values.reshape(len(bases), 3).mean(axis=1))
    profile = np.array(scores)
    inside = profile[:, _FLANK:-_FLANK]
    outside = np.concatenate([profile[:, : _FLANK - 6], profile[:, 6 - _FLANK :]], axis=1)
    # In each window the strongest is inside, and so are the twenty strongest of the mean of the windows.
    assert np.all(profile.argmin(axis=1) >= _FLANK)
    assert np.all(profile.argmin(axis=1) < _FLANK + len(_MOTIF))
    strongest = np.argsort(profile.mean(axis=0))[:20]
    assert strongest.min() >= _FLANK
    assert strongest.max() < _FLANK + len(_MOTIF)
    assert inside.mean() < -4
    assert abs(outside.mean()) < 1


@pytest.mark.slow
def test_explanations_stand_out_inside_the_motif(planted, trained):
    path, places = planted
    with IndexedFasta(path) as fasta:
        genome = ReferenceBases(fasta)
        log_unigram = genome_unigram(fasta, trained.tokenizer)
        profiles = {"mutagenesis": [], "information": []}
        for place in places[100:104].tolist():
            start, end = place - _FLANK, place + len(_MOTIF) + _FLANK
            bases = genome.bases("planted", start, end)
            left, right = genome.bases("planted", start - 20, start), genome.bases("planted", end, end + 20)
            effects = mutagenesis(trained, bases, left=left, right=right, log_unigram=log_unigram)
            profiles["mutagenesis"].append(effect_heights(effects, bases).sum(axis=1))
            found = read_bases(trained, Subject(left, bases, right), log_unigram=log_unigram)
            profiles["information"].append(information_heights(found.values, found.background).sum(axis=1))
            # What is learnt is the motif's own letters.
            motif = found.values[_FLANK : _FLANK + len(_MOTIF)]
            assert "".join("ACGT"[number] for number in motif.argmax(axis=1)) == _MOTIF
    for profile in map(np.array, profiles.values()):
        inside = slice(_FLANK, _FLANK + len(_MOTIF))
        assert np.all(np.isin(profile.argmax(axis=1), np.arange(inside.start, inside.stop)))
        strongest = np.argsort(-profile.mean(axis=0))[:20]
        assert strongest.min() >= inside.start
        assert strongest.max() < inside.stop
        outside = np.concatenate([profile[:, : _FLANK - 6], profile[:, 6 - _FLANK :]], axis=1)
        assert profile[:, inside].mean() > 4 * abs(outside.mean())
