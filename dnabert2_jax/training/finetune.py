"""Fine-tuning: a model folder and a folder of labelled sequences in, a run folder with its model out.

The recipe is the paper's: AdamW with a short warm-up and a linear decay, the checkpoint of the lowest
validation loss, its scores over the whole test set. What trains is the model, or adapters and the head alone;
the folder then has these by themselves too.
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
from dnabert2_jax.inference.hub import model_folder
from dnabert2_jax.inference.loading import from_pretrained
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.adapter_folder import is_adapter_folder, write_adapter
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.lora import abstract_adapted, build_adapted, is_adapter, merge_adapters
from dnabert2_jax.model.parameters import Parameters, split
from dnabert2_jax.parallel.mesh import make_mesh, row_parts, split_rows
from dnabert2_jax.parallel.sharding import state_sharding
from dnabert2_jax.reports.finetuning import write_finetuning_report
from dnabert2_jax.settings import FinetuneSettings
from dnabert2_jax.training.divisibility import refuse_finetuning_that_does_not_divide
from dnabert2_jax.training.environment import describe_environment
from dnabert2_jax.training.facts import finetuning_facts
from dnabert2_jax.training.finetune_evaluation import Evaluation, outcome_of
from dnabert2_jax.training.finetune_step import make_train_step
from dnabert2_jax.training.labelled_batches import (
    EncodedExamples,
    Layout,
    encode_splits,
    packed_layout,
    padded_layout,
    real_share,
    shuffled_batches,
    steps_per_epoch,
    warn_of_cuts,
)
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.partition import (
    ALL_TRAIN,
    LORA_RULES,
    combine_parameters,
    label_parameters,
    partition_optimizer,
    partition_parameters,
)
from dnabert2_jax.training.run_log import append_row, read_rows
from dnabert2_jax.training.state import TrainState, new_state

_REMEDY = "lower optimizer.learning_rate, or compute in float32"


def finetune(
    settings: FinetuneSettings,
    model: str | Path,
    data_folder: str | Path,
    output: str | Path,
    *,
    revision: str | None = None,
) -> dict[str, Any]:
    """Fine-tunes, tests, and writes the run folder, which appears when all is done.

    Args:
      settings: of the run.
      model, revision: the base model, as `from_pretrained` takes them.
      data_folder: holds train, dev and test as `load_labelled` reads them.
      output: the run folder to make.

    Returns:
      What test_scores.json holds: the number of test examples, the loss, and the scores of the problem as
      `training/scores.py` names them.

    Raises:
      UserError: model, data and settings do not fit together, `output` exists, or the loss is not finite.
    """
    refuse_existing(Path(output))
    model_files = model_folder(model, revision)
    if settings.adapters is not None and is_adapter_folder(model_files):
        raise UserError(
            f"{model}: holds adapters already; train new ones on its base model, or on model/ beside it"
        )
    base = from_pretrained(model_files)
    data = load_labelled(data_folder, settings.training.problem)
    if data.is_pairs and base.description.architecture.type_vocab_size < 2:
        raise UserError(f"{model}: has no token type for the second sequence of the pairs in {data_folder}")
    mesh = make_mesh(settings.mesh)
    refuse_finetuning_that_does_not_divide(settings, base.description.architecture, mesh)
    with atomic_folder(output) as folder:
        write_settings(settings, folder / "config.toml")
        train, dev, test = encode_splits(data, base.tokenizer, settings.training.max_length)
        warn_of_cuts(train, dev, test, settings.training.max_length)
        description = _describe(base, data)
        layout = _choose_layout(settings, train, dev, test, mesh)
        evaluate = Evaluation(settings, description, layout, mesh)
        parameters = _train(
            settings, description, base, (train, dev), layout, evaluate, mesh, folder / "metrics.jsonl"
        )
        scores, logits = evaluate(parameters, test)
        lora = settings.adapters
        if lora is not None:
            base_name = _base_name(model)
            write_adapter(folder / "adapter", lora, base_name, description, parameters, revision=revision)
            parameters = merge_adapters(parameters, lora.scale)
        task = {
            "data": Path(data_folder).name,
            "base model": str(model) if revision is None else f"{model} at {revision}",
            "training examples": len(data.train),
            "dev examples": len(data.dev),
            "test examples": len(data.test),
            "real tokens": f"{real_share(train, layout, settings.training.seed):.1%}",
            "parameters trained": _describe_training(settings, description),
        }
        Pretrained(description, parameters, base.tokenizer).save_pretrained(
            folder / "model",
            facts=finetuning_facts(settings, task | {"base model": _public_name(model)}, scores),
        )
        with atomic_file(folder / "test_scores.json", "w") as file:
            json.dump(scores, file, indent=1)
        write_finetuning_report(
            folder / "report.html",
            task=task,
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


def _choose_layout(
    settings: FinetuneSettings,
    train: EncodedExamples,
    dev: EncodedExamples,
    test: EncodedExamples,
    mesh: jax.sharding.Mesh,
) -> Layout:
    training = settings.training
    padded = padded_layout((train, dev, test), training.batch_size)
    if not training.packing:
        return padded
    layout = packed_layout(
        train, (dev, test), training.batch_size, training.epochs, training.seed, row_parts(mesh)
    )
    if layout != padded:
        packed_share, padded_share = (real_share(train, each, training.seed) for each in (layout, padded))
        print(
            f"{layout.per_row} sequences in each row: {packed_share:.1%} of the tokens are real; "
            f"{padded_share:.1%} would be if each were padded to the longest",
            file=sys.stderr,
        )
    return layout


def _train(
    settings: FinetuneSettings,
    description: ModelDescription,
    base: Pretrained,
    splits: tuple[EncodedExamples, EncodedExamples],
    layout: Layout,
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
    parameters = _starting_parameters(settings, description, base)
    labels = label_parameters(parameters, ALL_TRAIN if settings.adapters is None else LORA_RULES)
    trained, frozen = partition_parameters(parameters, labels)
    optimizer = partition_optimizer(make_optimizer(optimizer_settings, steps), labels)
    train_step = make_train_step(settings, description, optimizer, mesh)
    trained, frozen = (jax.device_put(part, state_sharding(mesh, part)) for part in (trained, frozen))
    state = new_state(trained, optimizer)
    # As the step lays out its results, or else it would be compiled a second time.
    state = jax.device_put(state, state_sharding(mesh, state))
    best_loss, best = float("inf"), trained
    batches = shuffled_batches(train, layout, training.epochs, training.seed)
    for step, batch in enumerate(tqdm(batches, total=steps, unit="step", disable=None), start=1):
        state, loss = train_step(state, frozen, jax.device_put(batch, split_rows(mesh)))
        logs = step % training.log_every == 0 or step == steps
        evaluates = step % training.evaluate_every == 0 or step == steps
        if logs or evaluates:
            _require_finite(state)
        if logs:
            append_row(log_path, {"kind": "train", "step": step, "loss": float(loss)})
        if evaluates:
            scores, _ = evaluate(combine_parameters(state.parameters, frozen), dev)
            if not math.isfinite(scores["loss"]):
                raise UserError(f"step {step}: the loss on dev is not finite; {_REMEDY}")
            append_row(log_path, {"kind": "evaluation", "step": step, **scores})
            if scores["loss"] < best_loss:
                # The step donates its state, so the best parameters need arrays of their own.
                best_loss, best = scores["loss"], jax.tree.map(jnp.copy, state.parameters)
    return combine_parameters(best, frozen)


def _require_finite(state: TrainState) -> None:
    if int(state.skipped):
        raise UserError(f"step {int(state.first_skipped)}: loss or gradient is not finite; {_REMEDY}")


def _starting_parameters(
    settings: FinetuneSettings, description: ModelDescription, base: Pretrained
) -> Parameters:
    """The base model's encoder (and pooler, if it has one); the head and the adapters are new."""
    rngs = nnx.Rngs(settings.training.seed)
    _, parameters = split(build_adapted(description, settings.adapters, rngs))
    kept = {
        name: value
        for name, value in base.parameters.items()
        if name in parameters and not name.startswith("classifier.")
    }
    new = "the classifier starts" if "pooler.dense.kernel" in kept else "the pooler and the classifier start"
    print(f"{new} at random, all else as in the base model", file=sys.stderr)
    return parameters | kept


def _describe_training(settings: FinetuneSettings, description: ModelDescription) -> str:
    """How many parameters train, of how many in all."""
    _, shapes = abstract_adapted(description, settings.adapters)
    total = sum(math.prod(shape.shape) for shape in shapes.values())
    if settings.adapters is None:
        return f"all {total:,}"
    labels = label_parameters(shapes, LORA_RULES)
    adapters = sum(math.prod(shape.shape) for name, shape in shapes.items() if is_adapter(name))
    trained = sum(math.prod(shapes[name].shape) for name in shapes if labels[name] == "trainable")
    return (
        f"{trained:,} of {total:,} ({trained / total:.2%}): "
        f"{adapters:,} of the adapters ({adapters / total:.2%}) and {trained - adapters:,} of the head"
    )


def _public_name(model: str | Path) -> str:
    """What a card that may be published calls the base model: a folder by its last name alone."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else str(model)


def _base_name(model: str | Path) -> str:
    """What an adapter calls its base model: the folder, wherever it is read from, or the hub id."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else str(model)
