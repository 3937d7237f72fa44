"""Calibrated uncertainty for a lifter: python -m poseda.calibrate"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, show, use_machine

if TYPE_CHECKING:
    from poseda.cli.schema import CalibrateJob

COMMAND = Command(
    name="calibrate",
    summary="give any lifter calibrated uncertainty, fitted on people of the source that it never saw",
    examples=(
        (
            "checkpoint=lifter.safetensors source=h36m output=uncertainty.safetensors",
            "the lifter's own head, and conformal radii; predict and evaluate take the file as uncertainty=FILE",
        ),
        (
            "checkpoint=lifter.safetensors source=h36m uncertainty=posthoc recalibrate=temperature",
            "a head on the frozen lifter with a covariance a joint, its size corrected",
        ),
    ),
)


def calibrate(job: CalibrateJob) -> None:
    """Check, fit, write the file, print how well it holds on the takes that were kept back."""
    from poseda.cli.calibrating import run_calibration
    from poseda.cli.checks import check_calibrate

    check_calibrate(job)
    use_machine(job)
    show(run_calibration(job))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, calibrate, argv)


if __name__ == "__main__":
    sys.exit(main())
