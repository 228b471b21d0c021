"""Neurons by name and options, as a configuration file says them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import ConfigError
from ..ops.surrogate import SURROGATES
from .registry import NEURONS, Neuron

__all__ = ["named_neuron"]


def named_neuron(choice: str | Mapping[str, Any], time_steps: int) -> Callable[[], Neuron]:
    """What makes the neurons of ``choice``: a registered name, or an object with ``name`` and the neuron's own options.

    A neuron that is built for one length of sequence gets ``time_steps``, unless the options say another. ``surrogate`` is
    a name too. Raises ConfigError for an unknown name or option, and for what the neuron itself refuses.
    """
    options: dict[str, Any] = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in NEURONS:
        raise ConfigError(f"neuron is {name!r}, accepted: {', '.join(sorted(NEURONS))}")
    accepted = inspect.signature(NEURONS[name]).parameters
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ConfigError(f"neuron {name!r} has no option {', '.join(unknown)}, accepted: {', '.join(accepted)}")
    if "surrogate" in options:
        if options["surrogate"] not in SURROGATES:
            raise ConfigError(f"surrogate is {options['surrogate']!r}, accepted: {', '.join(SURROGATES)}")
        options["surrogate"] = SURROGATES[options["surrogate"]]()
    if "time_steps" in accepted:
        options.setdefault("time_steps", time_steps)
    make = functools.partial(NEURONS[name], **options)
    try:  # now, rather than in the middle of a network
        with torch.random.fork_rng(devices=[]):
            make()
    except TypeError as error:
        raise ConfigError(f"neuron {name!r} cannot be built with {options}: {error}") from None
    return make
