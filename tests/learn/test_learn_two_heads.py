"""Two heads, two targets: the loss by hand, and what each head learns from."""

from __future__ import annotations

import pytest
import torch
from helpers import close, small_images, small_model, subset
from torch import Tensor, nn
from torch.nn import functional as F

from bitspike.compress import StandardizedBinary, apply
from bitspike.data import load
from bitspike.errors import ConfigError
from bitspike.learn import (
    Distillation,
    Distiller,
    FeatureTerm,
    LabelTerm,
    TrainConfig,
    Trainer,
    evaluate,
    two_head_distillation,
)
from bitspike.models import create_model

LABELS = torch.tensor([0, 3, 1, 1])


class Teacher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Linear(2 * 15 * 11, 5)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.layer(samples.to(self.layer.weight.dtype).flatten(1) / 255)
        return logits


def loss_of(config: Distillation, student: nn.Module, samples: Tensor, teacher: nn.Module, labels: Tensor) -> Tensor:
    with Distiller(config, teacher).batch(student, samples) as objective:
        return objective(student(samples), labels, [])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "mixed-labels"])
def test_point_8_loss_by_hand(alpha: float, mixed: bool) -> None:
    student, teacher = small_model("bestformer").double().eval(), Teacher().double()
    samples, labels = small_images("bestformer", 4), LABELS
    if mixed:
        labels = 0.7 * F.one_hot(LABELS, 5).double() + 0.3 * F.one_hot(LABELS.roll(1), 5).double()
    streams: list[tuple[Tensor, Tensor]] = []
    hook = student.body.register_forward_hook(lambda _m, _i, out: streams.append(out))
    loss = loss_of(two_head_distillation(alpha, label_smoothing=0.1), student, samples, teacher, labels)
    hook.remove()
    means = [stream.mean((0, 3, 4)) for stream in streams[0]]  # over time and tokens
    z0 = student.readout.labels.layer(means[0])
    z1 = student.readout.teacher.layer(means[1])
    expected = (1 - alpha) * F.cross_entropy(z0, labels, label_smoothing=0.1)
    expected = expected + alpha * F.cross_entropy(z1, teacher(samples).argmax(-1))
    close(loss, expected)


@pytest.mark.parametrize("alpha, silent", [(0.0, "teacher"), (1.0, "labels")])
def test_point_8_a_term_of_no_weight_teaches_its_head_nothing(alpha: float, silent: str) -> None:
    student, teacher = small_model("bestformer").train(), Teacher()
    loss_of(two_head_distillation(alpha), student, small_images("bestformer", 4), teacher, LABELS).backward()
    gradients = {name: getattr(student.readout, name).layer.weight.grad.abs().max() for name in ("labels", "teacher")}
    assert gradients.pop(silent) == 0 and all(g > 0 for g in gradients.values())


def test_point_8_at_alpha_zero_the_teacher_does_not_matter() -> None:
    student, samples = small_model("bestformer").eval(), small_images("bestformer", 4)
    one, other = Teacher(), Teacher()
    other.layer.weight.data.neg_()
    config = two_head_distillation(0.0)
    assert torch.equal(*(loss_of(config, student, samples, t, LABELS) for t in (one, other)))
    config = two_head_distillation(0.5)
    assert not torch.equal(*(loss_of(config, student, samples, t, LABELS) for t in (one, other)))


@pytest.mark.parametrize("steps", ["each", "mean"])
def test_labels_of_each_step_or_of_the_mean(steps: str) -> None:
    student, samples = small_model("bestformer").eval(), small_images("bestformer", 4)
    logits = student(samples)
    expected = F.cross_entropy(logits.mean(0), LABELS)
    if steps == "each":
        expected = torch.stack([F.cross_entropy(step, LABELS) for step in logits]).mean()
    config = Distillation((LabelTerm(steps=steps),), ())
    close(loss_of(config, student, samples, Teacher(), LABELS), expected)


def test_the_mean_of_labels_needs_the_whole_sequence() -> None:
    student, samples = small_model("bestformer"), small_images("bestformer", 4)
    with Distiller(Distillation((LabelTerm(steps="mean"),), ())).batch(student, samples) as objective:
        logits = student(samples)
        objective(logits[:1], LABELS, [])
        with pytest.raises(ConfigError, match="mean over steps needs the whole sequence"):
            objective(logits[1:2], LABELS, [])


def test_features_without_gradient_are_refused() -> None:
    """Rebuilt activations are computed without gradient in the forward pass."""
    term = FeatureTerm("body.blocks.0.mlp", "layer")
    config = Distillation(logits=(), features=(term,))
    student = small_model("bestformer", activations="rebuilt")
    with pytest.raises(ConfigError, match=r"nothing is learned from feature 'body\.blocks\.0\.mlp', which has no"):
        loss_of(config, student, small_images("bestformer", 4), Teacher(), LABELS)


def test_a_binary_network_learns_from_labels_and_teacher() -> None:
    """From rebuilt activations; the mean of both heads is at least as good as the worse of them."""
    few = subset(load("digits"), 64, 0)
    spec = few.spec
    shape = {"num_classes": 10, "input_shape": spec.shape, "zero_point": spec.zero_point, "input_scale": spec.scale}
    sizes = {"T": 2, "dim": 32, "depth": 1, "heads": 2, "patch": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    model = apply(create_model("bestformer", activations="rebuilt", **sizes, **shape), StandardizedBinary())
    teacher = nn.Sequential(ToFloat(), nn.Flatten(), nn.Linear(64, 10))
    samples, labels = torch.from_numpy(few.train.inputs).float(), torch.from_numpy(few.train.labels)
    optimizer = torch.optim.Adam(teacher.parameters(), 1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(teacher(samples), labels).backward()
        optimizer.step()
    plan = TrainConfig(epochs=16, batch_size=32, optimizer="adamw", learning_rate=0.02, weight_decay=0.0)
    Trainer(plan, objective=Distiller(two_head_distillation(), teacher), seed=0).fit(model, few)
    both = evaluate(model, few.train).accuracy
    single = [evaluate(OneHead(model, name), few.train).accuracy for name in ("labels", "teacher")]
    assert both > 0.3 and both >= min(single)


class ToFloat(nn.Module):
    def forward(self, samples: Tensor) -> Tensor:
        return samples.float()


class OneHead(nn.Module):
    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, samples: Tensor) -> Tensor:
        streams = self.model.body(self.model.tokenizer(self.model.encoding(samples)))
        logits: Tensor = getattr(self.model.readout, self.head)(streams[self.head == "teacher"])
        return logits


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ConfigError, match=f"alpha is {alpha}, accepted: 0 to 1"):
        two_head_distillation(alpha)
