"""What oneDNN gains over PyTorch's own choice for float32 products on this CPU: one product, and steps of the lifters.

    python experiments/bench/products.py

One thread and its own CPU time, so that other work on the machine counts little; random weights and keypoints.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from lifters import forward_seconds, repeated, subject_of, training_seconds
from torch.nn import functional as F

import poseda
from poseda.lifters.matmul import kept_products, use_products

CASES: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("simplebaseline", {"hidden": 512}, 512),
    ("videopose3d", {"frames": 9, "channels": 256}, 256),
    ("semgcn", {}, 128),
    ("stgcn", {"channels": 32}, 128),
    ("glagcn", {"frames": 27}, 4),
    ("poseformer", {"frames": 27}, 8),
    ("poseformerv2", {"frames": 27}, 8),
    ("convformer", {"frames": 27}, 8),
    ("mixste", {"frames": 27, "dim": 128, "depth": 4}, 8),
    ("mixste", {"frames": 243, "dim": 128, "depth": 4}, 1),
    ("motionbert", {"frames": 27, "dim": 64, "depth": 2}, 8),
    ("motionagformer", {}, 4),
    ("ktpformer", {"frames": 27, "dim": 128, "depth": 3}, 8),
    ("hot", {"frames": 81, "dim": 64, "depth": 6}, 2),
    ("gumlp", {"channels": 64}, 64),
)
ROWS, INNER, COLUMNS = 512, 1024, 1024


def main() -> None:
    """Print a line for one product, then the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="time for each measurement")
    arguments = parser.parse_args()
    arguments.device, arguments.threads, arguments.precision, arguments.compile = "cpu", 1, "float32", False
    torch.set_num_threads(1)
    for name in ("torch", "onednn"):
        with kept_products():
            use_products(name)
            print(f"{name}: {ROWS} x {INNER} by {INNER} x {COLUMNS}, {product(arguments)}")
    print("| lifter | batch | forward, ms | step, ms | times |\n|---|---:|---:|---:|---:|")
    for name, options, batch in CASES:
        before, after = (measured(name, options, batch, who, arguments) for who in ("torch", "onednn"))
        label = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
        cells = [f"{1e3 * a:.3g} → {1e3 * b:.3g}" for a, b in zip(before, after, strict=True)]
        print(f"| {label} | {batch} | {' | '.join(cells)} | {before[1] / after[1]:.1f} |", flush=True)


def product(arguments: argparse.Namespace) -> str:
    """Speed and relative error of one product, against float64."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(ROWS, INNER, generator=generator), torch.randn(COLUMNS, INNER, generator=generator)
    with torch.inference_mode():
        seconds = repeated(lambda: F.linear(left, right), arguments)
        exact = left.double() @ right.double().mT
        error = (F.linear(left, right) - exact).norm() / exact.norm()
    return f"{2e-9 * ROWS * INNER * COLUMNS / seconds:.0f} GFLOP/s, relative error {float(error):.1e}"


def measured(
    name: str, options: dict[str, Any], batch: int, who: str, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of a forward pass and of a training step."""
    with kept_products():
        use_products(who)
        subject = subject_of(poseda.create_lifter(name, seed=0, **options))
        return forward_seconds(subject, batch, arguments), training_seconds(subject, batch, arguments)


if __name__ == "__main__":
    main()
