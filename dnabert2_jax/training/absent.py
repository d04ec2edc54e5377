"""The training step, compiled for devices that need not exist: settings and devices in, a program out.

Nothing is computed and no parameter exists: the state is known by its shapes. Out too: what the program
takes of a device's memory, and which body its attention has.
"""

import re
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dnabert2_jax.kernels.bodies import Request, explain_choice
from dnabert2_jax.parallel.chips import Chip, chip_of
from dnabert2_jax.parallel.mesh import SEQUENCE, TENSOR, make_mesh, row_parts
from dnabert2_jax.settings import PretrainSettings
from dnabert2_jax.training.divisibility import refuse_what_does_not_divide
from dnabert2_jax.training.optimizer import make_optimizer
from dnabert2_jax.training.pretrain_step import make_train_step
from dnabert2_jax.training.state import initial_state

# At higher levels libtpu tries several schedules of each kernel, which takes longer than all the rest.
# Fusions and collectives are the same, and memory is within 1 %.
_TPU_OPTIONS = {"optimization_level": "O0"}
_SIZES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class TooLarge:
    """A program that the compiler could not fit into a device's memory.

    Attributes:
      bytes: what its temporaries would take, as far as the compiler says.
    """

    bytes: int | None


@dataclass(frozen=True)
class Memory:
    """Bytes on one device; None for what the compiler did not say because it gave up.

    Attributes:
      arguments: the state and the device's part of a batch.
      temporaries: activations, gradients and whatever else lives during a step.
      outputs: results that do not take the place of arguments.
      code: the program itself.
      total: all of these.
      usable: what a program may have.
    """

    arguments: int | None
    temporaries: int | None
    outputs: int | None
    code: int | None
    total: int | None
    usable: int

    @property
    def fits(self) -> bool:
        """Whether a run would start."""
        return self.arguments is not None and self.total is not None and self.total <= self.usable


def compile_step(settings: PretrainSettings, devices: list[Any]) -> jax.stages.Compiled | TooLarge:
    """Compiles the step that `pretrain` would run on such devices.

    Args:
      settings: of the run.
      devices: as `parallel.topologies.absent_devices` gives them.

    Raises:
      UserError: batch, windows or heads do not divide as [mesh] asks.
    """
    mesh = make_mesh(settings.mesh, devices)
    refuse_what_does_not_divide(settings, mesh)
    training, length = settings.training, settings.data.sequence_length
    optimizer = make_optimizer(settings.optimizer, training.steps)
    state = jax.eval_shape(lambda: initial_state(settings.model, optimizer, training.seed))
    row = jax.ShapeDtypeStruct((training.batch_size, length), jnp.int32)
    batch = {"input_ids": row, "segment_ids": row}
    if training.repeat_weight != 1.0:
        batch["soft_mask"] = jax.ShapeDtypeStruct(row.shape, jnp.uint8)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), warnings.catch_warnings():
        # That a kernel is not used is told by `attention_bodies`.
        warnings.filterwarnings("ignore", "attention runs in")
        lowered = make_train_step(settings, optimizer, mesh).lower(state, batch)
        try:
            return lowered.compile(_TPU_OPTIONS if devices[0].platform == "tpu" else None)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            found = re.search(r"\(([\d.]+)([KMGT])\)", str(error))
            return TooLarge(int(float(found[1]) * _SIZES[found[2]]) if found else None)


def memory_of(compiled: jax.stages.Compiled | TooLarge, device: Any) -> Memory:
    """What a program takes of a device's memory."""
    chip = listed_chip(device)
    usable = int(chip.memory * chip.usable)
    if isinstance(compiled, TooLarge):
        return Memory(None, compiled.bytes, None, None, compiled.bytes, usable)
    stats = compiled.memory_analysis()
    assert stats is not None
    arguments, temporaries = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    code = stats.generated_code_size_in_bytes
    return Memory(arguments, temporaries, outputs, code, arguments + temporaries + outputs + code, usable)


def listed_chip(device: Any) -> Chip:
    """The chip of a device that can be compiled for, all of which are listed."""
    chip = chip_of(device.device_kind)
    assert chip is not None, f"parallel/chips.py lacks {device.device_kind}"
    return chip


def attention_bodies(settings: PretrainSettings, mesh: Mesh) -> list[tuple[str, str]]:
    """Bodies of the attention op in their order, and what becomes of each on the mesh's devices."""
    device = mesh.devices.flat[0]
    model, length = settings.model, settings.data.sequence_length
    tensor, sequence = mesh.shape[TENSOR], mesh.shape[SEQUENCE]
    heads = model.num_attention_heads
    request = Request(
        platform="gpu" if device.platform == "cuda" else device.platform,
        device_kind=device.device_kind,
        dtype=settings.training.compute_dtype,
        batch=max(1, settings.training.batch_size // row_parts(mesh)),
        q_length=length // sequence,
        k_length=length // sequence,
        heads=heads // tensor if heads % tensor == 0 else heads,
        head_width=model.head_width,
        packed=sequence == 1,
        whole_rows=sequence == 1,
    )
    return explain_choice(request)
