"""The page of a pre-training run: gathers what the run knows as plain data and hands it to `reports`."""

from typing import Any

import msgspec

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.reports.pretraining import write_pretraining_report
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.run_folder import RunFolder


def report_pretraining(
    run: RunFolder, settings: PretrainSettings, corpus: Corpus, rows: list[dict[str, Any]]
) -> None:
    """Writes report.html into the run folder."""
    species = {
        counts.species: {
            "bases": counts.bases,
            "training tokens": counts.train_tokens,
            "validation tokens": counts.validation_tokens,
        }
        for counts in corpus.metadata.species
    }
    write_pretraining_report(
        run.report,
        settings=msgspec.to_builtins(settings),
        corpus=species,
        rows=rows,
        environment=describe_environment(),
    )
