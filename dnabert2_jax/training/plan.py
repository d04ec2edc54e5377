"""What a pre-training run would take on hardware that is not here: settings and a topology in, figures out.

The whole step is compiled. Memory, collectives and bytes are read off the compiled program; the time is the
least that the makers' figures for the chip allow, and no measurement.
"""

from collections import Counter
from dataclasses import dataclass

import jax

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.flops import training_flops
from dnabert2_jax.parallel.chips import Chip
from dnabert2_jax.parallel.hlo import Collective, read_traffic
from dnabert2_jax.parallel.mesh import make_mesh
from dnabert2_jax.parallel.topologies import absent_devices
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.absent import (
    Memory,
    TooLarge,
    attention_bodies,
    compile_step,
    listed_chip,
    memory_of,
)
from dnabert2_jax.training.largest_batch import LargestBatch, find_largest_batch

_LARGEST_TOPOLOGY = 256


@dataclass(frozen=True)
class CollectiveSum:
    """All collectives of one kind and group size: how many, the bytes of their arrays, and bytes sent."""

    kind: str
    group: int
    count: int
    bytes: int
    sent: int


@dataclass(frozen=True)
class Work:
    """What a step does, on one device.

    Attributes:
      flops, flops_source: floating-point operations, and who counted them.
      bytes, bytes_source: read from and written to main memory, and who counted them.
      xla_bytes: "bytes accessed" of XLA's cost analysis, which counts on-chip memory too; None where it
        gives none.
      collectives: what is exchanged.
    """

    flops: float
    flops_source: str
    bytes: int
    bytes_source: str
    xla_bytes: int | None
    collectives: list[CollectiveSum]


@dataclass(frozen=True)
class Bound:
    """The roofline of a step, in seconds.

    Attributes:
      compute, memory, links: what each alone would take at the chip's peak.
      limited_by: the longest of them: no step is faster.
      step: that time.
      step_without_overlap: their sum, if each waited for the others.
      tokens_per_second: over all devices, in a step of that length.
      mfu: model FLOP/s in such a step, as a share of the peak.
    """

    compute: float
    memory: float
    links: float
    limited_by: str
    step: float
    step_without_overlap: float
    tokens_per_second: float
    mfu: float


@dataclass(frozen=True)
class Plan:
    """All that is found out about a run on a topology.

    Attributes:
      topology, device_kind, chip: what was compiled for.
      devices: how many.
      mesh: size of each axis.
      batch_size, sequence_length: rows over all devices, and tokens of each.
      attention: bodies of the attention op, and what becomes of each; one "runs".
      model_flops: of a step over all devices, by formula.
      memory: of a device.
      work, bound: None where the step does not fit.
      largest_batch: None where it was not asked for.
    """

    topology: str
    device_kind: str
    chip: str
    devices: int
    mesh: dict[str, int]
    batch_size: int
    sequence_length: int
    attention: list[tuple[str, str]]
    model_flops: float
    memory: Memory
    work: Work | None
    bound: Bound | None
    largest_batch: LargestBatch | None


def plan(settings: PretrainSettings, topology: str, *, largest_batch: bool = True) -> Plan:
    """Compiles the training step for a topology and says what it takes.

    Args:
      settings: of the run.
      topology: as in `absent_devices`.
      largest_batch: find the largest batch that fits too, by up to two more compilations.

    Raises:
      UserError: there is no such topology, it is too large, or the settings do not divide over it.
    """
    devices = absent_devices(topology)
    if len(devices) > _LARGEST_TOPOLOGY:
        raise UserError(f"{topology} has {len(devices)} devices; plan for {_LARGEST_TOPOLOGY} at most")
    mesh = make_mesh(settings.mesh, devices)
    chip = listed_chip(devices[0])
    compiled = compile_step(settings, devices)
    memory = memory_of(compiled, devices[0])
    flops = step_flops(settings)
    work = None if isinstance(compiled, TooLarge) else _work(compiled, flops / mesh.size)
    return Plan(
        topology=topology,
        device_kind=devices[0].device_kind,
        chip=chip.name,
        devices=mesh.size,
        mesh=dict(mesh.shape),
        batch_size=settings.training.batch_size,
        sequence_length=settings.data.sequence_length,
        attention=attention_bodies(settings, mesh),
        model_flops=flops,
        memory=memory,
        work=work,
        bound=None if work is None else roofline(settings, work, chip, flops / mesh.size),
        largest_batch=find_largest_batch(settings, devices, memory) if largest_batch else None,
    )


def step_flops(settings: PretrainSettings) -> float:
    """Model FLOPs of a step whose rows are full and of one segment."""
    tokens = settings.training.batch_size * settings.data.sequence_length
    return training_flops(
        settings.model,
        tokens=tokens,
        pairs=tokens * settings.data.sequence_length,
        predicted=tokens * settings.training.masking_rate,
    )


def _work(compiled: jax.stages.Compiled, model_flops: float) -> Work:
    text = compiled.as_text()
    assert text is not None
    traffic = read_traffic(text)
    costs = compiled.cost_analysis() or {}
    flops, source = costs.get("flops", 0.0), "XLA's cost analysis"
    if not flops:
        flops, source = model_flops, "our formula; XLA gives none here"
    elif traffic.has_loops:
        flops, source = model_flops, "our formula; XLA counts a loop's body once"
    accessed = costs.get("bytes accessed")
    return Work(
        flops=flops,
        flops_source=source,
        bytes=traffic.main_memory,
        bytes_source="arrays in main memory that the compiled instructions read and write",
        xla_bytes=None if accessed is None else int(accessed),
        collectives=_summed(traffic.collectives),
    )


def _summed(collectives: list[Collective]) -> list[CollectiveSum]:
    counts: Counter[tuple[str, int]] = Counter()
    sizes: Counter[tuple[str, int]] = Counter()
    sent: dict[tuple[str, int], float] = {}
    for one in collectives:
        key = one.kind, one.group
        counts[key] += one.times
        sizes[key] += one.times * one.bytes
        sent[key] = sent.get(key, 0.0) + one.sent
    return [CollectiveSum(*key, counts[key], sizes[key], round(sent[key])) for key in sorted(counts)]


def roofline(settings: PretrainSettings, work: Work, chip: Chip, model_flops: float) -> Bound:
    """The least time that a step can take.

    Args:
      settings: of the run.
      work: of a step on one device.
      chip: the device.
      model_flops: of a step, by formula, on one device.
    """
    times = {
        "compute": work.flops / chip.flops,
        "memory": work.bytes / chip.bandwidth,
        "links": sum(one.sent for one in work.collectives) / chip.link,
    }
    limited_by = max(times, key=lambda name: times[name])
    step = times[limited_by]
    tokens = settings.training.batch_size * settings.data.sequence_length
    return Bound(
        **times,
        limited_by=limited_by,
        step=step,
        step_without_overlap=sum(times.values()),
        tokens_per_second=tokens / step,
        mfu=model_flops / chip.flops / step,
    )
