"""Architectures, one file per family, known by name through a decorator registry."""

from . import bestformer, qkformer, resnet, sei_resnet, sequential, snnvit, spikformer, spikingformer, vgg
from .former_configs import PUBLISHED_FORMERS, published_former
from .registry import MODELS, create_model, list_models, register_model

__all__ = [
    "MODELS",
    "PUBLISHED_FORMERS",
    "bestformer",
    "create_model",
    "list_models",
    "published_former",
    "qkformer",
    "register_model",
    "resnet",
    "sei_resnet",
    "sequential",
    "snnvit",
    "spikformer",
    "spikingformer",
    "vgg",
]
