"""How much a network's answers change when one layer alone loses precision."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from ..layers import mean_over_time
from .mixed import QUANTIZERS, mixed_quantizer, refuse_quantized, weight_layers
from .rescaw import check_bits, check_choice

__all__ = ["CANDIDATE_BITS", "Sensitivity", "layer_sensitivity"]

CANDIDATE_BITS = (1, 2, 3, 4, 5, 6, 8)
MEASURE = (
    "Kullback-Leibler divergence (nats) from the full-precision network's softmax of the time-mean logits to that of the "
    "network in which this layer alone is quantized, mean over samples; no training in between."
)


@dataclass(frozen=True)
class Sensitivity:
    """``table``: layer -> bits -> divergence in nats, >= 0, see :func:`layer_sensitivity`; and what it cost to measure.

    ``forward_passes`` counts forward passes of one calibration batch, ``seconds`` is wall time.
    """

    table: dict[str, dict[int, float]]
    quantizer: str
    samples: int
    forward_passes: int
    seconds: float
    measure: str = MEASURE


@torch.no_grad()
def layer_sensitivity(
    model: nn.Module,
    calibration: Sequence[Tensor],
    bits: Sequence[int] = CANDIDATE_BITS,
    quantizer: str = "rescaw-max",
    on_pass: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Divergence of every weight layer at every candidate of ``bits``; ``model`` is left as it is.

    With p = softmax(mean_t logits) of the full-precision network in evaluation mode and q the same after quantizing one
    layer's weights, the entry is the mean over samples of sum_c p_c (log p_c - log q_c): the increase of the cross-entropy
    to the network's own answers, so no labels are needed. It is measured before any retraining, which recovers a part: of a
    quantizer that clips many weights ("rescaw") it sees the clipping, hardly the bits.

    calibration: batches of training samples (N, C, H, W) or (T, N, C, H, W); ``quantizer`` as in :class:`MixedBits`.
    on_pass is told (forward passes done, of all). One pass per batch, layer and candidate, and one per batch besides.
    Raises ConfigError for no samples, a bad candidate, and weights that carry a quantizer already.
    """
    for candidate in bits:
        check_bits("a candidate of bits", candidate)
    check_choice("quantizer", quantizer, QUANTIZERS)
    candidates = sorted(set(bits))
    if not candidates or not calibration:
        raise ConfigError(
            f"{len(candidates)} candidates and {len(calibration)} batches, accepted: at least one of each"
        )
    began = time.perf_counter()
    probe, slots = _with_slots(model)
    passes, total = 0, len(calibration) * (1 + len(slots) * len(candidates))

    def log_probabilities(batch: Tensor) -> Tensor:
        nonlocal passes
        device = next((p.device for p in probe.parameters()), batch.device)
        answer = mean_over_time(probe(batch.to(device))).double().log_softmax(-1)
        passes += 1
        if on_pass is not None:
            on_pass(passes, total)
        return answer

    expected = [log_probabilities(batch) for batch in calibration]
    samples = sum(len(answer) for answer in expected)
    if not samples:
        raise ConfigError("the calibration batches hold no samples, accepted: at least one")
    layers, table = weight_layers(probe), {name: dict[int, float]() for name in slots}
    for name, slot in slots.items():
        for candidate in candidates:
            slot.rule = mixed_quantizer(probe, layers[name], quantizer, candidate)
            found = [log_probabilities(batch) for batch in calibration]
            summed = [divergences(*pair).sum() for pair in zip(expected, found, strict=True)]
            table[name][candidate] = float(torch.stack(summed).sum()) / samples
        slot.rule = nn.Identity()
    return Sensitivity(table, quantizer, samples, passes, time.perf_counter() - began)


def divergences(expected: Tensor, actual: Tensor) -> Tensor:
    """KL(expected || actual) in nats, (N,), of log-probabilities (N, classes); rounding below zero is cut off."""
    return (expected.exp() * (expected - actual)).sum(-1).clamp_min(0)


class _Slot(nn.Module):
    """A parametrization whose rule can be exchanged; torch's own removal would also undo it on the model copied from."""

    def __init__(self) -> None:
        super().__init__()
        self.rule: nn.Module = nn.Identity()

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = self.rule(weight)
        return quantized


def _with_slots(model: nn.Module) -> tuple[nn.Module, dict[str, _Slot]]:
    """A copy of ``model`` in evaluation mode, and by layer the slot that its weights go through last."""
    refuse_quantized(weight_layers(model))
    probe = copy.deepcopy(model).eval()
    slots = {}
    for name, layer in weight_layers(probe).items():
        slots[name] = _Slot()
        parametrize.register_parametrization(layer, "weight", slots[name])
    return probe, slots
