"""Masked-language-model pre-training: settings and a corpus in, a run folder with a model out.

The loop reads from top to bottom. A batch, its masks and its dropout are functions of (seed, step), so
that a run which was killed and started again does what it would have done.
"""

import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.windows import WindowSource, validation_windows, window_batches
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import folder_lock
from dnabert2_jax.inference.pretrained import Pretrained
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import merge
from dnabert2_jax.parallel.mesh import make_mesh, replicated, split_rows
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training import heldout
from dnabert2_jax.training.checkpoints import Checkpoints
from dnabert2_jax.training.interruption import catch_interruption
from dnabert2_jax.training.objective import mask_tokens, masked_log_likelihood
from dnabert2_jax.training.optimizer import learning_rate_schedule, make_optimizer
from dnabert2_jax.training.report import report_pretraining
from dnabert2_jax.training.run_folder import RunFolder, claim_run_folder
from dnabert2_jax.training.run_log import append_row, cut_back, read_rows
from dnabert2_jax.training.state import TrainState, apply_gradients, initial_state


def pretrain(settings: PretrainSettings, corpus_folder: str | Path, output: str | Path) -> RunFolder:
    """Starts a run in `output`, or resumes the one that is there, and carries it to its end.

    Raises:
      UserError: settings, corpus and output folder do not fit together.
      KeyboardInterrupt: someone asked to stop; the state has been saved.
    """
    corpus = Corpus.open(corpus_folder)
    tokenizer = corpus.tokenizer()
    if settings.model.vocab_size != tokenizer.vocab_size:
        raise UserError(
            f"{corpus_folder}: was built with a tokenizer of {tokenizer.vocab_size} tokens, but "
            f"model.vocab_size is {settings.model.vocab_size}; set it so, or build another corpus"
        )
    mesh = make_mesh(settings.mesh.data)
    if settings.training.batch_size % mesh.size:
        raise UserError(
            f"training.batch_size {settings.training.batch_size} does not divide by the {mesh.size} devices"
        )
    run = RunFolder(Path(output))
    run.path.mkdir(parents=True, exist_ok=True)
    with folder_lock(run.path):
        claim_run_folder(run, settings, corpus.fingerprint)
        with Checkpoints(run.checkpoints, keep=settings.training.keep_checkpoints) as checkpoints:
            if (checkpoints.latest_step or 0) >= settings.training.steps and run.report.is_file():
                print(f"{run.path}: this run is finished; its model is in {run.model}", file=sys.stderr)
                return run
            # The report is written last, and so tells that the model is that of the last step.
            run.report.unlink(missing_ok=True)
            state = _train(settings, corpus, run, mesh, checkpoints)
        Pretrained(ModelDescription(settings.model), state.parameters, tokenizer).save_pretrained(run.model)
        report_pretraining(run, settings, corpus, read_rows(run.metrics))
    return run


def _train(
    settings: PretrainSettings,
    corpus: Corpus,
    run: RunFolder,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
) -> TrainState:
    training = settings.training
    optimizer = make_optimizer(settings.optimizer, training.steps)
    state = _born_or_restored(settings, optimizer, mesh, checkpoints)
    first_step = int(state.step)
    cut_back(run.metrics, first_step)

    train_step = make_train_step(settings, optimizer, mesh)
    evaluate = _make_evaluation(settings, corpus, mesh)
    source = WindowSource(
        corpus,
        "train",
        batch_size=training.batch_size,
        length=settings.data.sequence_length,
        seed=training.seed,
        steps=training.steps,
    )
    rows = split_rows(mesh)
    progress = tqdm(total=training.steps, initial=first_step, unit="step", disable=None)
    clock = _Clock(first_step, training.batch_size * settings.data.sequence_length)

    def log(step: int, metrics: dict[str, jax.Array]) -> None:
        figures = {name: float(value) for name, value in metrics.items()}
        append_row(run.metrics, {"kind": "train", "step": step, **figures, **clock.lap(step)})
        progress.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)

    def log_evaluation(step: int) -> None:
        figures = heldout.summarise(evaluate(state.parameters))
        append_row(run.metrics, {"kind": "evaluation", "step": step, **figures})
        if not progress.disable:
            progress.write(
                f"step {step}: held-out loss {figures['masked_loss']:.4f} nats per token, all masked; "
                f"{figures['unigram_loss']:.4f} from token frequencies alone",
                file=sys.stderr,
            )
        clock.restart(step)

    with catch_interruption() as interruption, progress:
        # A step's figures are read when the next step is already under way, so that the device never waits.
        unread: tuple[int, dict[str, jax.Array]] | None = None
        for step, batch in enumerate(window_batches(source, first_step), start=first_step + 1):
            state, metrics = train_step(state, jax.device_put(batch, rows))
            progress.update()
            if unread is not None:
                log(*unread)
            last = step == training.steps or interruption.requested
            # Where someone interrupts, no line is due that an uninterrupted run would not have.
            due = step % training.log_every == 0 or step == training.steps
            unread = (step, metrics) if due else None

            evaluates = step % training.evaluate_every == 0 or step == training.steps
            saves = step % training.checkpoint_every == 0 or last
            if unread is not None and (evaluates or saves):
                # A checkpoint promises that the lines of its step are written.
                log(*unread)
                unread = None
            if evaluates:
                log_evaluation(step)
            if saves:
                checkpoints.save(step, state)
            if last and step < training.steps:
                raise KeyboardInterrupt
    return state


class _Clock:
    """Speed between two lines of the log, leaving evaluations out."""

    def __init__(self, step: int, tokens_per_step: int):
        self._tokens_per_step = tokens_per_step
        self.restart(step)

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def lap(self, step: int) -> dict[str, float]:
        seconds = time.perf_counter() - self._time
        tokens = (step - self._step) * self._tokens_per_step
        self.restart(step)
        return {"seconds": round(seconds, 4), "tokens_per_second": round(tokens / seconds, 1)}


def make_train_step(
    settings: PretrainSettings, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
):
    """Compiles `(state, batch) -> (state, metrics)`, which donates the state.

    A batch is {"input_ids", "attention_mask"}, int32 [B, S], split over the mesh by rows. Metrics are
    float32 scalars: loss (nats per hidden token), accuracy, gradient_norm, learning_rate.
    """
    dtype = jnp.dtype(settings.training.compute_dtype)
    graph, _ = ModelDescription(settings.model).abstract()
    schedule = learning_rate_schedule(settings.optimizer, settings.training.steps)

    def loss_of(parameters, windows, attention_mask, dropout_key):
        nats, hits = masked_log_likelihood(
            merge(graph, parameters), windows, attention_mask, dtype=dtype, dropout_key=dropout_key
        )
        hidden = windows.weights.sum()
        return nats.sum() / hidden, hits.sum() / hidden

    def train_step(state: TrainState, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(settings.training.seed), state.step)
        mask_key, dropout_key = jax.random.split(key)
        windows = mask_tokens(
            mask_key,
            batch["input_ids"],
            rate=settings.training.masking_rate,
            vocab_size=settings.model.vocab_size,
        )
        (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state.parameters, windows, batch["attention_mask"], dropout_key
        )
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": optax.global_norm(gradients),
            "learning_rate": schedule(state.step),
        }
        return apply_gradients(state, gradients, optimizer), metrics

    whole, rows = replicated(mesh), split_rows(mesh)
    return jax.jit(train_step, in_shardings=(whole, rows), out_shardings=whole, donate_argnums=0)


def _born_or_restored(settings, optimizer, mesh, checkpoints: Checkpoints) -> TrainState:
    make = partial(initial_state, settings.model, optimizer, settings.training.seed)
    shardings = jax.tree.map(lambda _: replicated(mesh), jax.eval_shape(make))
    if checkpoints.latest_step is None:
        return jax.jit(make, out_shardings=shardings)()
    like = jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        jax.eval_shape(make),
        shardings,
    )
    return checkpoints.load(checkpoints.latest_step, like)


def _make_evaluation(settings: PretrainSettings, corpus: Corpus, mesh: jax.sharding.Mesh):
    windows = validation_windows(
        corpus, length=settings.data.sequence_length, limit=settings.data.validation_windows
    )
    graph, _ = ModelDescription(settings.model).abstract()
    unigram = jnp.asarray(heldout.unigram_nats(corpus.unigram_counts))
    lengths = jnp.asarray(corpus.tokenizer().token_lengths)

    @partial(jax.jit, out_shardings=replicated(mesh))
    def counts(parameters, input_ids, attention_mask, first_window):
        return heldout.window_counts(
            merge(graph, parameters),
            input_ids,
            attention_mask,
            first_window,
            unigram,
            lengths,
            masking_rate=settings.training.masking_rate,
            dtype=jnp.dtype(settings.training.compute_dtype),
        )

    def evaluate(parameters) -> heldout.WindowCounts:
        def compute(input_ids: np.ndarray, attention_mask: np.ndarray, first_window: int):
            arrays = jax.device_put((input_ids, attention_mask), split_rows(mesh))
            return counts(parameters, *arrays, first_window)

        return heldout.evaluate(
            compute, windows.input_ids, windows.attention_mask, settings.training.batch_size
        )

    return evaluate
