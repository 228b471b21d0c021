"""Losses, distillation, schedules and the Trainer."""

from .checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from .config import Runtime, TrainConfig
from .distill import Distillation, Distiller, attach_projections, remove_projections
from .distill_terms import FeatureTerm, LabelTerm, LogitTerm
from .evaluate import Evaluation, evaluate
from .loss import BatchObjective, Objective, SpikeRegulation, spike_regulation, time_mean_cross_entropy
from .propagate import Propagated, Propagation, per_step, whole_sequence
from .schedule import learning_rate_factor
from .tensorboard import tensorboard_logger
from .time_checkpoint import checkpointed
from .trainer import Trainer

__all__ = [
    "BatchObjective",
    "Distillation",
    "Distiller",
    "Evaluation",
    "FeatureTerm",
    "LabelTerm",
    "LogitTerm",
    "Objective",
    "Propagated",
    "Propagation",
    "Runtime",
    "SpikeRegulation",
    "TrainConfig",
    "Trainer",
    "attach_projections",
    "checkpointed",
    "evaluate",
    "learning_rate_factor",
    "load_checkpoint",
    "load_weights",
    "per_step",
    "remove_projections",
    "save_checkpoint",
    "save_weights",
    "spike_regulation",
    "tensorboard_logger",
    "time_mean_cross_entropy",
    "whole_sequence",
]
