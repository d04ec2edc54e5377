"""Masked-language-model pre-training: settings and a corpus in, a run folder with a model out.

The loop reads from top to bottom. A batch, its masks and its dropout are functions of (seed, step), so
that a run which was killed and started again does what it would have done.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from dnabert2_jax.config import write_settings
from dnabert2_jax.data.corpus import Corpus
from dnabert2_jax.data.windows import WindowSource, window_batches
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import folder_lock
from dnabert2_jax.inference.pretrained import Pretrained, refuse_other_files
from dnabert2_jax.model.folder import ModelDescription
from dnabert2_jax.model.parameters import Parameters
from dnabert2_jax.parallel.mesh import make_mesh, replicated, split_rows
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.tokenizer.kmers import KmerTokenizer
from dnabert2_jax.training.checkpoints import Checkpoints
from dnabert2_jax.training.facts import pretraining_facts
from dnabert2_jax.training.heldout import make_evaluation
from dnabert2_jax.training.interruption import catch_interruption
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.report import report_pretraining
from dnabert2_jax.training.run_folder import RunFolder, claim_run_folder
from dnabert2_jax.training.run_log import RunLog, read_rows
from dnabert2_jax.training.state import TrainState, initial_state


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
    if isinstance(tokenizer, KmerTokenizer) and tokenizer.overlapping:
        # Training would go well, and teach the model to read the answer off the neighbours.
        raise UserError(
            f"{corpus_folder}: has overlapping k-mers, whose neighbours spell a hidden token out; "
            "pre-train on a corpus of BPE or of k-mers that do not overlap"
        )
    mesh = make_mesh(settings.mesh.data)
    if settings.training.batch_size % mesh.size:
        raise UserError(
            f"training.batch_size {settings.training.batch_size} does not divide by the {mesh.size} devices"
        )
    run = RunFolder(Path(output))
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{run.path}: cannot be made a run folder: {error.strerror}") from error
    with folder_lock(run.path):
        claim_run_folder(run, settings, corpus.fingerprint)
        refuse_other_files(run.model)
        with Checkpoints(run.checkpoints, keep=settings.training.keep_checkpoints) as checkpoints:
            done, wanted = checkpoints.latest_step or 0, settings.training.steps
            if done > wanted:
                raise UserError(f"{run.path}: is at step {done} already, and training.steps is {wanted}")
            write_settings(settings, run.config)
            if done == wanted and run.report.is_file():
                print(f"{run.path}: this run is finished; its model is in {run.model}", file=sys.stderr)
                return run
            # The report is written last, and so tells that the model is that of the last step.
            run.report.unlink(missing_ok=True)
            parameters = _train(settings, corpus, run, mesh, checkpoints)
        rows = read_rows(run.metrics)
        Pretrained(ModelDescription(settings.model), parameters, tokenizer).save_pretrained(
            run.model, facts=pretraining_facts(settings, corpus.metadata.species, rows)
        )
        report_pretraining(run, settings, corpus, rows)
    return run


def _train(
    settings: PretrainSettings,
    corpus: Corpus,
    run: RunFolder,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
) -> Parameters:
    """Runs the loop to its end and gives the parameters that the settings ask to keep."""
    training = settings.training
    optimizer = make_optimizer(settings.optimizer, training.steps)
    state = _born_or_restored(settings, optimizer, mesh, checkpoints)
    first_step = int(state.step)
    train_step = make_train_step(settings, optimizer, mesh)
    evaluate = make_evaluation(settings, corpus, mesh)
    source = WindowSource(
        corpus,
        "train",
        batch_size=training.batch_size,
        length=settings.data.sequence_length,
        seed=training.seed,
        steps=training.steps,
        species_weights=settings.data.species_weights,
        strand=settings.data.strand,
        windows=settings.data.windows,
        soft_mask=training.repeat_weight != 1.0,
    )
    rows = split_rows(mesh)
    progress = tqdm(total=training.steps, initial=first_step, unit="step", disable=None)
    clock = _Clock(first_step, training.batch_size * settings.data.sequence_length)

    def require_finite(metrics: dict[str, jax.Array]) -> None:
        if metrics["skipped"] > training.skip_nonfinite:
            raise UserError(
                f"{run.path}: step {metrics['first_skipped']}: loss or gradient is not finite; what was "
                "saved before is kept; start another run with a lower learning_rate or a gradient_clip"
            )

    def log_step(step: int, metrics: dict[str, jax.Array]) -> None:
        require_finite(metrics)
        figures = {name: float(value) for name, value in metrics.items()}
        log.write({"kind": "train", "step": step, **figures, **clock.lap(step)})
        progress.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)

    def log_evaluation(step: int) -> dict[str, Any]:
        figures = evaluate(state.parameters)
        log.write({"kind": "evaluation", "step": step, **figures})
        if not progress.disable:
            progress.write(
                f"step {step}: held-out loss {figures['masked_loss']:.4f} nats per token, all masked; "
                f"{figures['unigram_loss']:.4f} from token frequencies alone",
                file=sys.stderr,
            )
        clock.restart(step)
        return figures

    with RunLog(run.metrics, run.tensorboard, first_step) as log, catch_interruption() as stop, progress:
        # A step's figures are read when the next step is already under way, so that the device never waits.
        unread: tuple[int, dict[str, jax.Array]] | None = None
        for step, batch in enumerate(window_batches(source, first_step), start=first_step + 1):
            state, metrics = train_step(state, jax.device_put(batch, rows))
            progress.update()
            if unread is not None:
                log_step(*unread)
            done, interrupted = step == training.steps, stop.requested
            evaluates = done or step % training.evaluate_every == 0
            saves = done or step % training.checkpoint_every == 0 or interrupted
            saves = saves or (evaluates and training.keep == "best")
            # An interruption makes no line due that an uninterrupted run would not have.
            unread = (step, metrics) if done or step % training.log_every == 0 else None

            if unread is not None and (evaluates or saves):
                # A checkpoint promises that the lines of its step are written.
                log_step(*unread)
                unread = None
            figures = log_evaluation(step) if evaluates else None
            if saves:
                require_finite(metrics)
                checkpoints.save(step, state, None if figures is None else figures["masked_loss"])
            if interrupted and not done:
                raise KeyboardInterrupt(f"{run.path} is saved at step {step}; the same command goes on")
    if training.keep == "best":
        return checkpoints.load(checkpoints.best_step, state).parameters
    return state.parameters


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
