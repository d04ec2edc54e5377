"""What a fine-tuned model predicts for each problem and for pairs, against its parts put together by hand."""

import csv

import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.cli.main import main
from dnabert2_jax.genome.sequence import reverse_complement
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import split
from dnabert2_jax.tokenizer.tokenizer import Tokenizer

PAIRS = [("ACGTACGTTT", "GGTA"), ("A", "CCGTA" * 12), ("", "ACG")]


@pytest.fixture
def make_model(tiny_architecture, tiny_tokenizer):
    def make(problem, names):
        description = ModelDescription(tiny_architecture, names, problem)
        _, parameters = split(description.build(nnx.Rngs(5)))
        return Pretrained(description, parameters, Tokenizer.load(tiny_tokenizer))

    return make


def logits_of(model, input_ids, token_type_ids=None):
    """Pooler and classifier, in float64, on the [CLS] vector of one input without padding."""
    types = None if token_type_ids is None else token_type_ids[None]
    hidden = np.asarray(model.hidden_states(input_ids[None], token_type_ids=types), np.float64)[0, 0]
    p = {name: np.asarray(array, np.float64) for name, array in model.parameters.items()}
    pooled = np.tanh(hidden @ p["pooler.dense.kernel"] + p["pooler.dense.bias"])
    return pooled @ p["classifier.kernel"] + p["classifier.bias"]


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def identity(logits):
    return logits


@pytest.mark.parametrize(
    ("problem", "names", "link"),
    [
        ("single_label_classification", ("a", "b", "c"), softmax),
        ("multi_label_classification", ("a", "b", "c"), sigmoid),
        ("regression", ("LABEL_0",), identity),
    ],
)
def test_predictions_of_each_problem(make_model, problem, names, link):
    model = make_model(problem, names)
    sequences = ["ACGT" * 9, "", "GGTTNACA"]
    expected = [link(logits_of(model, model.tokenizer.encode(sequence))) for sequence in sequences]
    found = model.predict(sequences, batch_size=2)
    assert found.dtype == np.float32
    # A few float32 roundings of numbers of size 1.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)

    expected = [link(logits_of(model, *model.tokenizer.encode_pair(*pair))) for pair in PAIRS]
    np.testing.assert_allclose(model.predict(PAIRS), expected, rtol=0, atol=2e-6)


def test_the_second_of_a_pair_has_its_own_token_type(make_model):
    model = make_model("regression", ("LABEL_0",))
    ids, types = model.tokenizer.encode_pair(*PAIRS[0])
    (found,) = model.predict(PAIRS[:1])
    assert found == pytest.approx(logits_of(model, ids, types), abs=2e-6)
    assert abs(found - logits_of(model, ids)) > 1e-3


def test_sequences_and_pairs_may_be_mixed(make_model):
    model = make_model("single_label_classification", ("a", "b"))
    mixed = ["ACGT", PAIRS[0], "GG", PAIRS[1]]
    alone = np.concatenate([model.predict([example]) for example in mixed])
    np.testing.assert_allclose(model.predict(mixed, batch_size=3), alone, rtol=0, atol=2e-6)


def test_both_strands_of_both_sequences_of_a_pair(make_model):
    model = make_model("regression", ("LABEL_0",))
    opposite = [(reverse_complement(first), reverse_complement(second)) for first, second in PAIRS]
    np.testing.assert_allclose(
        model.predict(PAIRS, reverse_complement=True),
        (model.predict(PAIRS) + model.predict(opposite)) / 2,
        rtol=0,
        atol=2e-6,
    )


@pytest.mark.parametrize(
    ("problem", "names", "columns"),
    [
        ("single_label_classification", ("none", "donor"), ["none", "donor"]),
        ("multi_label_classification", ("H3", "H4"), ["H3", "H4"]),
        ("regression", ("LABEL_0",), ["value"]),
    ],
)
def test_the_command(make_model, tmp_path, capsys, problem, names, columns):
    model = make_model(problem, names)
    model.save_pretrained(tmp_path / "model")
    rows = "".join(f"{first},{second}\n" for first, second in PAIRS[:2])
    (tmp_path / "pairs.csv").write_text("sequence1,sequence2\n" + rows)
    command = ["predict", "--model", tmp_path / "model", "--input", tmp_path / "pairs.csv"]
    assert main([*map(str, command), "--output", str(tmp_path / "out.csv")]) == 0
    assert "2 rows" in capsys.readouterr().out
    with open(tmp_path / "out.csv") as file:
        header, *written = csv.reader(file)
    assert header == ["name", *columns]
    np.testing.assert_allclose(
        [[float(field) for field in fields[1:]] for fields in written], model.predict(PAIRS[:2]), atol=1e-6
    )
