"""The meta step: what a lifter learns on one set of windows is judged on another (MAML, Finn et al., ICML 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from poseda.engine.supervised import SIGMA_WEIGHT, lifter_loss
from poseda.lifters.base import Lifter


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows as the lifter learns from them."""

    keypoints: Tensor
    """(B, T, J, inputs) what the lifter sees."""
    target: Tensor
    """(B, T', J, 3) mm, root-relative, in the axes of its view."""
    weight: Tensor
    """(B,) 1 = use, 0 = drop."""


def windows_loss(lifter: Lifter, weights: Mapping[str, Tensor], windows: Windows) -> Tensor:
    """The lifter's training loss on windows, with `weights` in place of its own parameters -> scalar."""
    output = functional_call(lifter, dict(weights), (windows.keypoints,))
    losses = lifter_loss(output, windows.target, windows.weight)
    return losses["pose"] + SIGMA_WEIGHT * losses["sigma"] if "sigma" in losses else losses["pose"]


def meta_gradients(
    lifter: Lifter, inner: Windows, outer: Windows, rate: float, *, first_order: bool = False
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Gradients by name of (L_inner(w) + L_outer(w - rate grad L_inner(w))) / 2, and both losses, detached.

    first_order leaves out the second derivatives, that is the change of grad L_inner with w. Parameters that are
    frozen or that no loss reaches get no gradient.
    """
    weights = {name: value for name, value in lifter.named_parameters() if value.requires_grad}
    with _twice_differentiable():
        first = windows_loss(lifter, weights, inner)
        slopes = torch.autograd.grad(
            first, list(weights.values()), create_graph=not first_order, retain_graph=True, allow_unused=True
        )
        fast = {
            name: value if slope is None else value - rate * slope
            for (name, value), slope in zip(weights.items(), slopes, strict=True)
        }
        second = windows_loss(lifter, fast, outer)
        gradients = torch.autograd.grad((first + second) / 2, list(weights.values()), allow_unused=True)
    found = {name: gradient for name, gradient in zip(weights, gradients, strict=True) if gradient is not None}
    return found, first.detach(), second.detach()


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Attention by plain products: the fused kernels have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
