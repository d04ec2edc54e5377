"""`dnabert2`: finds the command, runs it, and turns its outcome into an exit status.

0 done; 2 the request or its input is wrong, said in one line; 1 a fault of ours; 130 interrupted.
"""

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from dnabert2_jax import __version__
from dnabert2_jax.errors import UserError
from dnabert2_jax.memory import return_freed_memory

# Command → module of this package and what it does. Modules are imported when their command is called.
_COMMANDS = {
    "quickstart": "the whole path on a small scale, from genomes to a fine-tuned model and a page about it",
    "tokenizer": "train a BPE tokenizer on genomes, make one of k-mers, or see how one cuts",
    "corpus": "tokenise genomes into a corpus; look at one; check one",
    "pretrain": "pre-train a masked-language model on a corpus, or resume",
    "finetune": "fine-tune a model on labelled sequences",
    "gue": "the GUE benchmark: get it, audit it, run it, report on it",
    "convert": "write any readable model as a safe model folder",
    "embed": "write vectors of sequences, tokens or bases",
    "predict": "write what a fine-tuned model predicts: probabilities, or numbers",
    "variants": "say of each variant of a VCF what a model makes of it",
    "explain": "show which bases a model goes by: mutagenesis, logos, attention",
    "experiment": "the paper's other experiments: vocabulary sizes, tokenizers, further pre-training, cost",
    "plan": "compile a pre-training step for hardware that is not here: memory, FLOPs, collectives, speed",
    "doctor": "tell what this machine has, which attention kernel runs here, and why",
}

_PROCESSES = "dnabert2_jax.parallel.processes"

_HELP = """usage: dnabert2 COMMAND …

DNABERT-2, the genome foundation model, in JAX.

commands:
{commands}

`dnabert2 COMMAND --help` shows a command's options with an example.
--version prints the version; --debug, after a command, shows tracebacks."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    status = _outcome([word for word in words if word != "--debug"], debug)
    if status and _PROCESSES in sys.modules:
        # Those that this one works with would otherwise wait for it, and it for them.
        sys.modules[_PROCESSES].leave_processes(status)
    return status


def _outcome(words: list[str], debug: bool) -> int:
    try:
        return _dispatch(words)
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"dnabert2: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"dnabert2: interrupted{''.join(f'; {part}' for part in interruption.args)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has left; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        traceback.print_exc()
        print("dnabert2: this is a fault of dnabert2_jax; please report the lines above", file=sys.stderr)
        return 1


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        listing = "\n".join(f"  {name:<12}{summary}" for name, summary in _COMMANDS.items())
        print(_HELP.format(commands=listing))
        return 0
    if words[0] == "--version":
        print(f"dnabert2_jax {__version__}")
        return 0
    if words[0] not in _COMMANDS:
        raise UserError(f"there is no command {words[0]!r}; the commands are {', '.join(_COMMANDS)}")
    # Orbax and JAX tell of their own progress, which is noise beside ours; Orbax logs its errors and raises
    # them too.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("jax").setLevel(logging.ERROR)
    if words[0] == "corpus":
        # Here and not in the command: the quickstart builds a corpus and then trains in one process, and
        # training wants its large blocks kept.
        return_freed_memory()
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = _show_warning(warnings.showwarning)
        import_module(f"dnabert2_jax.cli.{words[0]}").main(words[1:])
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Ends a command on SIGTERM as on Ctrl-C, so that it clears up behind itself."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warning(otherwise: Callable[..., None]) -> Callable[..., None]:
    """Tells of a notice about input in one line, and of any other warning as before."""

    def show(message, category, *place) -> None:
        if category.__name__ == "InputWarning":
            print(f"dnabert2: {message}", file=sys.stderr)
        else:
            otherwise(message, category, *place)

    return show
