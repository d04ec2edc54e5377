"""What identifies a run in its folder, and the check that a resumed run is the same run."""

import json
from dataclasses import dataclass
from pathlib import Path

from dnabert2_jax.config import differences, load_settings, write_settings
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.manifest import has_checkpoints

_MAY_CHANGE = {
    "training.steps",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.keep_every",
    "training.accumulate",
    "training.rematerialisation",
    "training.deterministic",
    "training.skip_nonfinite",
    "training.spike_factor",
    "training.spike_steps",
    "training.spike_rewinds",
    "training.compilation_cache",
    "training.keep_freed_memory",
    "training.evaluate_every",
    "training.log_every",
    "training.profile_steps",
}


@dataclass(frozen=True)
class RunFolder:
    """The files of a pre-training run."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings as resolved."""
        return self.path / "config.toml"

    @property
    def identity(self) -> Path:
        """Which corpus the run reads."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Orbax's folder."""
        return self.path / "checkpoints"

    @property
    def has_steps(self) -> bool:
        """Whether checkpoints were completed, damaged ones included."""
        return has_checkpoints(self.checkpoints)

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's files."""
        return self.path / "tensorboard"

    @property
    def profile(self) -> Path:
        """Traces of chosen steps."""
        return self.path / "profile"

    @property
    def model(self) -> Path:
        """The model folder that a finished run leaves."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"


def claim_run_folder(run: RunFolder, settings: PretrainSettings, corpus_fingerprint: str) -> None:
    """Starts a run in an empty folder, or makes sure that the run there may go on as asked.

    A run without a checkpoint has nothing to lose, and is started anew with the settings given.

    Raises:
      UserError: the folder holds something else, or a run with other settings or another corpus.
    """
    if run.config.exists() and run.has_steps:
        started_with = load_settings(PretrainSettings, str(run.config))
        different = [name for name in differences(started_with, settings) if not _may_change(name)]
        if different:
            raise UserError(
                f"{run.path}: was started with another {', '.join(different)}; a resumed run keeps these, "
                "so name another output folder"
            )
        if not run.identity.is_file():
            raise UserError(f"{run.path}: lacks {run.identity.name}, so its corpus is not known; start anew")
        if json.loads(run.identity.read_text())["corpus_fingerprint"] != corpus_fingerprint:
            raise UserError(
                f"{run.path}: was started on another corpus; name that one, or another output folder"
            )
        return
    if not run.config.exists():
        # A run that was killed while it claimed the folder leaves its identity, or a part of it.
        strangers = [
            path.name
            for path in run.path.iterdir()
            if path != run.identity and path.name != ".lock" and not path.name.endswith(".partial")
        ]
        if strangers:
            raise UserError(f"{run.path}: is not a run folder and not empty; name another output folder")
    with atomic_file(run.identity, "w") as file:
        json.dump({"corpus_fingerprint": corpus_fingerprint}, file)
    # Written last: a folder with a config is a run folder.
    write_settings(settings, run.config)


def _may_change(name: str) -> bool:
    return name in _MAY_CHANGE or name.startswith("mesh.")
