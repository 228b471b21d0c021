"""What a training stage is: plain data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ..errors import ConfigError
from ..ops import winograd_convolutions

__all__ = ["CONVOLUTIONS", "OPTIMIZERS", "PRECISIONS", "SCHEDULES", "Runtime", "TrainConfig"]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
CONVOLUTIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {  # what training steps run inside of
    "torch": nullcontext,
    "winograd": winograd_convolutions,
}


@dataclass(frozen=True)
class TrainConfig:
    """One training stage.

    batch_size is the global one, over all processes. learning_rate falls from its value by ``schedule``: "cosine" to
    0, "step" by ``gamma`` at each of ``milestones`` (epochs), after ``warmup_epochs`` of linear growth. weight_decay
    acts on convolution and linear weights only. mixup is the Beta parameter, 0 for none. augment names
    transformations of ``bitspike.data``. gradient_clip: largest gradient norm, 0 for none.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    augment: tuple[str, ...] = ()
    precision: str = "32-true"
    gradient_clip: float = 0.0

    def __post_init__(self) -> None:
        for field, accepted in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, field) not in accepted:
                raise ConfigError(f"{field} is {getattr(self, field)!r}, accepted: {', '.join(accepted)}")
        for field, low in (("epochs", 0), ("batch_size", 1)):
            if getattr(self, field) < low:
                raise ConfigError(f"{field} is {getattr(self, field)}, accepted: {low} or more")
        for field in ("learning_rate", "momentum", "weight_decay", "warmup_epochs", "mixup", "gradient_clip", "gamma"):
            if not getattr(self, field) >= 0:
                raise ConfigError(f"{field} is {getattr(self, field)}, accepted: 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}, accepted: 0 to below 1")


@dataclass(frozen=True)
class Runtime:
    """Where and how to train: values of Lightning Fabric. Under torchrun, ``devices`` is the processes per machine.

    convolutions: "torch", or "winograd" for fewer multiplications on a CPU, in training steps only; equal up to rounding.
    keep_freed_memory: for the whole process, see :func:`bitspike.learn.keep_freed_memory`.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    convolutions: str = "torch"
    keep_freed_memory: bool = False

    def __post_init__(self) -> None:
        if self.convolutions not in CONVOLUTIONS:
            raise ConfigError(f"convolutions is {self.convolutions!r}, accepted: {', '.join(CONVOLUTIONS)}")
