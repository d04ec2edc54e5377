"""Settings from TOML and the command line: what wins, what is refused, and that nothing is lost on disk."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.config import (
    describe_settings,
    differences,
    load_settings,
    packaged_configs,
    write_settings,
)
from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.settings import FinetuneSettings, OptimizerSettings, PretrainSettings


@pytest.fixture
def toml(tmp_path):
    """toml(text): a file with that text."""

    def write(text: str) -> str:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("kind", [PretrainSettings, FinetuneSettings])
def test_every_packaged_configuration_loads(kind):
    assert packaged_configs(kind)
    for name in packaged_configs(kind):
        assert isinstance(load_settings(kind, name), kind)


def test_an_empty_file_gives_the_defaults(toml):
    assert load_settings(PretrainSettings, toml("")) == PretrainSettings()


def test_the_file_beats_the_default_and_the_command_line_beats_the_file(toml):
    path = toml("[training]\nsteps = 40_000\nseed = 3\n[optimizer]\nlearning_rate = 1e-3\n")
    settings = load_settings(
        PretrainSettings, path, ["--training.seed", "4", "--data.sequence_length=64", "--mesh.data", "2"]
    )
    assert settings.training.steps == 40_000
    assert settings.training.seed == 4
    assert settings.data.sequence_length == 64
    assert settings.mesh.data == 2
    assert settings.optimizer == msgspec.structs.replace(OptimizerSettings(), learning_rate=1e-3)


def test_the_last_of_two_overrides_counts(toml):
    words = ["--training.seed", "4", "--training.seed=5"]
    assert load_settings(PretrainSettings, toml(""), words).training.seed == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[training]\nstep = 3", "there is no setting training.step; did you mean training.steps?"),
        ("[trainig]\nsteps = 3", "there is no setting trainig.steps; did you mean training.steps?"),
        ("[zzz]\nqqq = 3", "the sections are model, data, training, optimizer, mesh"),
        ("[training.steps]\na = 1", "training.steps"),
        ("steps = 3", "steps stands outside of a section"),
        ("[training", "is not TOML"),
        ("[training]\nsteps = 'many'", "training.steps"),
        ("[training]\nsteps = 3.5", "training.steps"),
        ("[training]\nsteps = 0", "training.steps"),
        ("[training]\nmasking_rate = 1.0", "training.masking_rate"),
        ("[training]\nmasking_rate = nan", "training.masking_rate"),
        ("[optimizer]\nlearning_rate = nan", "optimizer.learning_rate"),
        ("[training]\ncompute_dtype = 'float16'", "training.compute_dtype"),
        ("[optimizer]\nwarmup_steps = 10\n[training]\nsteps = 9", "optimizer.warmup_steps 10"),
        ("[model]\nnum_attention_heads = 7", "num_attention_heads 7"),
    ],
)
def test_what_a_file_must_not_say(toml, text, complaint):
    path = toml(text)
    with pytest.raises(UserError) as raised:
        load_settings(PretrainSettings, path)
    assert str(raised.value).startswith(f"{path}:")
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--training.stesp", "3"], "there is no setting training.stesp; did you mean training.steps?"),
        (["--steps", "3"], "there is no setting steps"),
        (["training.steps", "3"], "'training.steps' is not a setting"),
        (["--training.steps"], "--training.steps needs a value"),
        (["--training.steps", "x"], "training.steps is 'x'"),
        (["--training.steps", "-3"], "training.steps is '-3'"),
        (["--training.steps="], "training.steps is ''"),
        (["--optimizer.learning_rate", "nan"], "optimizer.learning_rate is"),
        (["--training.compute_dtype", "half"], "choose float32, bfloat16"),
    ],
)
def test_what_the_command_line_must_not_say(toml, words, complaint):
    with pytest.raises(UserError) as raised:
        load_settings(PretrainSettings, toml(""), words)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_such_configuration_names_those_that_there_are(tmp_path):
    with pytest.raises(UserError, match=r"no such configuration; give a TOML file or one of .*tiny"):
        load_settings(PretrainSettings, "tinny")
    with pytest.raises(UserError, match="no such configuration"):
        load_settings(PretrainSettings, str(tmp_path))


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not TOML"):
        load_settings(PretrainSettings, str(path))


positive_numbers = st.floats(min_value=1e-300, max_value=1e300, allow_nan=False)


@given(
    rate=positive_numbers,
    epsilon=positive_numbers,
    steps=st.integers(30_000, 2**62),
    dropout=st.floats(0, 0.99),
    compute_dtype=st.sampled_from(["float32", "bfloat16"]),
)
def test_written_settings_come_back_exactly(tmp_path_factory, rate, epsilon, steps, dropout, compute_dtype):
    settings = PretrainSettings(
        model=Architecture(hidden_dropout_prob=dropout, layer_norm_eps=epsilon),
        training=msgspec.structs.replace(
            PretrainSettings().training, steps=steps, compute_dtype=compute_dtype
        ),
        optimizer=msgspec.structs.replace(OptimizerSettings(), learning_rate=rate),
    )
    path = tmp_path_factory.mktemp("written") / "config.toml"
    write_settings(settings, path)
    assert load_settings(PretrainSettings, str(path)) == settings


def test_differences_are_named():
    one, other = PretrainSettings(), load_settings(PretrainSettings, "tiny")
    assert differences(one, one) == []
    assert "model.hidden_size" in differences(one, other)
    assert "data.sequence_length" not in differences(one, other)


@pytest.mark.parametrize("kind", [PretrainSettings, FinetuneSettings])
def test_every_setting_is_described(kind):
    lines = describe_settings(kind).splitlines()
    names = [
        f"--{section}.{key}" for section, values in msgspec.to_builtins(kind()).items() for key in values
    ]
    assert [line.split()[0] for line in lines] == names
    for line in lines:
        _, _, description = line.split(maxsplit=2)
        assert len(description) > 5, line


def test_infinity_is_no_learning_rate(toml):
    with pytest.raises(UserError, match=r"optimizer\.learning_rate"):
        load_settings(PretrainSettings, toml("[optimizer]\nlearning_rate = inf"))
