"""Analog samples to what a spiking network takes: a sequence over T time steps."""

from .direct import DirectEncoding

__all__ = ["DirectEncoding"]
