"""Which library multiplies float32 matrices on a CPU, and how exactly a GPU does.

PyTorch's x86 builds use MKL, which leaves the wide instructions of AMD's processors idle; oneDNN, which every build
has too, uses them and is twice as fast there (experiments/bench). PyTorch hands products over to oneDNN where their
precision may fall to bfloat16. That is a permission: oneDNN makes use of it on processors with matrix units (AMX)
alone, and computes in float32 on all others. Whether it does is tried out here before it is relied on.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from poseda.errors import ConfigError, choose

Products = Literal["auto", "torch", "onednn"]
_ALLOWED = "bf16"
_ROUNDING = 1e-5
"""Relative error of a product that float32 stays below (4e-7 here), and bfloat16 does not (3e-3)."""
_LONGEST_WRITTEN, _LONGEST_LEARNED = 256, 128
"""Tokens up to which attention is two products while oneDNN multiplies. They are faster than the fused kernel up to 243
at least (experiments/bench), but where a lifter learns, the scores stay in memory."""


def use_products(name: str) -> str:
    """Choose for this process: auto (oneDNN on AMD processors with AVX-512), torch (PyTorch's own choice) or onednn.

    Returns what was chosen, "torch" or "onednn". Raises ConfigError for another name, and for onednn where this PyTorch
    or this processor cannot multiply in float32 with it.
    """
    choose(name, get_args(Products), "products")
    if name == "torch" or (name == "auto" and not _gains()):
        return "torch"
    before = _switch()
    try:
        _set(_ALLOWED)
        exact = _multiplies_in_float32()
    except (AttributeError, RuntimeError):  # a PyTorch without this switch
        exact = False
    if exact:
        return "onednn"
    if before is not None:
        _set(before)
    if name == "onednn":
        raise ConfigError(
            "products=onednn: this PyTorch or processor would multiply in less than float32; leave it out."
        )
    return "torch"


@contextmanager
def kept_products() -> Iterator[None]:
    """Afterwards products are made as before."""
    before = _switch()
    try:
        yield
    finally:
        if before is not None and _switch() != before:
            _set(before)


@contextmanager
def gpu_products(tf32: bool) -> Iterator[None]:
    """Inside, a GPU multiplies float32 numbers in full, or (tf32) with 10 of their 23 bits after the point.

    Left alone, PyTorch multiplies matrices in full and convolves in TF32. The settings before come back afterwards.
    """
    name: str = "allow_tf32"
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    wanted: bool | str = tf32
    try:
        before = [getattr(backend, name) for backend in backends]
    except RuntimeError:  # the program has set them by their newer names, after which these do not answer
        backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
        name, wanted = "fp32_precision", "tf32" if tf32 else "ieee"
        before = [getattr(backend, name) for backend in backends]
    try:
        for backend in backends:
            setattr(backend, name, wanted)
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            setattr(backend, name, value)


def gpu_multiplies_in_full() -> bool:
    """Whether a GPU multiplies float32 matrices in full, and not in TF32."""
    matrices: Any = torch.backends.cuda.matmul
    try:
        return not matrices.allow_tf32
    except RuntimeError:  # as in gpu_products
        return bool(matrices.fp32_precision != "tf32")


def onednn_multiplies() -> bool:
    """Whether oneDNN multiplies this process's float32 matrices."""
    return _switch() == _ALLOWED


def writes_attention(query: Tensor) -> bool:
    """Whether attention of queries (N, heads, L, D) is faster on a CPU as two products than fused: of bfloat16, and of
    float32 while oneDNN multiplies."""
    longest = _LONGEST_LEARNED if torch.is_grad_enabled() else _LONGEST_WRITTEN
    if query.device.type != "cpu" or query.shape[-2] > longest or torch.compiler.is_compiling():
        return False
    return query.dtype == torch.bfloat16 or (query.dtype == torch.float32 and onednn_multiplies())


def _gains() -> bool:
    """Whether oneDNN is known to be the faster one here: on AMD processors with AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() == "AuthenticAMD"


def _vendor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "AuthenticAMD" if "AuthenticAMD" in platform.processor() else ""
    return next((line.rpartition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def _switch() -> str | None:
    """PyTorch's precision of oneDNN's products; None for a PyTorch that has no such switch."""
    backend = getattr(torch.backends.mkldnn, "matmul", None)
    return getattr(backend, "fp32_precision", None)


def _set(precision: str) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = precision  # type: ignore[attr-defined]


def _multiplies_in_float32() -> bool:
    left, right = (torch.randn(256, 256, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    exact = left.double() @ right.double()
    error = ((left @ right).double() - exact).norm() / exact.norm()
    return bool(error < _ROUNDING)
