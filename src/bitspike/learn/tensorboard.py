"""Optional TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import BitspikeError

__all__ = ["tensorboard_logger"]


def tensorboard_logger(directory: Path) -> Callable[[int, dict[str, float]], None]:
    """A Trainer logger that writes every figure of an epoch's record to ``directory``.

    Raises BitspikeError naming the extra when TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BitspikeError("TensorBoard is not installed: pip install 'bitspike[tensorboard]'") from None
    writer = SummaryWriter(str(directory))

    def log(epoch: int, record: dict[str, float]) -> None:
        for name, value in record.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return log
