"""Two classifiers, one for the labels and one for a teacher's answers."""

from __future__ import annotations

from torch import Tensor, nn

from .readout import Readout

__all__ = ["TwoHeads"]


class TwoHeads(nn.Module):
    """Two streams (T, N, D, H, W) to logits (T, N, classes), the mean of two classifiers' on the mean token.

    ``labels`` reads the first stream and ``teacher`` the second; a distillation names them ("readout.labels"), so that
    each learns from its own target. Source: BESTformer (IJCAI 2025, arXiv 2501.05904), after DeiT (arXiv 2012.12877).
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.labels = Readout(dim, classes, pool=True)
        self.teacher = Readout(dim, classes, pool=True)

    def forward(self, streams: tuple[Tensor, Tensor]) -> Tensor:
        logits: Tensor = (self.labels(streams[0]) + self.teacher(streams[1])) / 2
        return logits
