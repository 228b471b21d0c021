"""Time checkpoints: the gradients of the whole sequence, in the memory of a chunk of it."""

from __future__ import annotations

import pytest
import torch
from helpers import close, images, small_images, small_model
from torch import Tensor, nn

from bitspike.data import DataBundle
from bitspike.errors import BitspikeError, ConfigError
from bitspike.learn import SpikeRegulation, TrainConfig, Trainer, checkpointed, whole_sequence
from bitspike.learn.propagate import Propagation
from bitspike.models import create_model, list_models
from bitspike.neurons import LIF, NEURONS, PLIF, Neuron

FIXED_LENGTH = ("bestformer", "snnvit")  # they hold a parameter for each step
LABELS = torch.tensor([0, 3, 1, 4, 2])


def build(name: str, **options: object) -> nn.Module:
    return small_model(name, **options).double().eval()


def run(propagate: Propagation, model: nn.Module, samples: Tensor):
    model.zero_grad()
    done = propagate(model, samples, LABELS, SpikeRegulation(weight=0.5, target_rate=0.2), Tensor.backward)
    return done, {key: p.grad.clone() for key, p in model.named_parameters()}


def assert_same(model: nn.Module, samples: Tensor, chunk: int) -> None:
    (one, expected), (other, actual) = (run(p, model, samples) for p in (whole_sequence, checkpointed(chunk)))
    close(other.logits, one.logits)
    close(other.loss, one.loss)
    assert expected.keys() == actual.keys()
    for key, gradient in expected.items():
        close(actual[key], gradient)
    assert [r.name for r in other.rates] == [r.name for r in one.rates]
    for a, b in zip(other.rates, one.rates, strict=True):
        close(a.rate, b.rate)
    assert not (other.logits.requires_grad or other.loss.requires_grad or other.rates[0].rate.requires_grad)


@pytest.mark.parametrize("frames", [False, True], ids=["static", "frames"])
@pytest.mark.parametrize("name", [name for name in list_models() if name not in FIXED_LENGTH])
def test_gradients_are_those_of_the_whole_sequence(name: str, frames: bool) -> None:
    samples = torch.stack([small_images(name, 5, seed) for seed in range(3)]) if frames else small_images(name, 5)
    assert_same(build(name), samples, 2)


@pytest.mark.parametrize("name", FIXED_LENGTH)
def test_networks_of_one_length_are_refused(name: str) -> None:
    with pytest.raises(BitspikeError, match=r"of 3 steps|accepted: 3"):
        run(checkpointed(2), build(name), small_images(name, 5))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("neuron", [LIF, PLIF])
def test_any_chunk_and_neuron_gives_the_same_gradients(neuron: type[Neuron], chunk: int) -> None:
    assert_same(build("vggsnn", neuron=neuron, T=5), small_images("vggsnn", 5), chunk)


def test_running_statistics_and_random_numbers_move_once_per_chunk() -> None:
    model = build("vggsnn", T=4)
    model.features.append(nn.Dropout(0.5))
    norm, samples = model.features[0].currents[0].norm, small_images("vggsnn", 5)
    model.train()
    torch.manual_seed(0)
    run(checkpointed(2), model, samples)
    after = torch.rand(3)
    assert norm.num_batches_tracked == 2
    torch.manual_seed(0)
    with torch.no_grad():
        shape = model.features(model.encoding(samples))[:2].shape
    torch.manual_seed(0)
    for _ in range(2):
        nn.functional.dropout(torch.ones(shape, dtype=torch.float64), 0.5)
    assert torch.equal(torch.rand(3), after), "the second pass of a chunk drew new numbers"


def held_bytes(propagate: Propagation, steps: int, **options: object) -> int:
    """Most bytes of tensors that autograd keeps at a time."""
    held: dict[int, int] = {}
    peak = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal peak
            self.tensor = tensor
            held[id(self)] = tensor.numel() * tensor.element_size()
            peak = max(peak, sum(held.values()))

        def __del__(self) -> None:
            del held[id(self)]

    model = build("vggsnn", T=steps, **options)
    frames = torch.stack([images(5, (2, 8, 8), seed) for seed in range(steps)])
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
        run(propagate, model, frames)
    assert not held
    return peak


def test_memory_is_that_of_a_chunk_and_the_membranes_between() -> None:
    options = {"input_shape": (2, 8, 8), "widths": (4, 4, 4, 4), "num_classes": 5}
    few, many = (held_bytes(checkpointed(6), steps, **options) for steps in (6, 36))
    whole = held_bytes(whole_sequence, 36, **options)
    assert many < 0.4 * whole and many - few < 0.2 * whole


def test_the_trainer_takes_it(few_digits: DataBundle) -> None:
    spec = few_digits.spec
    model = create_model("sei_resnet_spike", T=3, width=6, units=(2,), input_shape=spec.shape, input_scale=spec.scale)
    config = TrainConfig(epochs=4, batch_size=16, learning_rate=0.3)
    history = Trainer(config, propagate=checkpointed(2)).fit(model, few_digits)
    assert history[-1]["loss"] < history[0]["loss"] and 0 < history[-1]["firing_rate"] < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.features[0].register_forward_hook(lambda *_: None), r"output of 'features\.0' is read by a hook"),
        (lambda m: setattr(m.features[0].neuron, "time_steps", 3), r"'features\.0\.neuron' is a LIF of 3 steps"),
    ],
    ids=["hook", "length"],
)
def test_what_chunks_would_get_wrong_is_refused_by_name(change, message: str) -> None:
    model = build("vggsnn")
    change(model)
    with pytest.raises(ConfigError, match=message):
        run(checkpointed(2), model, small_images("vggsnn", 5))


def test_a_neuron_that_looks_ahead_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="looks at all steps; time checkpoints need causal neurons"):
        run(checkpointed(2), build("vggsnn", neuron=lambda: NEURONS["psn"](3)), small_images("vggsnn", 5))


@pytest.mark.parametrize("chunk", [0, -1])
def test_an_empty_chunk_is_refused(chunk: int) -> None:
    with pytest.raises(ConfigError, match=f"chunk is {chunk}, accepted: 1 or more steps"):
        checkpointed(chunk)
