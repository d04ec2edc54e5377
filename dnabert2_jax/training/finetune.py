"""Fine-tuning a model on labelled sequences: a model folder and a folder of CSV files in, a classifier out.

The recipe is the paper's: AdamW with a short warm-up and a linear decay, the checkpoint of the lowest
validation loss, its scores over the whole test set.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from dnabert2_jax.config import write_settings
from dnabert2_jax.data.labelled import load_labelled
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file, atomic_folder, refuse_existing
from dnabert2_jax.inference.pretrained import Pretrained, from_pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import Parameters, merge, split
from dnabert2_jax.parallel.mesh import make_mesh, replicated, split_rows
from dnabert2_jax.reports.finetuning import write_finetuning_report
from dnabert2_jax.settings import FinetuneSettings
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.labelled_batches import (
    EncodedExamples,
    batches_in_order,
    encode_splits,
    shuffled_batches,
    steps_per_epoch,
)
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.run_log import append_row, read_rows
from dnabert2_jax.training.scores import classification_scores, confusion_matrix
from dnabert2_jax.training.state import TrainState, apply_gradients, new_state


def finetune(
    settings: FinetuneSettings, model: str | Path, data_folder: str | Path, output: str | Path
) -> dict[str, float]:
    """Fine-tunes, tests, and writes the run folder, which appears when all is done.

    Returns:
      The test scores: matthews_correlation, macro_f1, accuracy, loss, as fractions and nats.

    Raises:
      UserError: model, data and settings do not fit together, or `output` exists.
    """
    refuse_existing(Path(output))
    base = from_pretrained(model)
    data = load_labelled(data_folder)
    if data.is_pairs:
        raise UserError(f"{data_folder}: holds pairs of sequences; give one column named sequence")
    mesh = make_mesh(settings.mesh.data)
    if settings.training.batch_size % mesh.size:
        raise UserError(
            f"training.batch_size {settings.training.batch_size} does not divide by the {mesh.size} devices"
        )
    with atomic_folder(output) as folder:
        write_settings(settings, folder / "config.toml")
        train, dev, test_set = encode_splits(data, base.tokenizer, settings.training.max_length)
        description = ModelDescription(base.description.architecture, data.class_names)
        evaluate = _Evaluation(settings, description, mesh)
        parameters = _train(
            settings, description, base, (train, dev), evaluate, mesh, folder / "metrics.jsonl"
        )
        test, confusion = evaluate(parameters, test_set)
        classifier = Pretrained(description, parameters, base.tokenizer)
        classifier.save_pretrained(folder / "model")
        with atomic_file(folder / "test_scores.json", "w") as file:
            json.dump(test, file, indent=1)
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
            test=test,
            confusion=confusion.tolist(),
            class_names=list(data.class_names),
            environment=describe_environment(),
        )
    return test


def _train(
    settings: FinetuneSettings,
    description: ModelDescription,
    base: Pretrained,
    splits: tuple[EncodedExamples, EncodedExamples],
    evaluate: "_Evaluation",
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
    optimizer = make_optimizer(optimizer_settings, steps)
    train_step = _make_train_step(settings, description, optimizer, mesh)
    parameters = jax.device_put(_with_new_head(description, base, training.seed), replicated(mesh))
    state = new_state(parameters, optimizer)
    best_loss, best_parameters = float("inf"), parameters
    batches = shuffled_batches(train, training.batch_size, training.epochs, training.seed)
    for step, batch in enumerate(tqdm(batches, total=steps, unit="step", disable=None), start=1):
        state, loss = train_step(state, jax.device_put(batch, split_rows(mesh)))
        if step % training.log_every == 0 or step == steps:
            append_row(log_path, {"kind": "train", "step": step, "loss": float(loss)})
        if step % training.evaluate_every == 0 or step == steps:
            scores, _ = evaluate(state.parameters, dev)
            append_row(log_path, {"kind": "evaluation", "step": step, **scores})
            if scores["loss"] < best_loss:
                # The step donates its state, so the best parameters need arrays of their own.
                best_loss, best_parameters = scores["loss"], jax.tree.map(jnp.copy, state.parameters)
    return best_parameters


def _with_new_head(description: ModelDescription, base: Pretrained, seed: int) -> Parameters:
    """The base model's encoder (and pooler, if it has one) under a head with random numbers."""
    _, parameters = split(description.build(nnx.Rngs(seed)))
    kept = {
        name: value
        for name, value in base.parameters.items()
        if name in parameters and not name.startswith("classifier.")
    }
    return parameters | kept


def _make_train_step(settings, description, optimizer, mesh):
    graph, _ = description.abstract()
    dtype = jnp.dtype(settings.training.compute_dtype)

    def loss_of(parameters, batch, key):
        model = merge(graph, parameters)
        encoder_key, head_key = jax.random.split(key)
        hidden = model.encoder(
            batch["input_ids"], batch["attention_mask"], dtype=dtype, dropout_key=encoder_key
        )
        nats = optax.losses.softmax_cross_entropy_with_integer_labels(
            model.logits(hidden, dropout_key=head_key), batch["labels"]
        )
        return (nats * batch["weights"]).sum() / batch["weights"].sum()

    def train_step(state: TrainState, batch):
        key = jax.random.fold_in(jax.random.key(settings.training.seed), state.step)
        loss, gradients = jax.value_and_grad(loss_of)(state.parameters, batch, key)
        return apply_gradients(state, gradients, optimizer), loss

    whole, rows = replicated(mesh), split_rows(mesh)
    return jax.jit(train_step, in_shardings=(whole, rows), out_shardings=whole, donate_argnums=0)


class _Evaluation:
    """Loss and scores of parameters over a whole split."""

    def __init__(self, settings: FinetuneSettings, description: ModelDescription, mesh: jax.sharding.Mesh):
        self._batch_size, self._mesh = settings.training.batch_size, mesh
        self._num_classes = len(description.class_names or ())
        graph, _ = description.abstract()
        dtype = jnp.dtype(settings.training.compute_dtype)

        def logits(parameters, input_ids, attention_mask):
            model = merge(graph, parameters)
            return model.logits(model.encoder(input_ids, attention_mask, dtype=dtype))

        self._logits = jax.jit(logits, out_shardings=replicated(mesh))

    def __call__(
        self, parameters: Parameters, examples: EncodedExamples
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Scores, with the loss in nats and the number of examples, and the confusion matrix."""
        parts = []
        for batch in batches_in_order(examples, self._batch_size):
            arrays = jax.device_put((batch["input_ids"], batch["attention_mask"]), split_rows(self._mesh))
            parts.append(np.asarray(self._logits(parameters, *arrays), np.float64))
        logits = np.concatenate(parts)[: len(examples)]
        chosen = logits[np.arange(len(examples)), examples.labels]
        loss = float((np.logaddexp.reduce(logits, axis=1) - chosen).mean())
        confusion = confusion_matrix(examples.labels, logits.argmax(axis=1), self._num_classes)
        return {"loss": loss, **classification_scores(confusion), "examples": len(examples)}, confusion
