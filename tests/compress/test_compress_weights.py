"""Weight quantizers against the required behaviours of Q-SNN that concern them."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import close, small_model
from torch import Tensor, nn

from bitspike.compress import QSNN, PlainSign, StandardizedBinarizer, SymmetricUniform, apply
from bitspike.models import list_models
from bitspike.ops import symmetric_levels, weight_quantizer

SHAPES = [(6, 5, 3, 3), (64, 40, 1, 1), (9, 31)]
QUANTIZERS = {
    "standardized": StandardizedBinarizer,
    "plain-sign": PlainSign,
    **{f"uniform{bits}": (lambda bits=bits: SymmetricUniform(bits)) for bits in (2, 4, 8)},
}


def entropy(p: float) -> float:
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


@pytest.mark.parametrize("name", list_models())
def test_point_01_hidden_weights_are_plus_minus_a_power_of_two(name: str) -> None:
    model = apply(small_model(name), QSNN())
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers[1:-1]:
        for channel in layer.weight.detach().flatten(1):
            low, high = channel.unique().tolist()
            assert low == -high and math.log2(high) == round(math.log2(high))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 40.0])
def test_point_01_scale_is_one_for_gaussian_latents(shape: tuple[int, ...], spread: float) -> None:
    _, scale = StandardizedBinarizer().integers(spread * torch.randn(shape))
    assert torch.equal(scale.flatten(), torch.ones(shape[0]))


def test_point_01_scale_follows_the_latents() -> None:
    """A channel with one outlier among 64 has mean |w| about 0.25, so its scale is 1/4."""
    w = torch.zeros(1, 64)
    w[0, 0] = 5.0
    assert StandardizedBinarizer().integers(w)[1].item() == 0.25


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_point_02_invariant_to_positive_scale_and_offset(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, dtype=torch.float64)
    per_channel = (shape[0],) + (1,) * (len(shape) - 1)
    a, c = 0.1 + 5 * torch.rand(per_channel, dtype=torch.float64), torch.randn(per_channel, dtype=torch.float64)
    quantizer = StandardizedBinarizer()
    assert torch.equal(quantizer(a * w + c), quantizer(w))
    assert torch.equal(quantizer(-w), -quantizer(w))


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_point_03_signs_are_balanced_by_centring(offset: float) -> None:
    w = torch.randn(32, 2000) * 0.2 + offset
    share = (StandardizedBinarizer()(w) > 0).float().mean(1)
    assert (share - 0.5).abs().max() < 5 * 0.5 / math.sqrt(2000)
    assert entropy(share.mean().item()) > 0.99
    uncentred = (PlainSign()(w) > 0).float().mean().item()
    assert (entropy(uncentred) > 0.99) == (offset == 0), "without centring an offset must cost entropy"


@pytest.mark.parametrize("make", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_forward_is_integers_times_scale_within_the_declared_precision(make, shape: tuple[int, ...], dtype) -> None:
    quantizer, w = make(), torch.randn(shape, dtype=dtype)
    integers, scale = quantizer.integers(w)
    bits, levels = quantizer.precision.bits, quantizer.precision.levels
    assert integers.dtype == scale.dtype == dtype
    assert torch.equal(integers, integers.round()) and torch.equal(quantizer(w), integers * scale)
    assert len(integers.unique()) <= levels and integers.abs().max() <= max(symmetric_levels(bits), 1)
    assert bool((integers == 0).any()) <= quantizer.precision.has_zero
    assert scale.numel() in (1, shape[0]) and (scale > 0).all()


@pytest.mark.parametrize("make", QUANTIZERS.values(), ids=QUANTIZERS)
def test_zero_weights_stay_finite(make) -> None:
    w = torch.zeros(3, 4, 3, 3, requires_grad=True)
    out = make()(w)
    out.sum().backward()
    assert out.isfinite().all() and w.grad.isfinite().all()


@pytest.mark.parametrize("value", [0.1, -0.7, 1e-3])
def test_constant_channel_gets_unit_scale(value: float) -> None:
    """A channel without direction is +1 times 1, not +1 times a rounding error."""
    out = StandardizedBinarizer()(torch.full((2, 3, 3, 3), value))
    assert torch.equal(out, torch.ones_like(out))


@pytest.mark.parametrize("make", QUANTIZERS.values(), ids=QUANTIZERS)
def test_one_weight_per_channel_has_a_gradient(make) -> None:
    """Depthwise 1x1: the standard deviation of one number does not exist."""
    w = torch.tensor([0.3, -0.2]).view(2, 1, 1, 1).requires_grad_()
    out = make()(w)
    out.sum().backward()
    assert out.isfinite().all() and w.grad.isfinite().all()


def test_binarizer_gradient_is_estimator_then_true_standardisation() -> None:
    k, t = 1.0, 2.0
    quantizer = StandardizedBinarizer()
    quantizer.set_progress(k, t)
    w = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 8, dtype=torch.float64)
    quantizer(w).backward(upstream)

    def smooth(v: Tensor) -> Tensor:
        standardized = (v - v.mean(1, keepdim=True)) / v.std(1, keepdim=True)
        return k * torch.tanh(t * standardized) * quantizer.integers(w)[1]

    expected = torch.autograd.functional.vjp(smooth, w.detach(), upstream)[1]
    close(w.grad, expected)


def test_plain_sign_gradient_is_clipped_straight_through() -> None:
    w = torch.tensor([[-3.0, -0.4, 0.2, 0.9, 1.7]], dtype=torch.float64, requires_grad=True)
    quantizer = PlainSign()
    quantizer(w).sum().backward()
    scale = w.detach().abs().mean()
    close(w.grad, scale * torch.tensor([[0.0, 1, 1, 1, 0]], dtype=torch.float64))
    close(quantizer(w).detach(), scale * torch.tensor([[-1.0, -1, 1, 1, 1]], dtype=torch.float64))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("extreme", [-2.0, 2.0])
def test_uniform_uses_the_largest_magnitude_of_either_sign(bits: int, extreme: float) -> None:
    w = torch.tensor([[0.5, extreme, -0.25, 0.0]], dtype=torch.float64, requires_grad=True)
    quantizer, top = SymmetricUniform(bits), symmetric_levels(bits)
    integers, scale = quantizer.integers(w)
    close(scale, torch.tensor(2.0 / top, dtype=torch.float64))
    assert integers[0, 1].item() == math.copysign(top, extreme) and integers[0, 3].item() == 0
    out = quantizer(w)
    assert (out - w).abs().max() <= scale / 2 + 1e-12
    out.sum().backward()
    close(w.grad, torch.ones(1, 4, dtype=torch.float64))


def test_estimator_state_is_not_stored_in_checkpoints() -> None:
    layer = nn.Linear(4, 3)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", StandardizedBinarizer())
    assert set(layer.state_dict()) == {"bias", "parametrizations.weight.original"}
    assert isinstance(weight_quantizer(layer), StandardizedBinarizer)
