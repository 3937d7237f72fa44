"""VideoPose3D: the temporal convolutional lifter (Pavllo et al., CVPR 2019), one weight set in two forms.

Written from the paper. On exactly one window the convolutions are strided (training: nothing is computed that
the centre frame does not need); on a longer sequence they are dilated, and each window's pose shares its work
with the neighbours'. Both give the same poses in eval mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, LifterConfig, LifterOutput, OutputForm, check_range, init_sigma_head
from poseda.lifters.dropout import Dropout
from poseda.lifters.matmul import onednn_multiplies

_WIDTHS = {1: (1,) * 5, **{3**levels: (3,) * levels for levels in range(1, 6)}}
_MANY_FRAMES = 4096
"""Frames in all windows of a batch, from which on convolutions are faster than PyTorch's own products on a CPU."""


@dataclass(frozen=True)
class VideoPose3DConfig(LifterConfig):
    """Options of VideoPose3D."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    frames: int = 27
    """Frames that one pose depends on: 3, 9, 27, 81, 243; or 1, PoseAug's single-frame form, without root."""
    channels: int = 1024
    """Width of all hidden layers."""
    dropout: float = 0.25
    """Dropout after each hidden layer."""
    momentum: float = 0.1
    """Momentum of the batch norms' running statistics (the paper lets it decay to 0.001 while it trains)."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        if self.frames not in _WIDTHS:
            known = ", ".join(map(str, _WIDTHS))
            raise ConfigError(f"The lifter option frames={self.frames} is not a VideoPose3D window. Known: {known}.")
        check_range("channels", self.channels, 1, 65536)
        check_range("dropout", self.dropout, 0.0, 0.99)
        check_range("momentum", self.momentum, 0.0, 1.0)


class VideoPose3D(Lifter):
    """Windows: (B, T, J, 2) -> latent (B, channels, T') -> (B, T', J, 3) mm with T' = T - frames + 1."""

    Config = VideoPose3DConfig
    name = "videopose3d"
    slides = True

    def __init__(self, config: VideoPose3DConfig | None = None) -> None:
        config = config or VideoPose3DConfig()
        form: OutputForm = "seq2frame" if config.frames > 1 else "seq2seq"
        super().__init__(skeleton=config.skeleton, frames=config.frames, output=form, options=asdict(config))
        joints, width = self.skeleton.num_joints, config.channels
        self.widths = _WIDTHS[config.frames]
        outputs = joints if config.frames > 1 else joints - 1
        kernels = [kernel for w in self.widths[1:] for kernel in (w, 1)]
        self.expand_conv = nn.Conv1d(self.inputs * joints, width, self.widths[0], bias=False)
        self.expand_bn = nn.BatchNorm1d(width, momentum=config.momentum)
        self.layers_conv = nn.ModuleList(nn.Conv1d(width, width, kernel, bias=False) for kernel in kernels)
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(width, momentum=config.momentum) for _ in kernels)
        self.shrink = nn.Conv1d(width, 3 * outputs, 1)
        self.dropout = Dropout(config.dropout)
        self.sigma_head = nn.Conv1d(width, joints - 1, 1) if config.sigma else None
        if self.sigma_head is not None:
            init_sigma_head(self.sigma_head)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, channels, T')."""
        single = keypoints.shape[1] == self.frames  # one window, not a sequence of them
        if single and not self._many(keypoints):
            return self._encode_window(keypoints.flatten(2)).transpose(1, 2)
        x = keypoints.flatten(2).transpose(1, 2)  # (B, 2J, T)
        if single:
            return self._encode_many(x)
        x = self._activate(F.conv1d(x, self.expand_conv.weight), self.expand_bn)
        spacing = self.widths[0]  # frames between two taps of the next dilated layer
        for (wide, wide_norm, point, point_norm), width in zip(self._blocks(), self.widths[1:], strict=True):
            reach = width // 2 * spacing
            y = self._activate(F.conv1d(x, wide, dilation=spacing), wide_norm)
            x = x[:, :, reach : x.shape[-1] - reach] + self._activate(F.conv1d(y, point), point_norm)
            spacing *= width
        return x

    def _encode_window(self, x: Tensor) -> Tensor:
        """One window (B, frames, 2J) -> (B, 1, channels).

        The taps of strided convolutions do not overlap, so each is one matrix product.
        """
        x = self._activate_last(_taps(x, self.widths[0]), self.expand_conv.weight, self.expand_bn)
        for (wide, wide_norm, point, point_norm), width in zip(self._blocks(), self.widths[1:], strict=True):
            y = self._activate_last(_taps(x, width), wide, wide_norm)
            x = x[:, width // 2 :: width] + self._activate_last(y, point, point_norm)  # the skip is the centre frame
        return x

    def _many(self, keypoints: Tensor) -> bool:
        """Whether a CPU is faster with convolutions than products; oneDNN's are faster still (experiments/bench)."""
        if self.frames == 1 or torch.compiler.is_compiling():  # an exported program has one form for all batches
            return False
        many = keypoints.shape[0] * keypoints.shape[1] >= _MANY_FRAMES
        on_cpu = keypoints.device.type == "cpu" and not onednn_multiplies()
        return many and on_cpu and not torch.is_grad_enabled()

    def _encode_many(self, x: Tensor) -> Tensor:
        """Windows (B, 2J, frames) -> (B, channels, 1), as `_encode_window`."""
        x = self._activate(F.conv1d(x, self.expand_conv.weight, stride=self.widths[0]), self.expand_bn)
        for (wide, wide_norm, point, point_norm), width in zip(self._blocks(), self.widths[1:], strict=True):
            y = self._activate(F.conv1d(x, wide, stride=width), wide_norm)
            x = x[:, :, width // 2 :: width] + self._activate(F.conv1d(y, point), point_norm)
        return x

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, channels, T') -> poses (B, T', J, 3) mm."""
        metres = self.shrink(latent).transpose(1, 2).unflatten(-1, (-1, 3))
        log_metres = None if self.sigma_head is None else self.sigma_head(latent).transpose(1, 2)
        return self.to_output(metres, log_metres)

    def _blocks(self) -> Iterator[tuple[Tensor, nn.Module, Tensor, nn.Module]]:
        """Weight and norm of each residual block's temporal convolution, and of its point-wise one."""
        for conv, point, norm, point_norm in zip(
            self.layers_conv[::2], self.layers_conv[1::2], self.layers_bn[::2], self.layers_bn[1::2], strict=True
        ):
            assert isinstance(conv.weight, Tensor) and isinstance(point.weight, Tensor)
            yield conv.weight, norm, point.weight, point_norm

    def _activate(self, x: Tensor, norm: nn.Module) -> Tensor:
        activated: Tensor = self.dropout(F.relu(norm(x)))
        return activated

    def _activate_last(self, x: Tensor, weight: Tensor, norm: nn.Module) -> Tensor:
        """(B, T, inputs), weight (outputs, inputs, 1) or its taps in one row -> (B, T, outputs)."""
        y = F.linear(x, weight.flatten(1)).flatten(0, 1)
        return self._activate(y, norm).view(*x.shape[:2], -1)


def _taps(x: Tensor, width: int) -> Tensor:
    """(B, T, C) -> (B, T / width, C · width), the frames side by side as a convolution's weights lie."""
    return x.reshape(x.shape[0], x.shape[1] // width, width, -1).transpose(2, 3).flatten(2)


LIFTER = VideoPose3D
