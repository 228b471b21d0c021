"""Compression as one verb: ``apply(model, config)``, a frozen dataclass per method and a handler beside it."""

from .allocate import Allocation, allocate, allocation_front
from .binary import BinaryWeights
from .channels import ChannelGroup, KeepChannels, channel_groups, kept_channels, remove_channels
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
from .file_budget import allocate_file, allocation_record, weight_bytes
from .masks import Bake, FixedMask, FreezeMask, bake, freeze_mask, rewind
from .membrane import DynamicTanhMembrane, FreezeMembranes, FrozenTanhMembrane, PowerOfTwoMembrane, freeze_membranes
from .mixed import MixedBits, weight_layers
from .prune import Prune
from .published import published_ratios
from .qpsnn import QPSNN, VanillaQuantization
from .qsnn import QSNN, set_training_progress
from .rescaw import ReScaW, VanillaUniform, level_utilisation
from .scores import magnitude_scores, sca_scores, svs_scores
from .sensitivity import Sensitivity, layer_sensitivity
from .soft_threshold import SoftThreshold, SoftThresholdPruning, threshold_driver
from .sparsity import Sparsity, ThresholdSearch, initial_threshold, search_threshold, sparsity
from .standardized import StandardizedBinary
from .weights import PlainSign, StandardizedBinarizer, StandardizedSign, StraightThroughSign, SymmetricUniform
from .zero_channels import RemoveZeroChannels, zero_channels

__all__ = [
    "QPSNN",
    "QSNN",
    "Allocation",
    "Bake",
    "BinaryWeights",
    "ChannelGroup",
    "CompressionConfig",
    "DynamicTanhMembrane",
    "FixedMask",
    "FreezeMask",
    "FreezeMembranes",
    "FrozenTanhMembrane",
    "KeepChannels",
    "MixedBits",
    "PlainSign",
    "PowerOfTwoMembrane",
    "Prune",
    "ReScaW",
    "RemoveZeroChannels",
    "Sensitivity",
    "SoftThreshold",
    "SoftThresholdPruning",
    "Sparsity",
    "StandardizedBinarizer",
    "StandardizedBinary",
    "StandardizedSign",
    "StraightThroughSign",
    "SymmetricUniform",
    "ThresholdSearch",
    "Trait",
    "VanillaQuantization",
    "VanillaUniform",
    "allocate",
    "allocate_file",
    "allocation_front",
    "allocation_record",
    "applied",
    "apply",
    "bake",
    "channel_groups",
    "config_from_dict",
    "config_from_json",
    "config_to_dict",
    "config_to_json",
    "freeze_mask",
    "freeze_membranes",
    "initial_threshold",
    "kept_channels",
    "layer_sensitivity",
    "level_utilisation",
    "list_configs",
    "magnitude_scores",
    "published_ratios",
    "register_config",
    "remove_channels",
    "rewind",
    "sca_scores",
    "search_threshold",
    "set_training_progress",
    "sparsity",
    "svs_scores",
    "threshold_driver",
    "weight_bytes",
    "weight_layers",
    "zero_channels",
]
