"""Fine-tuning: a model folder and a folder of labelled sequences in, a run folder with its model out.

The recipe is the paper's: AdamW with a short warm-up and a linear decay, the checkpoint of the lowest
validation loss, its scores over the whole test set.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
from flax import nnx
from tqdm import tqdm

from dnabert2_jax.config import write_settings
from dnabert2_jax.data.labelled import LabelledData, load_labelled
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file, atomic_folder, refuse_existing
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import Parameters, split
from dnabert2_jax.parallel.mesh import make_mesh, replicated, split_rows
from dnabert2_jax.reports.finetuning import write_finetuning_report
from dnabert2_jax.settings import FinetuneSettings
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.finetune_evaluation import Evaluation, outcome_of
from dnabert2_jax.training.finetune_step import make_train_step
from dnabert2_jax.training.labelled_batches import (
    EncodedExamples,
    encode_splits,
    shuffled_batches,
    steps_per_epoch,
    warn_of_cuts,
)
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.run_log import append_row, read_rows
from dnabert2_jax.training.state import TrainState, new_state

_REMEDY = "lower optimizer.learning_rate, or compute in float32"


def finetune(
    settings: FinetuneSettings, model: str | Path, data_folder: str | Path, output: str | Path
) -> dict[str, Any]:
    """Fine-tunes, tests, and writes the run folder, which appears when all is done.

    Returns:
      What test_scores.json holds: the number of test examples, the loss, and the scores of the problem as
      `training/scores.py` names them.

    Raises:
      UserError: model, data and settings do not fit together, `output` exists, or the loss is not finite.
    """
    refuse_existing(Path(output))
    base = from_pretrained(model)
    data = load_labelled(data_folder, settings.training.problem)
    if data.is_pairs and base.description.architecture.type_vocab_size < 2:
        raise UserError(f"{model}: has no token type for the second sequence of the pairs in {data_folder}")
    mesh = make_mesh(settings.mesh.data)
    if settings.training.batch_size % mesh.size:
        raise UserError(
            f"training.batch_size {settings.training.batch_size} does not divide by the {mesh.size} devices"
        )
    with atomic_folder(output) as folder:
        write_settings(settings, folder / "config.toml")
        train, dev, test = encode_splits(data, base.tokenizer, settings.training.max_length)
        warn_of_cuts(train, dev, test, settings.training.max_length)
        description = _describe(base, data)
        evaluate = Evaluation(settings, description, mesh)
        parameters = _train(
            settings, description, base, (train, dev), evaluate, mesh, folder / "metrics.jsonl"
        )
        scores, logits = evaluate(parameters, test)
        Pretrained(description, parameters, base.tokenizer).save_pretrained(folder / "model")
        with atomic_file(folder / "test_scores.json", "w") as file:
            json.dump(scores, file, indent=1)
        write_finetuning_report(
            folder / "report.html",
            task={
                "data": Path(data_folder).name,
                "base model": str(model),
                "training examples": len(data.train),
                "dev examples": len(data.dev),
                "test examples": len(data.test),
            },
            settings=msgspec.to_builtins(settings),
            rows=read_rows(folder / "metrics.jsonl"),
            test=scores,
            outcome=outcome_of(description, test.labels, logits),
            environment=describe_environment(),
        )
    return scores


def _describe(base: Pretrained, data: LabelledData) -> ModelDescription:
    # The released code knows regression by its single label, which goes by the name that it gives to any.
    names = ("LABEL_0",) if data.problem == "regression" else data.class_names
    return ModelDescription(base.description.architecture, names, data.problem)


def _train(
    settings: FinetuneSettings,
    description: ModelDescription,
    base: Pretrained,
    splits: tuple[EncodedExamples, EncodedExamples],
    evaluate: Evaluation,
    mesh: jax.sharding.Mesh,
    log_path: Path,
) -> Parameters:
    """Trains on the first split; gives the parameters with the lowest loss on the second."""
    training = settings.training
    train, dev = splits
    steps = training.epochs * steps_per_epoch(train, training.batch_size)
    optimizer_settings = settings.optimizer
    if optimizer_settings.warmup_steps > steps // 2:
        shorter = msgspec.structs.replace(optimizer_settings, warmup_steps=steps // 10)
        print(f"only {steps} steps in all: the warm-up is {shorter.warmup_steps} of them", file=sys.stderr)
        optimizer_settings = shorter
    optimizer_settings.check_steps(steps, "optimizer")
    optimizer = make_optimizer(optimizer_settings, steps)
    train_step = make_train_step(settings, description, optimizer, mesh)
    parameters = _with_new_head(description, base, training.seed)
    # Laid out on the mesh as the step lays out its results, or else it would be compiled a second time.
    state = jax.device_put(new_state(parameters, optimizer), replicated(mesh))
    best_loss, best_parameters = float("inf"), parameters
    batches = shuffled_batches(train, training.batch_size, training.epochs, training.seed)
    for step, batch in enumerate(tqdm(batches, total=steps, unit="step", disable=None), start=1):
        state, loss = train_step(state, jax.device_put(batch, split_rows(mesh)))
        logs = step % training.log_every == 0 or step == steps
        evaluates = step % training.evaluate_every == 0 or step == steps
        if logs or evaluates:
            _require_finite(state)
        if logs:
            append_row(log_path, {"kind": "train", "step": step, "loss": float(loss)})
        if evaluates:
            scores, _ = evaluate(state.parameters, dev)
            if not math.isfinite(scores["loss"]):
                raise UserError(f"step {step}: the loss on dev is not finite; {_REMEDY}")
            append_row(log_path, {"kind": "evaluation", "step": step, **scores})
            if scores["loss"] < best_loss:
                # The step donates its state, so the best parameters need arrays of their own.
                best_loss, best_parameters = scores["loss"], jax.tree.map(jnp.copy, state.parameters)
    return best_parameters


def _require_finite(state: TrainState) -> None:
    if int(state.skipped):
        raise UserError(f"step {int(state.first_skipped)}: loss or gradient is not finite; {_REMEDY}")


def _with_new_head(description: ModelDescription, base: Pretrained, seed: int) -> Parameters:
    """The base model's encoder (and pooler, if it has one) under a head with random numbers."""
    _, parameters = split(description.build(nnx.Rngs(seed)))
    kept = {
        name: value
        for name, value in base.parameters.items()
        if name in parameters and not name.startswith("classifier.")
    }
    return parameters | kept
