"""How much a channel matters, measured at the neurons that fire it.

Sources: SVS is that of QP-SNN (ICLR 2025, arXiv 2502.05905, equations 11 to 13), SCA its baseline after Li et al. (ICML
2024), magnitude the rule of "Pruning Filters for Efficient ConvNets" (arXiv 1608.08710).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers import SpikingUnit, Synapse
from ..neurons import Neuron

__all__ = ["channel_means", "firing_rate", "magnitude_scores", "sca_scores", "significant_values", "svs_scores"]

# of a neuron layer, its current and its spikes (T, N, C, H, W): a value per sample and channel (N, C), float64
Measure = Callable[[Neuron, Tensor, Tensor], Tensor]


def significant_values(neuron: Neuron, current: Tensor, spikes: Tensor, tolerance: float | None = None) -> Tensor:
    """Number of significant singular values of each channel's time-averaged spike map: its numerical rank.

    A value counts where it exceeds max(H, W) * 2^-23 * sigma_1 (torch's rank rule in single precision, as in the
    authors' code) or, if given, the absolute ``tolerance`` (1e-6 in the paper). The values themselves are found in
    double precision, so that no rounding noise counts.
    """
    maps = spikes.double().mean(0)
    counts = maps.new_zeros(maps.shape[:2])
    fired = maps.flatten(2).any(2)
    if fired.any():
        values = torch.linalg.svdvals(maps[fired])
        relative = max(maps.shape[2:]) * torch.finfo(torch.float32).eps * values[:, :1]
        counts[fired] = (values > (relative if tolerance is None else tolerance)).sum(1).double()
    return counts


def membrane_magnitude(neuron: Neuron, current: Tensor, spikes: Tensor) -> Tensor:
    """Mean over time of the sum over pixels of |u|, the membrane before the reset."""
    try:
        membranes = neuron.membranes(current)
    except TypeError as error:
        raise ConfigError(f"the sca score reads membranes: {error}; accepted: LIF and PLIF neurons") from None
    return membranes.double().abs().sum((3, 4)).mean(0)


def firing_rate(neuron: Neuron, current: Tensor, spikes: Tensor) -> Tensor:
    """Mean of the spikes over time and pixels."""
    return neuron.firing(spikes).double().mean((0, 3, 4))


def svs_scores(model: nn.Module, calibration: Sequence[Tensor], tolerance: float | None = None) -> dict[str, Tensor]:
    """Singular value score of every channel: unit name -> (C,), the mean over samples of :func:`significant_values`."""
    measure = partial(significant_values, tolerance=tolerance)
    return {name: means[0] for name, means in channel_means(model, calibration, [measure]).items()}


def sca_scores(model: nn.Module, calibration: Sequence[Tensor]) -> dict[str, Tensor]:
    """Membrane score of every channel: unit name -> (C,), the mean over samples and time of its map's ||u||_1.

    ConfigError for neurons that do not show their membranes.
    """
    return {name: means[0] for name, means in channel_means(model, calibration, [membrane_magnitude]).items()}


@torch.no_grad()
def magnitude_scores(model: nn.Module) -> dict[str, Tensor]:
    """Sum of |w| over each channel's filters, as the forward pass uses them: unit name -> (C,), float64."""
    scores = {}
    for name, unit in _units(model):
        layers = [current.layer for current in unit.currents if isinstance(current, Synapse)]
        scores[name] = sum((layer.weight.double().flatten(1).abs().sum(1) for layer in layers), torch.zeros(()))
    return scores


@torch.no_grad()
def channel_means(model: nn.Module, calibration: Sequence[Tensor], measures: Sequence[Measure]) -> dict[str, Tensor]:
    """Means over all samples of each measure: unit name -> (len(measures), C), float64, from one evaluation-mode pass.

    calibration: batches (N, C, H, W) or (T, N, C, H, W) of training samples. ConfigError where it has no sample.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def observe(name: str, neuron: Neuron, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        values = torch.stack([measure(neuron, inputs[0], spikes) for measure in measures])
        sums[name] = sums.get(name, 0) + values.sum(1)
        counts[name] = counts.get(name, 0) + values.shape[1]

    handles = [unit.neuron.register_forward_hook(partial(observe, name)) for name, unit in _units(model)]
    device = next((tensor.device for tensor in model.buffers()), None)
    try:
        with _evaluating(model):
            for batch in calibration:
                model(batch.to(device))
    finally:
        for handle in handles:
            handle.remove()
    if not any(counts.values()):
        raise ConfigError("the score measures the model: calibration holds no sample, accepted: batches of them")
    return {name: total / counts[name] for name, total in sums.items()}


def _units(model: nn.Module) -> Iterator[tuple[str, SpikingUnit]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, SpikingUnit))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the ``with`` block, and every module's own mode again after it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
