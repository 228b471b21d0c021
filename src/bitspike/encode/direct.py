"""Direct encoding: the sample itself is the input current of every time step; the first layer learns the spikes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import BitspikeError, ConfigError

__all__ = ["DirectEncoding"]


class DirectEncoding(nn.Module):
    """u8 samples q to a normalised sequence: (q - zero_point[c]) * scale.

    Takes static samples (N, C, H, W), repeated ``time_steps`` times, or frames (T, N, C, H, W), as uint8 or as floats
    in 0..255 (mixed images). Returns floats (T, N, C, H, W). The network owns its normalisation, so that deployment
    can fold it into integers and a device can feed raw bytes.
    Raises BitspikeError for another number of axes or of frames.
    """

    zero_point: Tensor
    _like: Tensor

    def __init__(self, time_steps: int, zero_point: Sequence[int], scale: float) -> None:
        super().__init__()
        if time_steps < 1:
            raise ConfigError(f"time_steps is {time_steps}, accepted: 1 or more")
        self.time_steps = time_steps
        self.scale = float(scale)
        self.register_buffer("zero_point", torch.tensor([int(z) for z in zero_point], dtype=torch.int64))
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # follows model.to(dtype)

    def forward(self, samples: Tensor) -> Tensor:
        sequence = self.centred(samples, self._like.dtype).to(self._like.dtype) * self.scale
        return sequence if samples.dim() == 5 else sequence.expand(self.time_steps, *sequence.shape[1:])

    def centred(self, samples: Tensor, dtype: torch.dtype) -> Tensor:
        """q - zero_point as (1 or T, N, C, H, W): integers when the samples are."""
        channels = len(self.zero_point)
        if samples.dim() not in (4, 5) or samples.shape[-3] != channels:
            raise BitspikeError(
                f"input has shape {tuple(samples.shape)}, accepted: (N, {channels}, H, W) or "
                f"({self.time_steps}, N, {channels}, H, W)"
            )
        if samples.dim() == 5 and samples.shape[0] != self.time_steps:
            raise BitspikeError(f"input has {samples.shape[0]} frames, accepted: {self.time_steps}")
        values = samples if samples.is_floating_point() else samples.to(dtype)
        sequence = values if samples.dim() == 5 else values[None]
        return sequence - self.zero_point.to(sequence.dtype).view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, zero_point={self.zero_point.tolist()}, scale={self.scale:g}"
