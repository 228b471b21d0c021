"""The loss of networks with two classifiers, one of which learns the labels and the other a teacher's decisions."""

from __future__ import annotations

from ..errors import ConfigError
from .distill import Distillation
from .distill_terms import LabelTerm, LogitTerm

__all__ = ["two_head_distillation"]


def two_head_distillation(
    alpha: float = 0.5,
    *,
    label_smoothing: float = 0.0,
    targets: str = "hard",
    heads: tuple[str, str] = ("readout.labels", "readout.teacher"),
) -> Distillation:
    """(1 - alpha) · CE(head 0, labels) + alpha · CE(head 1, the teacher's decision), both of the mean over time.

    targets: "soft" takes the KL divergence from the teacher's probabilities in place of the second term. heads: names of
    the two modules. Source: BESTformer (IJCAI 2025, arXiv 2501.05904), whose released code does this with alpha 1/2.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}, accepted: 0 to 1")
    return Distillation(
        labels=(LabelTerm(1 - alpha, heads[0], label_smoothing, "mean"),),
        logits=(LogitTerm(alpha, heads[1], targets=targets, steps="mean"),),
    )
