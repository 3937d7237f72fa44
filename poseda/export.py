"""Write a lifter as a program for other runtimes: python -m poseda.export"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, show

if TYPE_CHECKING:
    from poseda.cli.schema import ExportJob

COMMAND = Command(
    name="export",
    summary="write a lifter as a torch.export or ONNX program, checked against the lifter, and a description of it",
    examples=(
        (
            "checkpoint=lifter.safetensors output=lifter.pt2",
            "for PyTorch without this package: torch.export.load('lifter.pt2').module()",
        ),
        (
            "checkpoint=lifter.safetensors output=lifter.onnx",
            "for ONNX runtimes; needs the extra: pip install -c constraints.txt -e '.[onnx]'",
        ),
    ),
)


def export(job: ExportJob) -> None:
    """Check, export, compare on random keypoints, write the program and its JSON description."""
    from poseda.cli.checks import check_lifter, check_output
    from poseda.cli.models import open_job_lifter
    from poseda.engine.export import TOLERANCE_MM, export_lifter, takes_screen

    check_lifter(job.checkpoint, job.source_model)
    check_output(job.output, ".pt2", ".onnx", inputs=[("checkpoint", job.checkpoint)])
    lifter, _ = open_job_lifter(job.checkpoint, job.source_model)
    written = export_lifter(lifter, job.output)
    shape = f"keypoints (batch, {lifter.frames}, {lifter.skeleton.num_joints}, 2)"
    what = "screen-normalised" if takes_screen(lifter) else "in pixels, their confidence and cameras"
    show(f"{written.program}: {lifter.name} on {shape}, {what}; described in {written.description}.")
    if written.max_batch:
        show(f"It takes up to {written.max_batch} windows at a time.")
    show(f"At most {written.difference_mm:.2g} mm from the lifter on random keypoints (limit {TOLERANCE_MM} mm).")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, export, argv)


if __name__ == "__main__":
    sys.exit(main())
