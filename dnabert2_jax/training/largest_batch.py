"""The largest batch that fits a device's memory: settings and devices in, a number of rows out.

What a step takes is linear in its rows, so that two batches show what all others take. Close to the limit
compilers find ways to save: somewhat more rows may fit than are told here.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from dnabert2_jax.parallel.mesh import make_mesh, row_parts
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.absent import Memory, compile_step, memory_of


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits, over all devices, 0 for none; and how that is known."""

    batch_size: int
    source: str


def find_largest_batch(settings: PretrainSettings, devices: list[Any], memory: Memory) -> LargestBatch:
    """Extrapolates from two batches; one of them is that of the settings, where it fits.

    Args:
      settings: of the run.
      devices: as `parallel.topologies.absent_devices` gives them.
      memory: of the batch of the settings.
    """
    # So many rows, or a multiple of it, can be split over devices and into micro-batches.
    unit = row_parts(make_mesh(settings.mesh, devices)) * settings.training.accumulate
    batch = settings.training.batch_size
    if memory.fits and memory.total is not None:
        known = {batch: memory.total}
        other = batch // 2 // unit * unit
        others = [other if other and memory.total > memory.usable / 2 else 2 * batch]
    else:
        known = {}
        share = 0.5 if memory.total is None else 0.5 * memory.usable / memory.total
        first = max(2 * unit, int(share * batch) // unit * unit)
        others = [first, first // 2 // unit * unit]
    for rows in others:
        found = memory_of(compile_step(with_batch(settings, rows), devices), devices[0])
        if found.total is None or found.arguments is None:
            return LargestBatch(0, f"a batch of {rows} does not fit either")
        known[rows] = found.total
    (fewer, less), (more, most) = sorted(known.items())
    rows = fewer + (memory.usable - less) / ((most - less) / (more - fewer))
    return LargestBatch(
        max(0, int(rows // unit * unit)),
        f"memory is linear in the rows: compiled with {fewer:,} and {more:,}",
    )


def with_batch(settings: PretrainSettings, rows: int) -> PretrainSettings:
    """The settings with another batch size."""
    return msgspec.structs.replace(
        settings, training=msgspec.structs.replace(settings.training, batch_size=rows)
    )
