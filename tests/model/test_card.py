"""The model card: it says what the model is, and no name can break its tables."""

from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.model.card import model_card

SMALL = Architecture(
    vocab_size=64, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)


def test_a_masked_language_model_says_so_and_names_its_facts():
    card = model_card(SMALL, None, "single_label_classification", {"corpus": "yeast", "steps": "700"})
    assert card.startswith("---\nlibrary_name: dnabert2_jax\npipeline_tag: fill-mask\n")
    assert "| corpus | yeast |" in card
    assert "| steps | 700 |" in card
    assert "BertForMaskedLM" in card
    assert "## Labels" not in card


def test_a_classifier_lists_its_classes():
    card = model_card(SMALL, ("no", "yes"), "single_label_classification", {})
    assert "| 0 | no |\n| 1 | yes |" in card
    assert "Nothing is recorded of it." in card
    assert "BertForSequenceClassification" in card


def test_a_name_cannot_break_a_table_or_become_markup():
    card = model_card(SMALL, ("a|b\nc", "<script>"), "multi_label_classification", {"x": "[click](http://y)"})
    assert "| 0 | a\\|b c |" in card
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "[click]" not in card.replace("\\[click\\]", "")
