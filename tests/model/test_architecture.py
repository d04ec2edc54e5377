"""Parameter counts of the released model, and architectures that are refused."""

import math

import msgspec
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture, check_architecture, count_parameters
from dnabert2_jax.model.folder import ModelDescription


def size_of(description: ModelDescription, prefix: str = "") -> int:
    _, shapes = description.abstract()
    return sum(math.prod(shape.shape) for name, shape in shapes.items() if name.startswith(prefix))


def test_the_defaults_have_the_parameters_of_the_released_model():
    masked_language_model = ModelDescription(Architecture())
    assert size_of(masked_language_model) == 117_074_176
    assert size_of(masked_language_model, "encoder.") == 116_477_952
    classifier = ModelDescription(Architecture(), ("0", "1"))
    assert size_of(classifier) == 117_070_082
    assert size_of(classifier, "encoder.") + size_of(classifier, "pooler.") == 117_068_544


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(),
        Architecture(vocab_size=64, hidden_size=96, num_hidden_layers=2, intermediate_size=192),
        Architecture(
            vocab_size=11, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, type_vocab_size=1
        ),
    ],
)
def test_the_count_without_building_is_that_of_the_model(architecture):
    assert count_parameters(architecture) == size_of(ModelDescription(architecture))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_attention_heads": 7}, "hidden_size 768 does not divide by num_attention_heads 7"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"),
        ({"hidden_dropout_prob": math.nan}, "hidden_dropout_prob"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps"),
        ({"layer_norm_eps": math.nan}, "layer_norm_eps"),
        ({"initializer_range": math.inf}, "layer_norm_eps and initializer_range must be positive and finite"),
        ({"initializer_range": -1.0}, "initializer_range"),
    ],
)
def test_numbers_that_describe_no_model_are_refused(change, complaint):
    with pytest.raises(UserError, match=f"^here: .*{complaint}"):
        check_architecture(msgspec.structs.replace(Architecture(), **change), "here")


def test_head_width():
    assert Architecture().head_width == 64
