"""The facts of a run, as its model card tells them."""

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.layout import SpeciesCounts
from dnabert2_jax.settings import FinetuneSettings, PretrainSettings
from dnabert2_jax.training.facts import finetuning_facts, pretraining_facts


def test_a_pretraining_run_names_its_genomes_and_its_last_held_out_loss(tiny_corpus):
    species: list[SpeciesCounts] = Corpus.open(tiny_corpus).metadata.species
    rows = [
        {"kind": "evaluation", "masked_loss": 5.0, "unigram_loss": 5.5},
        {"kind": "train", "loss": 1.0},
        {"kind": "evaluation", "masked_loss": 4.25, "unigram_loss": 5.5},
    ]
    facts = pretraining_facts(PretrainSettings(), species, rows)
    assert facts["genomes"] == "simulated"
    assert facts["training"] == "500,000 steps of 4,096 windows of 128 tokens"
    assert facts["held-out loss"].startswith("4.2500 nats per token with every target masked; 5.5000 from")


def test_many_genomes_are_counted(tiny_corpus):
    (one,) = Corpus.open(tiny_corpus).metadata.species
    facts = pretraining_facts(PretrainSettings(), [one] * 15, [])
    assert facts["genomes"].endswith("simulated and 3 more")
    assert facts["bases"] == f"{15 * one.bases:,}"


def test_a_fine_tuned_model_names_base_data_and_test_scores():
    facts = finetuning_facts(
        FinetuneSettings(), {"base model": "M", "training examples": 1234}, {"mcc": 0.5, "examples": 10}
    )
    assert facts["base model"] == "M"
    assert facts["training examples"] == "1,234"
    assert facts["test mcc"] == "0.5000"
    assert "test examples" not in facts
