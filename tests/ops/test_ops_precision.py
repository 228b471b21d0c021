from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils import parametrize

from bitspike.compress import (
    DynamicTanhMembrane,
    FrozenTanhMembrane,
    PlainSign,
    PowerOfTwoMembrane,
    StandardizedBinarizer,
    SymmetricUniform,
)
from bitspike.errors import ConfigError
from bitspike.ops import MembraneQuantizer, WeightQuantizer, weight_quantizer


class Doubled(nn.Module):
    def forward(self, w):
        return 2 * w


@pytest.mark.parametrize(
    "quantizer", [StandardizedBinarizer(), PlainSign(), SymmetricUniform(5)], ids=lambda q: type(q).__name__
)
def test_weight_quantizer_is_found_behind_the_weight(quantizer: nn.Module) -> None:
    layer = nn.Linear(4, 3)
    assert weight_quantizer(layer) is None
    parametrize.register_parametrization(layer, "weight", quantizer)
    assert isinstance(quantizer, WeightQuantizer) and weight_quantizer(layer) is quantizer
    assert weight_quantizer(layer, "bias") is None


def test_other_parametrizations_are_not_quantizers() -> None:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert weight_quantizer(layer) is None


@pytest.mark.parametrize("bits", [2, 4, 16])
@pytest.mark.parametrize(
    "make, exact",
    [
        (DynamicTanhMembrane, False),
        (lambda b: FrozenTanhMembrane(b, 0.5), False),
        (lambda b: PowerOfTwoMembrane(b, -3), True),
    ],
    ids=["dynamic", "frozen", "power-of-two"],
)
def test_membrane_quantizers_declare_themselves(make, exact: bool, bits: int) -> None:
    membrane = make(bits)
    assert isinstance(membrane, MembraneQuantizer)
    assert (membrane.precision.bits, membrane.precision.levels, membrane.precision.has_zero) == (
        bits,
        2**bits - 1,
        True,
    )
    assert (membrane.log2_step is not None) == exact


@pytest.mark.parametrize("bits", [-1, 0, 1, 17])
@pytest.mark.parametrize(
    "make",
    [DynamicTanhMembrane, lambda b: FrozenTanhMembrane(b, 0.5), lambda b: PowerOfTwoMembrane(b, -3)],
    ids=["dynamic", "frozen", "power-of-two"],
)
def test_membrane_bits_out_of_range(make, bits: int) -> None:
    with pytest.raises(ConfigError, match=f"bits is {bits}, accepted: 2 to 16"):
        make(bits)
