"""Compression as one verb: ``apply(model, config)``, a frozen dataclass per method and a handler beside it."""

from .config import (
    CompressionConfig,
    Trait,
    applied,
    apply,
    config_from_dict,
    config_from_json,
    config_to_dict,
    config_to_json,
    list_configs,
    register_config,
)
from .membrane import DynamicTanhMembrane, FreezeMembranes, FrozenTanhMembrane, PowerOfTwoMembrane, freeze_membranes
from .qsnn import QSNN, set_training_progress
from .rescaw import ReScaW, VanillaUniform, level_utilisation
from .weights import PlainSign, StandardizedBinarizer, SymmetricUniform

__all__ = [
    "QSNN",
    "CompressionConfig",
    "DynamicTanhMembrane",
    "FreezeMembranes",
    "FrozenTanhMembrane",
    "PlainSign",
    "PowerOfTwoMembrane",
    "ReScaW",
    "StandardizedBinarizer",
    "SymmetricUniform",
    "Trait",
    "VanillaUniform",
    "applied",
    "apply",
    "config_from_dict",
    "config_from_json",
    "config_to_dict",
    "config_to_json",
    "freeze_membranes",
    "level_utilisation",
    "list_configs",
    "register_config",
    "set_training_progress",
]
