"""Data sets by name: a decorator beside each loader, and one `load` for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bitspike.data.errors import DataError, unknown
from bitspike.data.partition import stratified_holdout
from bitspike.data.spec import DataBundle, DataSpec, Split

__all__ = ["Loaded", "list_datasets", "load", "register_dataset"]


class Loaded(NamedTuple):
    """What a loader returns: everything but the choice of validation samples."""

    spec: DataSpec
    train: Split
    test: Split


Loader = Callable[..., Loaded]
_LOADERS: dict[str, Loader] = {}  # name -> loader(root, *, its own options)


def register_dataset(name: str) -> Callable[[Loader], Loader]:
    """Register a loader; its first parameter is the root, its keyword-only ones are the accepted options.

    Raises DataError if the name is taken.
    """

    def register(loader: Loader) -> Loader:
        if name in _LOADERS:
            raise DataError(f"data set {name!r} is already registered by {_LOADERS[name].__module__}")
        _LOADERS[name] = loader
        return loader

    return register


def list_datasets() -> tuple[str, ...]:
    """The accepted names, sorted."""
    return tuple(sorted(_LOADERS))


def _options(loader: Loader) -> tuple[str, ...]:
    parameters = inspect.signature(loader).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def load(
    name: str,
    root: str | Path | None = None,
    *,
    seed: int = 0,
    validation_fraction: float = 0.1,
    **options: Any,
) -> DataBundle:
    """Load a data set and set part of its training samples aside for validation.

    `root` is the data set's folder or the folder above it. Without it, the environment variable
    BITSPIKE_DATA is looked at in the same way, then the official files are downloaded and checked.
    The validation part is stratified by class and depends on `seed` alone; the test split is the
    official one and depends on nothing. Raises DataError for an unknown name or option, and for a
    missing, corrupt or inconsistent file.
    """
    if name not in _LOADERS:
        raise unknown("data set", name, _LOADERS)
    loader = _LOADERS[name]
    for option in options:
        if option not in _options(loader):
            raise unknown(f"{name} option", option, _options(loader))
    if root is not None and not Path(root).is_dir():
        raise DataError(f"data root {str(root)!r} is not a folder; pass the one that holds {name}")
    spec, train, test = loader(None if root is None else Path(root), **options)
    kept, held = stratified_holdout(train.labels, validation_fraction, seed)
    return DataBundle(spec, train.take(kept), train.take(held), test)
