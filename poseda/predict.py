"""Lift 2D keypoints to 3D poses: python -m poseda.predict"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, show, use_machine

if TYPE_CHECKING:
    from poseda.cli.schema import PredictJob

COMMAND = Command(
    name="predict",
    summary="lift 2D keypoints to root-relative 3D poses in mm, with their uncertainty and the root that fits the 2D",
    examples=(
        (
            "checkpoint=lifter.safetensors input=alphapose-results.json width=1920 height=1080 animation=poses.gif",
            "poses of a detector's keypoints, and a look at them",
        ),
        (
            "checkpoint=lifter.safetensors input=clips.safetensors output=poses.bvh refine=true tto.lengths=person",
            "poses of an archive for an animation program, refined at test time, with each person's own bones",
        ),
        (
            "checkpoint=lifter.safetensors input=clips.safetensors flip=true",
            "averaged with the mirrored input",
        ),
        (
            "checkpoint=lifter.safetensors input=clips.safetensors uncertainty=uncertainty.safetensors inflate=true",
            "with the uncertainty that calibrate wrote, widened where poses fit their 2D worse than on the source",
        ),
        (
            "checkpoint=lifter.safetensors follow=true input=- width=1920 height=1080",
            "frames as they come: a JSON line in, a JSON line out (docs/streaming.md)",
        ),
    ),
)


def predict(job: PredictJob) -> None:
    """Check, lift every frame once, write the files, say what is in them."""
    from dataclasses import replace

    from poseda.cli.calibrating import asked_uncertainty, predicted
    from poseda.cli.checks import check_predict
    from poseda.cli.models import open_job_lifter
    from poseda.cli.predicting import animate, read_input
    from poseda.engine.facts import facts_of
    from poseda.engine.predictions import save_predictions
    from poseda.engine.runtime import resolve_device
    from poseda.lifters.inference import lift_clips
    from poseda.stages.tto import TTO

    use_machine(job, products=not job.follow)  # a frame at a time is too little for oneDNN to gain
    if job.follow:
        from poseda.cli.following import follow

        return follow(job)
    check_predict(job)
    lifter, card = open_job_lifter(job.checkpoint, job.source_model)
    uncertainty = asked_uncertainty(job, lifter, job.flip)
    clips, remarks = read_input(job, lifter.skeleton)
    for remark in remarks:
        show(remark)
    clips = clips.to(resolve_device(job.device))
    lifted = lift_clips(lifter.to(clips.keypoints.device), clips, flip=job.flip, config=job.lift)
    lifted = predicted(uncertainty, job, lifter, clips, lifted).lifted() if uncertainty else lifted
    if job.refine:  # the uncertainty is that of the first prediction
        stage = TTO(job.tto)
        stage.calibrate_without_source(lifter, facts_of(card, lifter.skeleton))
        lifted = replace(lifted, poses=stage.refine(lifter, clips, lifted).poses)
        show(stage.remark(), end="\n" if stage.remark() else "")
    files = save_predictions(job.output, lifted, clips)
    sigma = "with sigma" if lifted.sigma is not None else "without sigma: this lifter has no uncertainty head"
    sigma = f"{sigma} and 90 % radii" if lifted.radius90 is not None else sigma
    named = str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1]}"
    content = "in cm, y up" if files[0].suffix == ".bvh" else f"in mm, {sigma}"
    show(f"{named}: {clips.num_frames} frames of {lifter.skeleton.num_joints} joints {content}.")
    if job.animation:
        show(animate(job.animation, lifted, clips))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, predict, argv)


if __name__ == "__main__":
    sys.exit(main())
