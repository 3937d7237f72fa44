"""Our GPU kernels beside PyTorch's: linear layers, layer norm and attention without a gradient, times and errors.

python experiments/bench/kernels.py --device cuda

Errors are relative to float64, of the first rows. PyTorch's attention is its own choice of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from machine import options, seconds, start
from torch import Tensor
from torch.nn import functional as F

from poseda.lifters.matmul import gpu_products

try:
    from poseda.lifters import triton_kernels
except ImportError as error:
    raise SystemExit(f"kernels.py: {error}; Triton comes with PyTorch's CUDA builds for Linux.") from None

TOKENS = 64 * 243 * 17
LINEAR = ((TOKENS, 512, 1536), (TOKENS, 512, 512), (TOKENS, 512, 1024), (TOKENS, 1024, 512), (TOKENS, 256, 768),
          (TOKENS, 128, 384), (TOKENS, 512, 128), (TOKENS, 64, 192), (16384, 512, 1536), (4131, 512, 1536))  # fmt: skip
"""Tokens, input and output channels: of 64 windows of 243 frames, then of fewer."""
ATTENTION = ((64, 136, 243, 64), (64, 136, 243, 16), (64, 136, 243, 8), (64, 136, 81, 64), (64, 136, 81, 16),
             (64, 136, 27, 64), (64, 8, 27, 68), (15552, 8, 17, 64), (15552, 8, 17, 16), (1728, 8, 17, 4))  # fmt: skip
"""Batch, heads, tokens, channels of a head: along frames, then along joints."""
NORM = ((TOKENS, 512), (TOKENS, 128), (4131, 512))
ROWS = 64


def main() -> None:
    """Print the table."""
    arguments = options(str(__doc__).split("\n")[0], batch=1, repeats=5).parse_args()
    device = start(arguments)
    if device.type != "cuda":
        raise SystemExit("kernels.py: there are kernels for a GPU alone; give --device cuda.")
    print("| what | PyTorch float32: ms, error | TF32 | kernel, float32 | kernel, TF32 |\n|---|---:|---:|---:|---:|")
    with torch.no_grad():
        for shape in LINEAR:
            report(f"linear {shape}", *linear(shape, device), device, arguments.repeats)
        for shape in ATTENTION:
            report(f"attention {shape}", *attention(shape, device), device, arguments.repeats)
        for shape in NORM:
            report(f"layer norm {shape}", *norm(shape, device), device, arguments.repeats)


def linear(shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, list[Callable[[], Tensor] | None]]:
    """The exact result's first rows; PyTorch in float32 and TF32, the kernel in both (None: there is none)."""
    tokens, inputs, outputs = shape
    x, bias = torch.randn(tokens, inputs, device=device), torch.randn(outputs, device=device)
    weight = torch.randn(outputs, inputs, device=device) * inputs**-0.5
    exact = F.linear(x[:ROWS].double(), weight.double(), bias.double())
    plain = partial(F.linear, x, weight, bias)
    return exact, [plain, plain, partial(triton_kernels.linear, x, weight, bias), None]


def attention(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, list[Callable[[], Tensor] | None]]:
    """As `linear`; queries, keys and values are the views that the lifters take."""
    batch, heads, tokens, width = shape
    if heads == 8:  # one product for all three
        q, k, v = torch.randn(batch, tokens, 3, heads, width, device=device).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        q, k, v = torch.randn(3, batch, tokens, heads, width, device=device).transpose(2, 3).unbind(0)
    exact = F.scaled_dot_product_attention(*(part[:ROWS].double() for part in (q, k, v)))
    plain = partial(F.scaled_dot_product_attention, q, k, v)
    ours = [partial(triton_kernels.attention, q, k, v, width**-0.5, exact) for exact in (True, False)]
    return exact, [plain, plain, *ours]


def norm(shape: tuple[int, int], device: torch.device) -> tuple[Tensor, list[Callable[[], Tensor] | None]]:
    """As `linear`."""
    x, weight, bias = torch.randn(*shape, device=device), *torch.randn(2, shape[1], device=device)
    exact = F.layer_norm(x[:ROWS].double(), shape[1:], weight.double(), bias.double(), 1e-6)
    ours = partial(triton_kernels.layer_norm, x, weight, bias, 1e-6)
    return exact, [partial(F.layer_norm, x, shape[1:], weight, bias, 1e-6), None, ours, None]


def report(
    what: str, exact: Tensor, forms: list[Callable[[], Tensor] | None], device: torch.device, repeats: int
) -> None:
    """One line."""
    cells = []
    for form, tf32 in zip(forms, (False, True, False, True), strict=True):
        if form is None:
            cells.append("–")
            continue
        with gpu_products(tf32):
            error = float((form()[:ROWS].double() - exact).norm() / exact.norm())
            form()
            taken = seconds(lambda run=form: [run() for _ in range(repeats)], device) / repeats  # type: ignore[misc]
        cells.append(f"{1e3 * taken:.3f}, {error:.1e}")
    print(f"| {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
