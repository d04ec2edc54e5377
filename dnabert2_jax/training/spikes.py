"""Loss spikes, and where a run is in its data: the loss of each step in, whether to go back out.

All of it is a function of the losses, and goes into each checkpoint, so that a run which was killed decides
as it would have done. Batches are numbered; step s takes batch s - 1, plus those left out by going back.
"""

import math

import msgspec


class LossWatch(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the loss is higher than it was.

    Attributes:
      recent: the loss, smoothed over `patience` steps.
      level: the same before the present rise, smoothed over ten times as many.
      high: for how many steps in a row `recent` has been above `factor` times `level`.
    """

    recent: float | None = None
    level: float | None = None
    high: int = 0

    def after(self, loss: float, *, factor: float, patience: int) -> "LossWatch":
        """The watch one step on; a loss that is not finite is skipped here, as it is in training."""
        if not math.isfinite(loss):
            return self
        if self.recent is None or self.level is None:
            return LossWatch(recent=loss, level=loss)
        recent = self.recent + (loss - self.recent) / patience
        if recent > factor * self.level:
            # The level stands still, so that a spike that lasts does not become what is usual.
            return LossWatch(recent=recent, level=self.level, high=self.high + 1)
        return LossWatch(recent=recent, level=self.level + (recent - self.level) / (10 * patience))


class Rewind(msgspec.Struct, frozen=True, kw_only=True):
    """That a run went back: after `from_step`, to the state of `to_step`; `loss` is the smoothed one."""

    from_step: int
    to_step: int
    loss: float


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What a run knows of its way besides the training state."""

    rewinds: tuple[Rewind, ...] = ()
    watch: LossWatch = LossWatch()

    def data_position(self, step: int) -> int:
        """The number of the batch that comes after `step` steps, from 0."""
        return step + sum(rewind.from_step - rewind.to_step for rewind in self.rewinds)

    def rewinds_to(self, step: int) -> list[Rewind]:
        """Those that led to the state of `step`, in order."""
        return [rewind for rewind in self.rewinds if rewind.to_step == step]
