"""`dnabert2 plan`: what a pre-training run would take on hardware that is not here."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from dnabert2_jax.cli.arguments import Parser, split_settings
from dnabert2_jax.config import load_settings, packaged_configs
from dnabert2_jax.files import atomic_file, check_writable
from dnabert2_jax.settings import PretrainSettings

if TYPE_CHECKING:
    from dnabert2_jax.training.plan import Plan

_EXAMPLES = """examples:
  dnabert2 plan dnabert2_117m --topology v5p:4x4x4
  dnabert2 plan dnabert2_117m --topology h100:8 --training.batch_size 8192 --output plan.json

The whole training step is compiled, for which no such hardware is needed. TPUs (v5e, v5p, v6e, tpu7x, by
their extent in chips) need libtpu, GPUs (a100, h100, h200, rtx4090, rtxpro6000, by their number in one
machine) JAX's CUDA plugin; pip install 'dnabert2-jax[aot]' brings both, best into an environment of its own.

packaged configurations: """


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 plan",
        usage="dnabert2 plan CONFIG --topology NAME [--output FILE] [--section.key value …]",
        description="Compiles a pre-training step for hardware that is not here; tells what it takes.",
        epilog=_EXAMPLES + ", ".join(packaged_configs(PretrainSettings)),
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a TOML file, or the name of a packaged configuration"
    )
    parser.add_argument("--topology", required=True, metavar="NAME", help="such as v5p:4x4x4 or h100:8")
    parser.add_argument("--output", metavar="FILE", help="writes the figures as JSON too")
    parser.add_argument(
        "--no-largest-batch",
        action="store_true",
        help="spares the compilations that tell the largest batch that fits",
    )
    plain, overrides = split_settings(words)
    arguments = parser.parse_args(plain)
    settings = load_settings(PretrainSettings, arguments.config, overrides)
    if arguments.output:
        check_writable(arguments.output)
    # Compilers for absent devices are in plugins that would otherwise look for devices that are there.
    os.environ["JAX_PLATFORMS"] = "cpu"

    from dnabert2_jax.training.plan import plan

    found = plan(settings, arguments.topology, largest_batch=not arguments.no_largest_batch)
    print("\n".join(_lines(found)))
    if arguments.output:
        with atomic_file(arguments.output, "w") as file:
            file.write(json.dumps(asdict(found), indent=1) + "\n")


def _lines(plan: "Plan") -> list[str]:
    mesh = ", ".join(f"{axis} {size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    running = next(body for body, verdict in plan.attention if verdict == "runs")
    lines = [
        f"{'hardware':<14}{plan.devices} × {plan.chip} ({plan.topology}); mesh: {mesh}",
        f"{'batch':<14}{plan.batch_size:,} windows of {plan.sequence_length} tokens",
        f"{'attention':<14}{running}",
        *(
            f"{'':<14}not {body}: {verdict}"
            for body, verdict in plan.attention
            if verdict not in ("runs", "not needed")
        ),
        *_memory(plan),
    ]
    if plan.work is not None and plan.bound is not None:
        work, bound = plan.work, plan.bound
        lines += [
            f"{'FLOPs':<14}{work.flops:.4g} per device and step ({work.flops_source}); "
            f"{plan.model_flops:.4g} of the model over all devices, by formula",
            f"{'bytes':<14}{work.bytes:.4g} per device and step ({work.bytes_source})"
            + (f"; XLA's own count is {work.xla_bytes:.4g}" if work.xla_bytes is not None else ""),
            *(
                f"{'collective' if first else '':<14}{one.count} × {one.kind} among {one.group}: "
                f"{_amount(one.bytes)} in all, a device sends {_amount(one.sent)}"
                for first, one in zip([True] + [False] * 99, work.collectives, strict=False)
            ),
            f"{'time':<14}at least {1000 * bound.step:.2f} ms per step, by {bound.limited_by}: "
            f"compute {1000 * bound.compute:.2f}, memory {1000 * bound.memory:.2f}, "
            f"links {1000 * bound.links:.2f}; {1000 * bound.step_without_overlap:.2f} if none overlap",
            f"{'speed':<14}at most {bound.tokens_per_second:,.0f} tokens/s, MFU {bound.mfu:.1%}",
        ]
    if plan.largest_batch is not None:
        lines.append(
            f"{'largest':<14}batch that fits: {plan.largest_batch.batch_size:,} windows "
            f"({plan.largest_batch.source})"
        )
    return lines


def _memory(plan: "Plan") -> list[str]:
    memory = plan.memory
    verdict = "fits" if memory.fits else "does not fit"
    if memory.arguments is None or memory.total is None:
        needs = "" if memory.total is None else f", temporaries alone would take {_amount(memory.total)}"
        return [f"{'memory':<14}{verdict}: {_amount(memory.usable)} are usable{needs}"]
    parts = ", ".join(
        f"{name} {_amount(size)}"
        for name, size in (
            ("arguments", memory.arguments),
            ("temporaries", memory.temporaries),
            ("outputs", memory.outputs),
            ("code", memory.code),
        )
        if size
    )
    return [f"{'memory':<14}{verdict}: {_amount(memory.total)} of {_amount(memory.usable)} usable; {parts}"]


def _amount(size: float) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size:.0f} bytes"
