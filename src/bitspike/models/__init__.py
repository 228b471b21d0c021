"""Architectures, one file per family, known by name through a decorator registry."""

from . import resnet, sei_resnet, vgg
from .registry import MODELS, create_model, list_models, register_model

__all__ = ["MODELS", "create_model", "list_models", "register_model", "resnet", "sei_resnet", "vgg"]
