"""The ``bitspike`` command. Torch is imported only by the commands that need it."""

from .app import main

__all__ = ["main"]
