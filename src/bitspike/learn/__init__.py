"""Losses, schedules and the Trainer."""

from .checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from .config import Runtime, TrainConfig
from .evaluate import Evaluation, evaluate
from .loss import Objective, SpikeRegulation, spike_regulation, time_mean_cross_entropy
from .schedule import learning_rate_factor
from .tensorboard import tensorboard_logger
from .trainer import Trainer

__all__ = [
    "Evaluation",
    "Objective",
    "Runtime",
    "SpikeRegulation",
    "TrainConfig",
    "Trainer",
    "evaluate",
    "learning_rate_factor",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "save_weights",
    "spike_regulation",
    "tensorboard_logger",
    "time_mean_cross_entropy",
]
