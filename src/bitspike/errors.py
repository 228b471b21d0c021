"""Errors shared by the parts of bitspike; importing this file imports nothing else."""

__all__ = ["ArtifactError", "BitspikeError", "ConfigError", "LoweringError"]


class BitspikeError(ValueError):
    """Something the caller gave cannot be used; the message names it and what is accepted."""


class ArtifactError(BitspikeError):
    """An artifact file is missing, damaged, of an unknown version or internally inconsistent."""


class ConfigError(BitspikeError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class LoweringError(BitspikeError):
    """A trained model holds something that has no exact integer form; names the layer and the reason."""
