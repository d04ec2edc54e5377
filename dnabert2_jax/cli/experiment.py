"""`dnabert2 experiment vocabulary | tokenizers | further-pretraining | cost`: the paper's other parts."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dnabert2_jax.cli.arguments import (
    Parser,
    add_sample_arguments,
    comma_separated,
    positive,
    split_settings,
)
from dnabert2_jax.cli.corpus import species_names
from dnabert2_jax.cli.pretrain import tell_of_run
from dnabert2_jax.config import load_settings
from dnabert2_jax.errors import UserError
from dnabert2_jax.host_memory import keep_freed_memory
from dnabert2_jax.settings import PretrainSettings

if TYPE_CHECKING:
    from dnabert2_jax.evaluation.experiments.arms import Arm

_VOCABULARY_EXAMPLE = """examples:
  dnabert2 experiment vocabulary --fasta yeast.fa.gz ecoli.fa.gz --output sizes
  dnabert2 experiment vocabulary --fasta yeast.fa.gz --sizes 256,4096 --output sizes \\
      --pretrain small --training.steps 500 --data GUE --tasks tf/0,mouse/0

The same command goes on where it was interrupted; other sizes may be added. Settings of pre-training such as
--training.steps are those of dnabert2 pretrain. Models are scored by the paper's recipes; scores of
dnabert2 gue run --output OUTPUT/sizes/V/gue, with any settings, are taken up too."""

_TOKENIZERS_EXAMPLE = """example:
  dnabert2 experiment tokenizers small --fasta yeast.fa.gz ecoli.fa.gz --output tokenizers \\
      --training.steps 500 --data GUE --tasks tf/0,mouse/0

The arms: bpe; overlapping (k-mers, hidden in spans of k); separate (k-mers that do not overlap); equal-bases
(overlapping k-mers in windows over as many bases as BPE's). CONFIG is as for dnabert2 pretrain; vocabulary,
spans and, at equal bases, the length of windows are each arm's own. The same command goes on where it was
interrupted. Models are scored by the paper's recipes; scores of dnabert2 gue run --output
OUTPUT/arms/ARM/gue, with any settings, are taken up too."""

_FURTHER_EXAMPLE = """example:
  dnabert2 experiment further-pretraining --model zhihan1996/DNABERT-2-117M --data GUE --output further \\
      --exclude-test-overlaps

Settings are those of the packaged configuration continue_gue. OUTPUT/left_out.json counts what overlaps the
test sets; OUTPUT/pretraining is a run folder as of dnabert2 pretrain, with the model in its folder model."""

_COST_EXAMPLE = """example:
  dnabert2 experiment cost --output cost"""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 experiment", description="The other experiments of the DNABERT-2 paper.")
    actions = parser.add_subparsers(dest="action", required=True)
    _add_vocabulary(actions)
    _add_tokenizers(actions)
    _add_further(actions)
    _add_cost(actions)
    plain, overrides = split_settings(words)
    arguments = parser.parse_args(plain)
    if overrides and not arguments.takes_settings:
        raise UserError(f"dnabert2 experiment {arguments.action}: takes no settings such as {overrides[0]}")
    arguments.run(arguments, overrides)


def _add_vocabulary(actions) -> None:
    vocabulary = actions.add_parser(
        "vocabulary",
        help="token length and cost of BPE vocabularies (Figure 3)",
        description="Learns BPE vocabularies of several sizes and measures them on held-out text.",
        epilog=_VOCABULARY_EXAMPLE,
    )
    _add_genomes(vocabulary)
    vocabulary.add_argument(
        "--sizes",
        type=_sizes,
        metavar="V,…",
        help="sizes of the vocabularies (default 256,512,…,32768, as in the paper)",
    )
    vocabulary.add_argument(
        "--pretrain", metavar="CONFIG", help="pre-train a model with each, as dnabert2 pretrain does"
    )
    _add_tasks(vocabulary)
    vocabulary.set_defaults(run=_vocabulary, takes_settings=True)


def _add_tokenizers(actions) -> None:
    tokenizers = actions.add_parser(
        "tokenizers",
        help="BPE against k-mers with the same model and steps (Table 10)",
        description="Pre-trains the same model for the same steps with different tokenizers.",
        epilog=_TOKENIZERS_EXAMPLE,
    )
    tokenizers.add_argument("config", metavar="CONFIG", help="a TOML file, or a packaged configuration")
    _add_genomes(tokenizers)
    tokenizers.add_argument("--vocab-size", type=positive, default=4096, help="of BPE (default 4096)")
    tokenizers.add_argument("--k", type=positive, default=6, help="letters of a k-mer (default 6)")
    tokenizers.add_argument("--arms", nargs="+", metavar="ARM", help="which to train now (default all)")
    _add_tasks(tokenizers)
    tokenizers.set_defaults(run=_tokenizers, takes_settings=True)


def _add_further(actions) -> None:
    further = actions.add_parser(
        "further-pretraining",
        help="further pre-training on GUE's training sets (♦)",
        description="Pre-trains a model further on the training sequences of GUE.",
        epilog=_FURTHER_EXAMPLE,
    )
    further.add_argument("--model", required=True, metavar="M", help="a model folder or hub id")
    further.add_argument("--data", required=True, metavar="DIR", help="the GUE sets")
    further.add_argument("--output", required=True, metavar="DIR", help="the folder to make, or to go on in")
    further.add_argument(
        "--exclude-test-overlaps",
        action="store_true",
        help="leave out training rows that overlap a test sequence of any set by half or more",
    )
    _add_workers(further)
    further.set_defaults(run=_further, takes_settings=True)


def _add_cost(actions) -> None:
    cost = actions.add_parser(
        "cost",
        help="parameters and FLOPs beside the paper's (Table 3)",
        description="Counts parameters and FLOPs of DNABERT, the Nucleotide Transformer and DNABERT-2.",
        epilog=_COST_EXAMPLE,
    )
    cost.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    cost.set_defaults(run=_cost, takes_settings=False)


def _add_genomes(parser: argparse.ArgumentParser) -> None:
    add_sample_arguments(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make, or to go on in")
    _add_workers(parser)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        help="threads that tokenise (default all cores)",
    )


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="GUE sets to score the models on")
    parser.add_argument(
        "--tasks",
        type=comma_separated,
        default=["all"],
        metavar="NAME,…",
        help="with --data: which (default all)",
    )
    parser.add_argument("--seeds", type=positive, default=3, help="with --data: runs of each (default 3)")


def _vocabulary(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from dnabert2_jax.evaluation.experiments import vocabulary_sweep
    from dnabert2_jax.evaluation.experiments.experiment_folder import claimed

    if overrides and not arguments.pretrain:
        raise UserError(f"{overrides[0]} is a setting of pre-training; name a configuration by --pretrain")
    if arguments.data and not arguments.pretrain:
        raise UserError("--data is for scoring models; name a configuration to pre-train by --pretrain")
    sizes = vocabulary_sweep.check_sizes(arguments.sizes or vocabulary_sweep.PAPER_SIZES)
    species = species_names(arguments.fasta)
    settings = _training_settings(arguments.pretrain, overrides) if arguments.pretrain else None
    _check_tasks(arguments)
    sample = {"sample_bases": arguments.sample_bases, "seed": arguments.seed}
    output = Path(arguments.output)
    with claimed(output, vocabulary_sweep.identity_of(species, **sample)):
        measures = vocabulary_sweep.sweep_vocabularies(species, sizes, output, **sample, tell=_tell)
        rows = vocabulary_sweep.write_sweep(output, measures, species)
        if settings is not None:
            from dnabert2_jax.evaluation.experiments.arms import arm_of, pretrain_arm
            from dnabert2_jax.training.pretrain import pretrain

            for size in sizes:
                folder = vocabulary_sweep.size_folder(output, size)
                arm = arm_of(f"BPE {size}", folder, species, settings, _tell, workers=arguments.workers)
                pretrain_arm(arm, pretrain, _tell)
                _score(arm, arguments)
                rows = vocabulary_sweep.write_sweep(output, measures, species)
    last = rows[-1]
    print(
        f"{output}: {len(rows)} vocabularies; {last['vocab_size']:,} tokens make text "
        f"{last['bases_per_token']:.2f} times shorter, at {last['relative_flops']:.2f} of the FLOPs of "
        f"{rows[0]['vocab_size']:,}; more in {output / 'report.html'}"
    )


def _tokenizers(arguments: argparse.Namespace, overrides: list[str]) -> None:
    settings = _training_settings(arguments.config, overrides)

    from dnabert2_jax.evaluation.experiments.arms import pretrain_arm
    from dnabert2_jax.evaluation.experiments.experiment_folder import claimed
    from dnabert2_jax.evaluation.experiments.tokenizer_ablation import ARMS, TokenizerAblation
    from dnabert2_jax.training.pretrain import pretrain

    _check_tasks(arguments)
    chosen = arguments.arms or ARMS
    for name in chosen:
        if name not in ARMS:
            raise UserError(f"there is no arm {name!r}; the arms are {', '.join(ARMS)}")
    ablation = TokenizerAblation(
        species=species_names(arguments.fasta),
        settings=settings,
        output=Path(arguments.output),
        vocab_size=arguments.vocab_size,
        k=arguments.k,
        sample_bases=arguments.sample_bases,
        seed=arguments.seed,
        workers=arguments.workers,
        tell=_tell,
    )
    with claimed(ablation.output, ablation.identity()):
        for name in chosen:
            arm = ablation.arm(name)
            pretrain_arm(arm, pretrain, _tell)
            _score(arm, arguments)
            ablation.write()
    for arm in ablation.results().arms:
        print(
            f"{arm['name']}: {arm['masked_bits_per_base']:.4f} bits per base with all targets masked, "
            f"{arm['unigram_bits_per_base']:.4f} from token frequencies alone"
        )
    print(f"{ablation.output / 'report.html'}: which of these compare, and the rest")


def _further(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from dnabert2_jax.evaluation.experiments import further_pretraining
    from dnabert2_jax.evaluation.experiments.experiment_folder import claimed

    settings = further_pretraining.further_settings(arguments.model, overrides)
    _prepare_training(settings)

    from dnabert2_jax.training.pretrain import pretrain

    data, output = Path(arguments.data), Path(arguments.output)
    exclude: bool = arguments.exclude_test_overlaps
    identity = further_pretraining.identity_of(data, arguments.model, exclude_test_overlaps=exclude)
    with claimed(output, identity):
        text, corpus = output / "text.txt", output / "corpus"
        if not corpus.is_dir():
            sets = further_pretraining.collect_text(
                data, text, output / "left_out.json", exclude_test_overlaps=exclude, tell=_tell
            )
            total = further_pretraining.total(sets)
            print(
                f"{text}: {total['rows'] - total['left_out']:,} of {total['rows']:,} training rows of "
                f"{len(sets)} sets; {total['overlapping']:,} overlap a test sequence, {total['left_out']:,} "
                "are left out",
                flush=True,
            )
            further_pretraining.build_text_corpus(text, arguments.model, corpus, workers=arguments.workers)
        run = pretrain(settings, corpus, output / "pretraining")
    tell_of_run(run)


def _cost(arguments: argparse.Namespace, _: list[str]) -> None:
    from dnabert2_jax.evaluation.experiments.cost_tables import write_cost
    from dnabert2_jax.files import refuse_existing

    output = Path(arguments.output)
    refuse_existing(output)
    print(write_cost(output), end="")
    print(f"{output / 'report.html'}: the same as a page")


def _check_tasks(arguments: argparse.Namespace) -> None:
    """Refuses tasks that cannot be scored, before hours are spent on models."""
    if arguments.data:
        from dnabert2_jax.data.gue_sets import choose_present

        choose_present(Path(arguments.data), arguments.tasks, whole=True)


def _score(arm: "Arm", arguments: argparse.Namespace) -> None:
    if arguments.data:
        from dnabert2_jax.evaluation.experiments.arms import score_arm

        score_arm(arm, Path(arguments.data), arguments.tasks, arguments.seeds, _tell)


def _training_settings(config: str, overrides: list[str]) -> PretrainSettings:
    settings = load_settings(PretrainSettings, config, overrides)
    _prepare_training(settings)
    return settings


def _prepare_training(settings: PretrainSettings) -> None:
    """What has to be done before anything touches a device; refuses what the devices cannot split."""
    keep_freed_memory(settings.training.keep_freed_memory)

    from dnabert2_jax.parallel.mesh import make_mesh
    from dnabert2_jax.training.compilation_cache import use_compilation_cache
    from dnabert2_jax.training.divisibility import refuse_what_does_not_divide

    use_compilation_cache(settings.training.compilation_cache)
    refuse_what_does_not_divide(settings, make_mesh(settings.mesh))


def _sizes(text: str) -> list[int]:
    return [int(word) for word in comma_separated(text)]


_sizes.__name__ = "list of whole numbers"


def _tell(sentence: str) -> None:
    if sys.stderr.isatty():
        print(sentence, file=sys.stderr, flush=True)
