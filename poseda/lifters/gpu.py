"""Where a GPU's own kernels do what PyTorch's do, sooner: linear layers, layer norms and attention of large batches.

They run where no gradient is asked for, on GPUs of the kind that they were measured on (Hopper, an H200), in programs
that are not compiled. Everywhere else, and where they cannot be built, PyTorch computes; the results differ by
rounding, and by what near-ties decide (HoT's frames, MotionAGFormer's edges). A linear layer is as exact as float32
products are, and runs where those are asked for (`gpu_products`).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.lifters.matmul import gpu_multiplies_in_full

_HOPPER = 9
"""Its major compute capability."""
_PRODUCTS, _NUMBERS = 2**32, 2**22
"""Multiplications of a linear layer, and numbers of a layer norm's or an attention's input, from which a kernel gains
more on the GPU than the host takes longer to start it."""
_INPUTS, _OUTPUTS, LINEAR_STEP = 128, 64, 32
"""Channels of a linear layer: at least so many of its input and its output, and of the input a multiple of the last."""
_SHORT, _MANY = 32, 8192
"""Up to so many tokens, in at least so many heads of a batch, PyTorch's own choice of attention for CUDA is slower than
its products written out, and those than the kernel (experiments/bench)."""
_WIDEST, _NORMED = 128, 8192
"""Channels of a head, and of a layer norm."""
_enabled = True


class Linear(nn.Linear):
    """nn.Linear of tokens (..., K)."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        return linear(input, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the channels of tokens (..., C)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        y = None
        fits = _asks(input) and input.numel() >= _NUMBERS and input.shape[-1:] == self.weight.shape
        if fits and input.shape[-1] <= _NORMED and _plain(input, self.weight, self.bias):
            y = _run("layer_norm", input, self.weight, self.bias, self.eps)
        return super().forward(input) if y is None else y


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias, (..., K) -> (..., N)."""
    y = None
    if _asks(x) and x.numel() * len(weight) >= _PRODUCTS and _multiplies(x, weight, bias):
        y = _run("linear", x, weight, bias)
    return F.linear(x, weight, bias) if y is None else y


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor | None:
    """softmax(scale q k^T) v of (N, heads, L, D) on a GPU, None where PyTorch has to compute it."""
    if not _asks(q):
        return None
    large = is_short(q) or (q.dtype == torch.float32 and q.numel() >= _NUMBERS)
    alike = all((x.dtype, x.device, x.stride(-1)) == (q.dtype, q.device, 1) for x in (q, k, v))
    fits = k.shape == v.shape and q.shape[:2] == k.shape[:2] and q.shape[-1] == k.shape[-1] <= _WIDEST
    if large and alike and fits and scale > 0 and q.dtype in (torch.float32, torch.bfloat16) and _may(q):
        return _run("attention", q, k, v, scale, gpu_multiplies_in_full())
    return None


def is_short(q: Tensor) -> bool:
    """Whether queries (N, heads, L, D) are those of few tokens in many heads."""
    return q.shape[-2] <= _SHORT and q.shape[0] * q.shape[1] >= _MANY


@contextmanager
def without_kernels() -> Iterator[None]:
    """Inside, PyTorch computes everything."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def _multiplies(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    outputs, inputs = weight.shape
    fits = x.shape[-1] == inputs and (bias is None or bias.shape == (outputs,))  # else PyTorch says what is wrong
    wide = fits and outputs >= _OUTPUTS and inputs >= _INPUTS and inputs % LINEAR_STEP == 0
    full = wide and gpu_multiplies_in_full() and not torch.is_autocast_enabled("cuda")
    return full and _plain(x, weight, bias)


def _plain(*given: Tensor | None) -> bool:
    """Whether kernels take these, which must be contiguous float32 numbers on one GPU."""
    tensors = [x for x in given if x is not None]
    alike = all(x.dtype == torch.float32 and x.is_contiguous() and x.device == tensors[0].device for x in tensors)
    return alike and _may(tensors[0])


def _asks(x: Tensor) -> bool:
    """Whether sizes are worth a look: a program that is being compiled must not depend on them."""
    return x.is_cuda and not torch.compiler.is_compiling()


def _may(x: Tensor) -> bool:
    """Whether kernels may run now, and on this tensor's GPU."""
    return (
        _enabled
        and not torch.is_grad_enabled()
        and not torch._C._are_functorch_transforms_active()  # whose tensors have no memory of their own
        and _is_hopper(x.device)
    )


@cache
def _is_hopper(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device)[0] == _HOPPER


def _run(name: str, x: Tensor, *given: object) -> Tensor | None:
    """What this kernel gives; None, once it is said why, where it cannot be built."""
    global _enabled
    try:
        with torch.cuda.device(x.device):
            y: Tensor = getattr(importlib.import_module("poseda.lifters.triton_kernels"), name)(x, *given)
            return y
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no Triton, no C compiler for it, one that is too old: the result is the same without
        _enabled = False
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"PyTorch computes in place of the faster kernels for this GPU: {reason}", stacklevel=2)
        return None
