"""Ways to inflate sigma by reprojection residuals, compared on the target with its labels.

    python experiments/uncertainty/forms.py cmu17.npz hdm05_17.npz seed0.safetensors seed1.safetensors
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from poseda.cli.calibrating import split_takes
from poseda.data.domains import DomainConfig, load_domain, load_test
from poseda.engine.official import open_lifter
from poseda.uncertainty import estimator_class
from poseda.uncertainty.base import Lifting, moving_joints
from poseda.uncertainty.calibrated import Predicted, fit_uncertainty
from poseda.uncertainty.inflation import residuals


def factors(source: Tensor, target: Tensor, before: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """Factors by name, (J,), (F, 1) or scalar, of residuals (F, J) and sigma (F, J) mm of both domains, at least 1."""
    frame = target.nanmean(-1, keepdim=True) / source.nanmean()
    scaled = (target / sigma).nanmean() / (source / before).nanmean()
    found = {
        "none": torch.ones(()),
        "median of each joint": target.nanmedian(0).values / source.nanmedian(0).values,
        "mean of each joint": target.nanmean(0) / source.nanmean(0),
        "mean of all": target.nanmean() / source.nanmean(),
        "mean of all, in units of sigma": scaled,
        "mean of each frame": frame.nan_to_num(1.0),
        "root of the mean of each frame": frame.nan_to_num(1.0).sqrt(),
    }
    return {name: factor.clamp_min(1.0) for name, factor in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cmu")
    parser.add_argument("hdm05")
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", default=["own", "constant", "flip"])
    parser.add_argument("--every", type=int, default=2, help="one target frame in so many")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cmu = DomainConfig("motion", path=args.cmu, rig="h36m", every=2, test_subjects=("16", "35"))
    fit, _ = split_takes(load_domain(cmu, root="data").test, 0.5)
    target = load_test(DomainConfig("motion", path=args.hdm05, rig="3dhp_test", every=args.every), root="data")
    numbers: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for checkpoint in args.checkpoints:
        lifter, _ = open_lifter(checkpoint)
        held_out, seen = Lifting.of(lifter, fit), Lifting.of(lifter, target)
        for method in args.methods:
            cls = estimator_class(method)
            found = fit_uncertainty(cls(cls.Config(), lifter), held_out, recalibrate="conformal")
            first, second = found.of(held_out).stated, found.of(seen).stated
            moving = moving_joints(lifter.skeleton)
            pair = (residuals(held_out)[:, moving], residuals(seen)[:, moving])
            for form, factor in factors(*pair, first.sigma, second.sigma).items():
                values = Predicted(seen, second.scaled(factor), found.recalibration).score().values
                kept = ("calibration_error", "calibration_error_joint", "coverage90")
                numbers.setdefault((method, form), []).append(tuple(values[name] for name in kept))
    print("| sigma from | inflated by the ratio of | ECE % | by joint % | in 90 % radius % |\n|---|---|---|---|---|")
    for (method, form), rows in numbers.items():
        cells = (f"{statistics.mean(column):.1f}" for column in zip(*rows, strict=True))
        print("| " + " | ".join([method, form, *cells]) + " |")


if __name__ == "__main__":
    main()
