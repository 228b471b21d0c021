"""What named modules of a network give during a forward pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from ..errors import ConfigError

__all__ = ["record_outputs"]


@contextmanager
def record_outputs(model: nn.Module, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, the newest output of every module in ``names`` is in the dictionary, with its gradient.

    Raises ConfigError for a name that ``model`` has not.
    """
    modules = dict(model.named_modules())
    unknown = sorted(set(names) - set(modules))
    if unknown:
        raise ConfigError(
            f"{type(model).__name__} has no module {unknown[0]!r}, accepted: {', '.join(name for name in modules if name)}"
        )
    outputs: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in names:
            hook = modules[name].register_forward_hook(lambda _m, _i, out, name=name: outputs.__setitem__(name, out))
            hooks.callback(hook.remove)
        yield outputs
