"""Analog samples to what a spiking network takes: a sequence over T time steps."""

from .columns import image_columns
from .direct import DirectEncoding

__all__ = ["DirectEncoding", "image_columns"]
