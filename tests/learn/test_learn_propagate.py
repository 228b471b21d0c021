"""Per-step propagation: the gradients of the whole sequence, in memory that does not grow with T."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import close, small_images, small_model
from torch import Tensor, nn

from bitspike.compress import BinaryWeights, apply
from bitspike.data import DataBundle
from bitspike.errors import BitspikeError, ConfigError
from bitspike.learn import TrainConfig, Trainer, per_step, time_mean_cross_entropy, whole_sequence
from bitspike.models import create_model, list_models
from bitspike.neurons import LIF, PLIF, Neuron, set_temporal_gradient

FIXED_LENGTH = ("bestformer", "snnvit")  # they hold a parameter for each step
STEPPABLE = [name for name in list_models() if name not in FIXED_LENGTH]
LABELS = torch.tensor([0, 3, 1, 4, 2])
PROPAGATIONS = {"sequence": whole_sequence, "per-step": per_step}


def objective(logits: Tensor, targets: Tensor, rates: object) -> Tensor:
    return time_mean_cross_entropy(logits, targets)


def build(name: str, **options) -> nn.Module:
    return set_temporal_gradient(small_model(name, **options), "spatial").double().eval()


def run(propagate: Callable, model: nn.Module, samples: Tensor):
    model.zero_grad()
    done = propagate(model, samples, LABELS, objective, Tensor.backward)
    return done, {key: p.grad.clone() for key, p in model.named_parameters()}


class Counter:
    """Bytes that autograd keeps for the backward pass, now and at most."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> Held:
        return Held(self, tensor)


class Held:
    def __init__(self, counter: Counter, tensor: Tensor) -> None:
        self.counter, self.tensor, self.bytes = counter, tensor, tensor.numel() * tensor.element_size()
        counter.now += self.bytes
        counter.peak = max(counter.peak, counter.now)

    def __del__(self) -> None:
        self.counter.now -= self.bytes


def peak_bytes(propagate: Callable, steps: int) -> int:
    model = apply(build("sei_resnet", T=steps), BinaryWeights()).train()
    counter = Counter()
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda held: held.tensor):
        propagate(model, small_images("sei_resnet", 5), LABELS, objective, Tensor.backward)
    assert counter.now == 0
    return counter.peak


def test_stored_activations_are_flat_in_time() -> None:
    flat = [peak_bytes(per_step, steps) for steps in (2, 4, 16)]
    assert flat[0] == flat[1] == flat[2]
    assert peak_bytes(whole_sequence, 16) > 5 * flat[0], "the whole sequence stores every step"


@pytest.mark.parametrize("frames", [False, True], ids=["static", "frames"])
@pytest.mark.parametrize("neuron", [LIF, PLIF])
@pytest.mark.parametrize("name", STEPPABLE)
def test_gradients_are_those_of_the_whole_sequence(name: str, neuron: type[Neuron], frames: bool) -> None:
    model, samples = build(name, neuron=neuron), small_images(name, 5)
    if frames:
        samples = torch.stack([small_images(name, 5, seed) for seed in range(3)])
    (one, expected), (other, actual) = (run(propagate, model, samples) for propagate in PROPAGATIONS.values())
    close(other.logits, one.logits)
    close(other.loss, one.loss)
    for key, gradient in expected.items():
        close(actual[key], gradient)
    assert [r.name for r in other.rates] == [r.name for r in one.rates]
    for a, b in zip(other.rates, one.rates, strict=True):
        close(a.rate, b.rate)
    assert not (other.logits.requires_grad or other.loss.requires_grad or other.rates[0].rate.requires_grad)


def test_a_neuron_that_runs_twice_in_a_step_keeps_two_membranes() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoding, self.neuron = build("vggsnn").encoding, LIF(temporal_gradient="spatial")
            self.gain = nn.Parameter(torch.tensor(0.9, dtype=torch.float64))

        def forward(self, samples: Tensor) -> Tensor:
            current = self.gain * self.encoding(samples)
            return self.neuron(0.8 * self.neuron(current) + 0.3 * current).flatten(2)

    model = Twice().double()
    (one, expected), (other, actual) = (
        run(propagate, model, small_images("vggsnn", 5)) for propagate in PROPAGATIONS.values()
    )
    assert torch.equal(one.logits, other.logits) and one.logits.mean() > 0
    close(actual["gain"], expected["gain"])


@pytest.mark.parametrize("name", FIXED_LENGTH)
def test_networks_of_one_length_are_refused(name: str) -> None:
    with pytest.raises(BitspikeError, match=r"of 3 steps|accepted: 3|temporal_gradient of '.*gate'"):
        run(per_step, build(name), small_images(name, 5))


@pytest.mark.parametrize("propagate", PROPAGATIONS.values(), ids=PROPAGATIONS)
def test_nothing_is_left_behind_even_after_an_error(propagate: Callable) -> None:
    model, samples = build("sei_resnet"), small_images("sei_resnet", 5)
    before, logits = str(model), model(samples)

    def fail(loss: Tensor) -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        propagate(model, samples, LABELS, objective, fail)
    assert str(model) == before and model.encoding.time_steps == 3
    assert not any("forward" in m.__dict__ or m._forward_hooks for m in model.modules())
    assert torch.equal(model(samples), logits)


def test_batch_norm_takes_its_statistics_step_by_step() -> None:
    model = create_model("sei_resnet", T=3, width=2, units=(1,), input_shape=(2, 9, 8))
    per_step(model, small_images("sei_resnet", 5), LABELS, objective, Tensor.backward)
    assert model.trunk[1].synapse.norm.num_batches_tracked == 3


class NonCausal(LIF):
    causal = False


class LearnedStore(nn.Module):
    log2_step = None

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, membrane: Tensor) -> Tensor:
        return self.scale * membrane


REFUSED: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "full-gradient": (
        lambda model: set_temporal_gradient(model, "full"),
        "temporal_gradient of 'trunk.0.neuron' is 'full', accepted .*spatial",
    ),
    "not-causal": (
        lambda model: setattr(model.trunk[0], "neuron", NonCausal()),
        "'trunk.0.neuron' is a NonCausal, which looks at all steps",
    ),
    "learned-store": (
        lambda model: setattr(model.trunk[0].neuron, "membrane", LearnedStore()),
        "what 'trunk.0.neuron' stores is learned",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_one_step_alone_cannot_train_is_refused(case: str) -> None:
    change, message = REFUSED[case]
    model = build("sei_resnet_spike")
    change(model)
    with pytest.raises(ConfigError, match=message):
        run(per_step, model, small_images("sei_resnet_spike", 5))


def test_static_samples_need_an_encoding() -> None:
    with pytest.raises(ConfigError, match="Flatten has no DirectEncoding"):
        per_step(nn.Flatten(), small_images("vggsnn", 5), LABELS, objective, Tensor.backward)


@pytest.mark.parametrize("mixup", [0.0, 0.4], ids=["plain", "mixup"])
def test_trainer_trains_step_by_step(few_digits: DataBundle, mixup: float) -> None:
    spec = few_digits.spec
    torch.manual_seed(0)
    model = create_model("sei_resnet_spike", T=3, width=6, units=(2,), input_shape=spec.shape, input_scale=spec.scale)
    trainer = Trainer(
        TrainConfig(epochs=8, batch_size=16, learning_rate=0.3, mixup=mixup, gradient_clip=5.0),
        objective=objective,
        propagate=per_step,
    )
    history = trainer.fit(model, few_digits)
    assert history[-1]["loss"] < 0.95 * history[0]["loss"] and 0 < history[-1]["firing_rate"] < 1
