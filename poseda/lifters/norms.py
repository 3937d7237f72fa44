"""The BatchNorm layers of a lifter."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(lifter: nn.Module) -> list[_BatchNorm]:
    """All BatchNorm layers with running statistics."""
    return [layer for layer in lifter.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
