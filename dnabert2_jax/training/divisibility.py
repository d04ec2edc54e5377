"""What a mesh cannot split evenly, refused by the name of its setting before anything is computed."""

from jax.sharding import Mesh

from dnabert2_jax.errors import UserError
from dnabert2_jax.model.architecture import Architecture
from dnabert2_jax.parallel.mesh import SEQUENCE, TENSOR, row_parts
from dnabert2_jax.settings import FinetuneSettings, PretrainSettings


def refuse_what_does_not_divide(settings: PretrainSettings, mesh: Mesh) -> None:
    """Raises UserError where batch, windows or model of pre-training cannot be split over the mesh."""
    training = settings.training
    _refuse_batch(training.batch_size, mesh, training.accumulate)
    _refuse_size("data.sequence_length", settings.data.sequence_length, SEQUENCE, mesh)
    _refuse_model(settings.model, mesh)


def refuse_finetuning_that_does_not_divide(
    settings: FinetuneSettings, architecture: Architecture, mesh: Mesh
) -> None:
    """Raises UserError where batch or model of fine-tuning cannot be split over the mesh."""
    if mesh.shape[SEQUENCE] > 1:
        raise UserError(
            f"mesh.{SEQUENCE} is {mesh.shape[SEQUENCE]}, but fine-tuning has rows of several lengths, "
            "which are not split; set it to 1"
        )
    _refuse_batch(settings.training.batch_size, mesh)
    _refuse_model(architecture, mesh)


def _refuse_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    rows = row_parts(mesh)
    if batch_size % (rows * accumulate):
        parts = f", times training.accumulate {accumulate}" if accumulate > 1 else ""
        raise UserError(
            f"training.batch_size {batch_size} does not divide by the {rows} devices that split it{parts}"
        )


def _refuse_model(architecture: Architecture, mesh: Mesh) -> None:
    for name in ("num_attention_heads", "intermediate_size"):
        _refuse_size(f"model.{name}", getattr(architecture, name), TENSOR, mesh)


def _refuse_size(name: str, size: int, axis: str, mesh: Mesh) -> None:
    if size % mesh.shape[axis]:
        raise UserError(f"{name} {size} does not divide by mesh.{axis} {mesh.shape[axis]}")
