"""Losses, distillation, schedules and the Trainer."""

from .allocator import keep_freed_memory
from .checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from .config import Runtime, TrainConfig
from .distill import Distillation, Distiller, attach_projections, remove_projections
from .distill_terms import FeatureTerm, LabelTerm, LogitTerm
from .evaluate import Evaluation, evaluate
from .loss import (
    BatchObjective,
    MeanLogits,
    Objective,
    SpikeRegulation,
    mean_logit_cross_entropy,
    spike_regulation,
    time_mean_cross_entropy,
)
from .propagate import Propagated, Propagation, per_step, whole_sequence
from .schedule import learning_rate_factor
from .teachers import TEACHERS, Teacher, build_teacher, check_teacher
from .tensorboard import tensorboard_logger
from .time_checkpoint import checkpointed
from .trainer import Trainer
from .two_heads import two_head_distillation

__all__ = [
    "TEACHERS",
    "BatchObjective",
    "Distillation",
    "Distiller",
    "Evaluation",
    "FeatureTerm",
    "LabelTerm",
    "LogitTerm",
    "MeanLogits",
    "Objective",
    "Propagated",
    "Propagation",
    "Runtime",
    "SpikeRegulation",
    "Teacher",
    "TrainConfig",
    "Trainer",
    "attach_projections",
    "build_teacher",
    "check_teacher",
    "checkpointed",
    "evaluate",
    "keep_freed_memory",
    "learning_rate_factor",
    "load_checkpoint",
    "load_weights",
    "mean_logit_cross_entropy",
    "per_step",
    "remove_projections",
    "save_checkpoint",
    "save_weights",
    "spike_regulation",
    "tensorboard_logger",
    "time_mean_cross_entropy",
    "two_head_distillation",
    "whole_sequence",
]
