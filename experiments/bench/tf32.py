"""What `lift.precision=tf32` costs in mm, on any machine: factors of products are rounded as a GPU rounds them.

python experiments/bench/tf32.py

A tensor core reads float32 numbers with 10 of their 23 bits after the point and sums in float32. Here the factors are
rounded to the nearest such number, and the product is made in float32. Random weights: the largest and the mean
distance of a joint from float32, and the largest distance of a joint from the root. Shipped models: their MPJPE on the
stand-in test clips that their cards name, in float32 and in TF32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import poseda
from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.evaluate import evaluate_lifter
from poseda.lifters.base import LifterOutput
from poseda.zoo import list_source_models, load_source_model

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution"}
"""All that a lifter multiplies by in eval mode, attention written out."""
SIZES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("simplebaseline", {}),
    ("videopose3d", {"frames": 27}),
    ("poseformer", {"frames": 27}),
    ("poseformerv2", {"frames": 81, "kept_frames": 9, "coefficients": 9}),
    ("glagcn", {"frames": 27}),
    ("convformer", {"frames": 27}),
    ("mixste", {"frames": 81}),
    ("ktpformer", {"frames": 81}),
    ("motionbert", {"frames": 81}),
    ("motionagformer", {"variant": "xs"}),
)


class TF32(TorchDispatchMode):
    """Rounds the factors of products to 10 bits after the point."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name in PRODUCTS:
            first = 1 if name in ("addmm", "baddbmm") else 0  # what is added is not multiplied
            factors = [rounded(factor) for factor in args[first : first + 2]]
            args = (*args[:first], *factors, *args[first + 2 :])
        return func(*args, **(kwargs or {}))


def rounded(values: Tensor) -> Tensor:
    """The nearest numbers with 10 bits after the point."""
    if values.dtype != torch.float32:
        return values
    return ((values.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def main() -> None:
    """Print both tables."""
    print("| lifter | largest error mm | mean error mm | largest distance from the root mm |\n|---|---:|---:|---:|")
    for name, options in SIZES:
        lifter = poseda.create_lifter(name, seed=0, **options).eval()
        generator = torch.Generator().manual_seed(0)
        keypoints = torch.rand(4, lifter.frames, lifter.skeleton.num_joints, 2, generator=generator) * 2 - 1
        with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            pose = lifter(keypoints).pose
            with TF32():
                error = (lifter(keypoints).pose - pose).norm(dim=-1)
        label = f"{name} {lifter.frames}"
        print(f"| {label} | {error.max():.2g} | {error.mean():.2g} | {pose.norm(dim=-1).max():.0f} |", flush=True)
    clips = load_domain(DomainConfig("h36m", every=5, max_frames=2000), root="").test
    print("\n| shipped model | MPJPE mm, float32 | TF32 |\n|---|---:|---:|")
    for name in list_source_models():
        lifter, _ = load_source_model(name)
        exact = evaluate_lifter(lifter, clips)
        lift_windows = lifter.lift_windows

        def less_exactly(*args: Any, **options: Any) -> LifterOutput:
            with TF32():
                return lift_windows(*args, **options)  # noqa: B023 - used before the next turn

        lifter.lift_windows = less_exactly  # type: ignore[method-assign]
        less = evaluate_lifter(lifter, clips)
        print(f"| {name} | {exact.values['mpjpe']:.3f} | {less.values['mpjpe']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
