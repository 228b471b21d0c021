"""What has no exact integer form is refused, by name and with the reason, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from deploy_cases import Small, small
from helpers import images
from torch import nn
from torch.nn.utils import parametrize

from bitspike.compress import (
    QSNN,
    DynamicTanhMembrane,
    FrozenTanhMembrane,
    ReScaW,
    StandardizedBinarizer,
    apply,
    freeze_membranes,
)
from bitspike.deploy import compile, exact_model
from bitspike.errors import LoweringError
from bitspike.layers import AvgPool, MaxPool
from bitspike.neurons import LIF, PLIF

SAMPLES = images(3, (1, 6, 6))
Change = Callable[[Small], object]


def conv(net: Small) -> nn.Conv2d:
    return net.second.currents[0].layer


def neuron(replacement: Callable[[], nn.Module]) -> Change:
    return lambda net: setattr(net.second, "neuron", replacement())


def norm(replacement: Callable[[], nn.Module]) -> Change:
    return lambda net: setattr(net.second.currents[0], "norm", replacement())


def full_precision(net: Small) -> None:
    parametrize.remove_parametrizations(conv(net), "weight")


def dilated_odd_weights(net: Small) -> None:
    conv(net).dilation = (2, 2)
    conv(net).parametrizations["weight"][0] = ReScaW(8, granularity="channel")


def pooled(pool: nn.Module) -> Change:
    def change(net: Small) -> None:
        net.average = pool
        net.run = lambda net, x: net.readout(net.average(net.second(net.first(net.encoding(x)))))

    return change


def running(run: Callable) -> Change:
    return lambda net: setattr(net, "run", run)


def chain(net: Small, x):
    return net.second(net.first(net.encoding(x)))


def residual(net: Small, x, combine: Callable):
    spikes = net.first(net.encoding(x))
    return combine(net.second(spikes), spikes)


REFUSED: dict[str, tuple[Change, str]] = {
    "plif": (neuron(PLIF), "'second' is a PLIF: only LIF"),
    "leak-0.3": (neuron(lambda: LIF(0.3)), "leak of 'second' is 0.3: exact leaks are"),
    "leak-0": (neuron(lambda: LIF(0.0)), "leak of 'second' is 0: exact leaks are"),
    "dynamic-membrane": (
        neuron(lambda: LIF(membrane=DynamicTanhMembrane(4))),
        "'second' is stored by DynamicTanhMembrane.*freeze_membranes",
    ),
    "frozen-tanh": (
        neuron(lambda: LIF(membrane=FrozenTanhMembrane(4, 0.9))),
        "'second' is stored by FrozenTanhMembrane",
    ),
    "full-precision": (full_precision, "weights of 'second' are full precision; attach a quantizer"),
    "dilation": (dilated_odd_weights, "'second'.*dilated, its 8-bit odd weights and a zero need 9 bits"),
    "circular": (lambda net: setattr(conv(net), "padding_mode", "circular"), "'second'.*padded"),
    "stride-2x1": (lambda net: setattr(conv(net), "stride", (2, 1)), "'second'.*stride"),
    "padding-word": (lambda net: setattr(conv(net), "padding", "same"), "'second'.*padding"),
    "norm-without-affine": (norm(lambda: nn.BatchNorm2d(4, affine=False)), "'second'"),
    "norm-without-statistics": (norm(lambda: nn.BatchNorm2d(4, track_running_stats=False)), "'second'"),
    "current-is-a-module": (
        lambda net: setattr(net.second, "currents", nn.ModuleList([nn.ReLU()])),
        "current of 'second' is a ReLU",
    ),
    "unknown-module": (
        running(lambda net, x: net.readout(net.relu(chain(net, x)))),
        "layer 'relu' is a ReLU.*accepted: .*SpikingUnit",
    ),
    "convolution-of-a-current": (
        running(lambda net, x: net.readout(net.second.currents[0](net.first.currents[0](net.encoding(x))))),
        "'second.currents.0' reads a stream of real numbers; weights meet spikes, counts or the image only",
    ),
    "neurons-on-pixels": (
        running(lambda net, x: net.readout(net.second.neuron(net.encoding(x)))),
        "'second.neuron' reads the input image; only synapses may",
    ),
    "multiply": (running(lambda net, x: net.readout(residual(net, x, torch.mul))), "operation 'mul'"),
    "scaled-add": (
        running(lambda net, x: net.readout(residual(net, x, lambda a, b: torch.add(a, b, alpha=2)))),
        "alpha",
    ),
    "add-constant": (running(lambda net, x: net.readout(chain(net, x) + 1)), "add reads 1"),
    "control-flow": (
        running(lambda net, x: net.readout(chain(net, x)) if x.sum() > 0 else net.readout(x)),
        "Small.forward cannot be traced",
    ),
    "no-readout": (running(chain), "must .*Readout|return its readout"),
    "readout-and-more": (running(lambda net, x: (net.readout(chain(net, x)), x)), "must return its readout"),
    "dictionary": (running(lambda net, x: {"logits": net.readout(chain(net, x))}), "must return its readout"),
    "no-encoding": (running(lambda net, x: net.readout(net.first(x))), "DirectEncoding|reads x|reads samples"),
    "two-encodings": (running(lambda net, x: net.readout(chain(net, x) + net.first(net.encoding(x)))), "encoding"),
    "keyword-argument": (running(lambda net, x: net.readout(spikes=chain(net, x))), "readout"),
    "pooled-pixels": (
        running(lambda net, x: net.readout(net.first(net.average(net.encoding(x))))),
        "'average' reads the input image",
    ),
    "max-pooled-pixels": (
        running(lambda net, x: net.readout(net.first(net.maximum(net.encoding(x))))),
        "'maximum' reads the input image",
    ),
    "max-after-average": (
        running(lambda net, x: net.readout(net.maximum(net.average(chain(net, x))))),
        "'maximum' reads an edge of kind counts, accepted: spikes, stream",
    ),
    "max-after-sum": (
        running(lambda net, x: (lambda s: net.readout(net.maximum(net.second(s) + s)))(net.first(net.encoding(x)))),
        "'maximum' reads an edge of kind counts, accepted: spikes, stream",
    ),
    "different-scales": (
        running(lambda net, x: (lambda s: net.readout(net.average(s) + net.maximum(s)))(chain(net, x))),
        "adds edges of different scales",
    ),
    "average-padded": (pooled(AvgPool(3, 2, 1)), "'average'.*padded"),
    "average-divisor": (pooled(AvgPool(2, divisor_override=1)), "'average'"),
    "pool-oblong": (pooled(MaxPool((2, 1))), "'average'"),
    "pool-ceil": (pooled(MaxPool(2, ceil_mode=True)), "'average'.*ceil"),
    "pool-dilated": (pooled(MaxPool(2, dilation=2)), "'average'.*dilation"),
    "readout-per-class-scale": (
        lambda net: net.readout.layer.parametrizations["weight"].__setitem__(0, StandardizedBinarizer()),
        "weights of 'readout' need one scale",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_the_exact_model_is_built(case: str) -> None:
    change, message = REFUSED[case]
    net = small()
    change(net)
    with pytest.raises(LoweringError, match=f"(?s){message}"):
        exact_model(net)


def test_averages_of_windows_cut_at_the_border_are_refused_by_their_size() -> None:
    net = small(lambda net, x: net.readout(net.average(net.second(net.first(net.encoding(x))))))
    net.average = AvgPool(4, 4, ceil_mode=True)
    with pytest.raises(LoweringError, match=r"'average': windows of 4 pixels cover \(6, 6\) pixels in part only"):
        compile(net, SAMPLES)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_compile(case: str) -> None:
    """Whatever the exact model lets through, no artifact may come out."""
    change, _ = REFUSED[case]
    net = small()
    change(net)
    with pytest.raises(LoweringError):
        compile(net, SAMPLES)


def test_only_identities_in_a_unit() -> None:
    """Neurons on bare spikes: either the graph is right or the unit is named."""
    net = small()
    net.second.currents = nn.ModuleList([nn.Identity()])
    try:
        artifact = compile(net, SAMPLES)
    except LoweringError as error:
        assert "second" in str(error)
    else:
        from bitspike.deploy import integer_logits, reference

        np.testing.assert_array_equal(
            reference.run(artifact.graph, SAMPLES.numpy()).logits, integer_logits(net, SAMPLES)
        )


def test_shortcut_onto_the_image() -> None:
    net = small(lambda net, x: (lambda e: net.readout(net.first(e, e)))(net.encoding(x)))
    net.first.currents.append(nn.Identity())
    with pytest.raises(LoweringError, match="'first' adds a shortcut to the input image"):
        exact_model(net)


def test_unquantized_model_is_refused_until_quantized() -> None:
    net = Small()
    with pytest.raises(LoweringError, match="full precision"):
        exact_model(net)
    apply(net, QSNN(membrane_bits=4))
    with pytest.raises(LoweringError, match="DynamicTanhMembrane"):
        exact_model(net)
    exact_model(freeze_membranes(net))


EXAMPLES = {
    "float": (SAMPLES.float(), r"example is float32 \(3, 1, 6, 6\)"),
    "numpy-int": (SAMPLES.numpy().astype(np.int64), "example is int64"),
    "no-batch": (SAMPLES[0], r"example is uint8 \(1, 6, 6\)"),
    "empty": (SAMPLES[:0], r"uint8 \(0, 1, 6, 6\).*at least one"),
    "channels": (images(2, (3, 6, 6)), "zero point"),
    "frames": (images(2, (2, 1, 6, 6)), "example has 2 frames, accepted: 3"),
    "too-small": (images(2, (1, 6, 5)), ""),
}


@pytest.mark.parametrize("case", [c for c in EXAMPLES if c != "too-small"])
def test_unusable_example(case: str) -> None:
    example, message = EXAMPLES[case]
    with pytest.raises(LoweringError, match=message):
        compile(small(), example)


def test_input_of_another_size_is_named_when_a_dense_layer_does_not_fit() -> None:
    net = small(lambda net, x: net.readout(net.dense(chain(net, x))))
    compile(net, SAMPLES)
    with pytest.raises(LoweringError, match=r"node \d+ \(Linear 'dense.currents.0'\): weight \(4, 144\)"):
        compile(net, images(2, (1, 6, 5)))


def test_integers_beyond_float32_are_refused() -> None:
    net = small()
    net.second.currents[0].norm.weight.data.fill_(1e-9)
    net.second.currents[0].norm.bias.data.fill_(5000.0)
    with pytest.raises(LoweringError, match=r"'second' reaches \d+, beyond the 2\^24"):
        compile(net, SAMPLES)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_numbers_are_refused(value: float) -> None:
    net = small()
    net.second.currents[0].norm.bias.data[1] = value
    with pytest.raises(LoweringError, match="'second'"):
        compile(net, SAMPLES)
