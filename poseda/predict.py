"""Lift the 2D keypoints of an archive to 3D poses: python -m poseda.predict"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, use_threads

if TYPE_CHECKING:
    from poseda.cli.schema import PredictJob
    from poseda.data.clips import Clips
    from poseda.lifters.base import Lifter
    from poseda.lifters.inference import LiftedClips

COMMAND = Command(
    name="predict",
    summary="lift the 2D keypoints of an archive to root-relative 3D poses in mm, with their uncertainty",
    examples=(
        (
            "checkpoint=lifter.safetensors input=clips.safetensors output=poses.npz",
            "poses of an archive",
        ),
        (
            "checkpoint=lifter.safetensors input=clips.safetensors flip=true",
            "averaged with the mirrored input",
        ),
    ),
)


def predict(job: PredictJob) -> None:
    """Check, lift every frame once, write the file, say what is in it."""
    from poseda.cli.checks import check_predict
    from poseda.data.archive import load_archive
    from poseda.engine.checkpoint import load_lifter
    from poseda.engine.runtime import resolve_device
    from poseda.lifters.inference import lift_clips

    check_predict(job)
    use_threads(job.threads)
    lifter, _ = load_lifter(job.checkpoint)
    clips = load_archive(job.input).convert(lifter.skeleton).to(resolve_device(job.device))
    lifted = lift_clips(lifter.to(clips.keypoints.device), clips, flip=job.flip)
    write_poses(job.output, lifted, clips, lifter)
    sigma = "with sigma" if lifted.sigma is not None else "without sigma: this lifter has no uncertainty head"
    print(f"{job.output}: {clips.num_frames} frames of {lifter.skeleton.num_joints} joints in mm, {sigma}.")


def write_poses(path: str, lifted: LiftedClips, clips: Clips, lifter: Lifter) -> None:
    """Write poses (F, J, 3) mm, sigma (F, J) mm, joint names, sequence bounds (S+1,), fps and units."""
    import numpy as np

    from poseda.engine.checkpoint import atomic_write

    arrays = {
        "poses": lifted.poses.cpu().numpy(),
        "joints": np.array(lifter.skeleton.joints),
        "bounds": clips.bounds.cpu().numpy(),
        "sequences": np.array([sequence.name for sequence in clips.sequences]),
        "fps": np.array(clips.fps),
        "units": np.array("mm"),
        "frame": np.array("camera: x right, y down, z forward; relative to the root"),
    }
    if lifted.sigma is not None:
        arrays["sigma"] = lifted.sigma.cpu().numpy()
    atomic_write(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, predict, argv)


if __name__ == "__main__":
    sys.exit(main())
