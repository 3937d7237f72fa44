"""Attention on a GPU: PyTorch's own choice of a kernel and ours, forward and with the gradient.

python experiments/bench/attention.py --device cuda
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from machine import options, seconds, start
from torch import Tensor
from torch.nn import functional as F

from poseda.lifters.blocks import attend

SHAPES = (
    (64, 136, 27, 64), (64, 136, 27, 8), (256, 136, 27, 16), (6912, 8, 17, 16), (2000, 8, 17, 16), (1024, 8, 17, 64),
    (9, 136, 27, 64), (64, 136, 243, 64),
)  # fmt: skip
"""Batch, heads, tokens, channels of a head: of the lifters of docs/lifters.md in batches, along joints or frames."""


def main() -> None:
    """Print the table, ms."""
    arguments = options(str(__doc__).split("\n")[0], batch=1, repeats=10).parse_args()
    device = start(arguments)
    print("| | batch, heads, tokens, channels | PyTorch | ours | PyTorch, with gradient | ours, with gradient |")
    print("|---|---|---:|---:|---:|---:|")
    for dtype in (torch.float32, torch.bfloat16):
        for batch, heads, tokens, channels in SHAPES:
            packed = torch.randn(3, batch, tokens, 3, heads, channels, device=device, dtype=dtype)
            q, k, v = packed[:, :, :, 0].transpose(2, 3).unbind(0)  # views, as of one product for all three
            with torch.no_grad():
                times = [mean_ms(form, (q, k, v), device, arguments.repeats) for form in FORMS]
            for part in (q, k, v):
                part.requires_grad_(True)
            times += [mean_ms(learned(form), (q, k, v), device, arguments.repeats) for form in FORMS]
            shape = f"{batch}, {heads}, {tokens}, {channels}"
            print(f"| {str(dtype)[6:]} | {shape} | {' | '.join(f'{value:.3f}' for value in times)} |", flush=True)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What PyTorch chooses by itself."""
    return F.scaled_dot_product_attention(q, k, v)


FORMS = (fused, attend)


def learned(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The form and its backward pass."""

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result = form(q, k, v)
        result.backward(torch.ones_like(result))
        return result

    return run


def mean_ms(
    form: Callable[[Tensor, Tensor, Tensor], Tensor], given: tuple[Tensor, ...], device: torch.device, repeats: int
) -> float:
    """Mean ms of `repeats` runs in a row, after one to warm up."""
    form(*given)
    return 1e3 * seconds(lambda: [form(*given) for _ in range(repeats)], device) / repeats


if __name__ == "__main__":
    main()
