"""`dnabert2 doctor`: what this machine has, which attention kernel will run, and why."""

from collections.abc import Mapping
from typing import Any

from dnabert2_jax.cli.arguments import Parser

_EXAMPLES = """example:
  dnabert2 doctor

Lists versions, devices and memory; for rows of some lengths the body of the attention op that computes them
here; and why bodies that come before it are not used."""

_LENGTHS, _TOKENS = (128, 512, 2048, 8192), 16384
_HEADS, _HEAD_WIDTH = 12, 64


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser("dnabert2 doctor", description="Tells what this machine has.", epilog=_EXAMPLES)
    parser.parse_args(words)

    import jax

    from dnabert2_jax.training.environment import describe_environment

    for name, value in describe_environment().items():
        print(f"{name:<14}{value}")
    for line in _memory({str(device): device.memory_stats() or {} for device in jax.local_devices()}):
        print(f"{'memory':<14}{line}")
    for line in _unused_hardware(jax.default_backend()):
        print(f"{'note':<14}{line}")
    print()
    device = jax.devices()[0]
    print("\n".join(_attention(device.platform, device.device_kind)))


def _memory(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What each device has, where it tells, and the machine."""
    import os

    limits = {name: stored["bytes_limit"] for name, stored in statistics.items() if "bytes_limit" in stored}
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        *(f"{limit / 2**30:.1f} GiB on {name}" for name, limit in limits.items()),
        f"{machine / 2**30:.1f} GiB in the machine, {os.cpu_count()} cores",
    ]


def _unused_hardware(backend: str) -> list[str]:
    from pathlib import Path

    if backend == "cpu" and Path("/dev/nvidiactl").exists():
        return ["there is an NVIDIA GPU that JAX does not see; pip install 'dnabert2-jax[gpu]' lets it"]
    return []


def _attention(platform: str, device_kind: str) -> list[str]:
    """A table of the bodies that run, and below it why others do not."""
    from dnabert2_jax.kernels.bodies import Request, explain_choice

    dtypes = ("float32", "bfloat16")
    lines = [
        f"attention     {_HEADS} heads of {_HEAD_WIDTH}, {_TOKENS} tokens in a batch",
        f"{'  tokens':<14}" + "".join(f"{dtype:<20}" for dtype in dtypes),
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for length in _LENGTHS:
        running = []
        for dtype in dtypes:
            request = Request(
                platform, device_kind, dtype, _TOKENS // length, length, length, _HEADS, _HEAD_WIDTH,
                packed=True,
            )  # fmt: skip
            for body, verdict in explain_choice(request):
                if verdict == "runs":
                    running.append(body)
                elif verdict != "not needed":
                    reasons.setdefault((body, verdict), []).append(f"{length} {dtype}")
        lines.append(f"  {length:<12}" + "".join(f"{body:<20}" for body in running))
    everywhere = len(_LENGTHS) * len(dtypes)
    for (body, verdict), where in reasons.items():
        lines.append(f"  {body}: {verdict}" + ("" if len(where) == everywhere else f" ({', '.join(where)})"))
    return lines
