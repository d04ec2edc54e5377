"""Who may write into a run folder: a new run, or the same run again."""

import json

import msgspec
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.run_folder import RunFolder, claim_run_folder


def changed(settings: PretrainSettings, section: str, **values) -> PretrainSettings:
    part = msgspec.structs.replace(getattr(settings, section), **values)
    return msgspec.structs.replace(settings, **{section: part})


@pytest.fixture
def run(tmp_path):
    """A run folder that was started with the default settings on corpus "c"."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    claim_run_folder(run, PretrainSettings(), "c")
    return run


def test_the_same_request_resumes(run):
    before = run.config.read_text()
    claim_run_folder(run, PretrainSettings(), "c")
    assert run.config.read_text() == before


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"steps": 600_000}),
        ("training", {"checkpoint_every": 7, "keep_checkpoints": 9, "evaluate_every": 8, "log_every": 1}),
        ("mesh", {"data": 4}),
    ],
)
def test_what_may_change_is_written_down(run, section, values):
    settings = changed(PretrainSettings(), section, **values)
    claim_run_folder(run, settings, "c")
    for name, value in values.items():
        assert f"{name} = {value}\n" in run.config.read_text()


@pytest.mark.parametrize(
    ("section", "values", "named"),
    [
        ("training", {"seed": 1}, "training.seed"),
        ("training", {"batch_size": 8}, "training.batch_size"),
        ("training", {"compute_dtype": "float32"}, "training.compute_dtype"),
        ("optimizer", {"learning_rate": 1e-3, "beta2": 0.5}, "optimizer.learning_rate, optimizer.beta2"),
        ("model", {"hidden_size": 96}, "model.hidden_size"),
        ("data", {"sequence_length": 64}, "data.sequence_length"),
    ],
)
def test_another_setting_is_refused_by_name(run, section, values, named):
    (run.checkpoints / "10").mkdir(parents=True)
    before = run.config.read_text()
    with pytest.raises(UserError, match=f"was started with another {named};"):
        claim_run_folder(run, changed(PretrainSettings(), section, **values), "c")
    assert run.config.read_text() == before


def test_another_corpus_is_refused(run):
    (run.checkpoints / "10").mkdir(parents=True)
    with pytest.raises(UserError, match="was started on another corpus"):
        claim_run_folder(run, PretrainSettings(), "d")


def test_a_run_without_a_checkpoint_is_started_anew(run):
    (run.checkpoints / "10.orbax-checkpoint-tmp").mkdir(parents=True)
    claim_run_folder(run, changed(PretrainSettings(), "data", sequence_length=64), "d")
    assert "sequence_length = 64\n" in run.config.read_text()
    assert json.loads(run.identity.read_text()) == {"corpus_fingerprint": "d"}


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not a run folder and not empty"):
        claim_run_folder(RunFolder(tmp_path), PretrainSettings(), "c")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_was_killed_while_it_claimed_the_folder_may_try_again(run):
    run.config.unlink()  # written last
    (run.path / ".config.toml.x1.partial").write_text("[mod")
    claim_run_folder(run, PretrainSettings(), "c")
    assert run.config.is_file()
