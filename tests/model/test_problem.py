"""What a fine-tuned model predicts is written to config.json and read back, by the released code's rules."""

import json

import numpy as np
import pytest
from flax import nnx

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.folder import ModelDescription, read_description, write_model
from dnabert2_jax.model.parameters import split


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ("single_label_classification", ("none", "donor", "acceptor")),
        ("multi_label_classification", ("H3",)),
        ("multi_label_classification", ("H3", "H4")),
        ("regression", ("LABEL_0",)),
    ],
)
def test_round_trip(tiny_architecture, tmp_path, problem, names):
    description = ModelDescription(tiny_architecture, names, problem)
    _, parameters = split(description.build(nnx.Rngs(0)))
    write_model(tmp_path, description, parameters)
    assert read_description(tmp_path) == description
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["problem_type"] == problem
    assert config["id2label"] == {str(place): name for place, name in enumerate(names)}
    assert np.shape(parameters["classifier.kernel"]) == (32, len(names))


@pytest.fixture
def folder(tiny_model, tmp_path):
    """folder(**changes): a folder with a fine-tuned model's config.json, changed so."""

    def make(**changes):
        config = json.loads((tiny_model / "config.json").read_text())
        config |= {"architectures": ["BertForSequenceClassification"], **changes}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return make


def test_without_a_problem_type_the_number_of_labels_decides(folder):
    assert read_description(folder(id2label={"0": "LABEL_0"})).problem == "regression"
    assert read_description(folder()).problem == "single_label_classification"
    assert read_description(folder(problem_type=None)).class_names == ("LABEL_0", "LABEL_1")
    three = {"0": "a", "1": "b", "2": "c"}
    assert read_description(folder(id2label=three)).problem == "single_label_classification"


@pytest.mark.parametrize("problem", ["classification", 3, ["regression"], {}])
def test_an_unknown_problem_is_refused(folder, problem):
    with pytest.raises(UserError, match=r"config\.json: problem_type is .*; it must be single_label"):
        read_description(folder(problem_type=problem))


def test_a_masked_language_model_has_no_problem_type(tiny_model):
    assert "problem_type" not in json.loads((tiny_model / "config.json").read_text())
    assert read_description(tiny_model).class_names is None
