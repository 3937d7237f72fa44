"""Score a lifter's checkpoint on a labelled domain: python -m poseda.evaluate"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, show, use_machine

if TYPE_CHECKING:
    from poseda.cli.schema import EvaluateJob

COMMAND = Command(
    name="evaluate",
    summary="score a lifter's checkpoint on the test clips of a labelled domain, under a named protocol",
    examples=(
        (
            "checkpoint=runs/h36m-3dhp/default/seed0/lifter.safetensors target=3dhp",
            "what adapt left, scored again",
        ),
        (
            "checkpoint=lifter.safetensors target=3dhp protocol=poseaug16",
            "another way to compute the numbers",
        ),
        (
            "checkpoint=lifter.safetensors target=archive target.path=clips.safetensors",
            "an archive of one's own",
        ),
        (
            "checkpoint=lifter.safetensors target=3dhp flip=false uncertainty=uncertainty.safetensors inflate=true",
            "whether the uncertainty that calibrate wrote holds there",
        ),
    ),
)


def evaluate(job: EvaluateJob) -> None:
    """Check, lift the test clips, print the table; write the numbers where `output` says."""
    from pathlib import Path

    from poseda.cli.calibrating import asked_uncertainty, calibration_table, predicted, uncertainty_label
    from poseda.cli.checks import check_evaluate
    from poseda.cli.models import open_job_lifter
    from poseda.cli.report import evaluation_table, job_protocol
    from poseda.data.domains import load_test
    from poseda.data.legacy import legacy_clips
    from poseda.engine.evaluate import evaluate_lifter
    from poseda.engine.records import write_results
    from poseda.engine.runtime import resolve_device
    from poseda.lifters.inference import lift_clips

    check_evaluate(job)
    use_machine(job)
    device = resolve_device(job.device)
    lifter, card = open_job_lifter(job.checkpoint, job.source_model)
    protocol = job_protocol(job)
    uncertainty = asked_uncertainty(job, lifter, protocol.flip)
    data = job.data
    clips = load_test(job.target, root=data.root, require=data.require, skeleton=lifter.skeleton.name).to(device)
    if job.tails != "exact":
        clips = legacy_clips(clips, lifter.frames, job.tails)
    lifted = lift_clips(lifter.to(device), clips.unlabelled(), flip=protocol.flip, config=job.lift)
    evaluation = evaluate_lifter(lifter, clips, protocol, lift=lambda _: lifted)
    show(evaluation_table({lifter.name: evaluation}, clips.provenance))
    calibration = predicted(uncertainty, job, lifter, clips, lifted).score() if uncertainty else None
    if job.output:
        results = {"checkpoint": job.checkpoint or job.source_model, "card": card, "target": evaluation.to_json()}
        results |= {"uncertainty": calibration.to_json()} if calibration else {}
        data_used, described = [clips.provenance], evaluation.describe()
        write_results(Path(job.output), results, seed=job.target.seed, protocol=described, data=data_used)
    if calibration:
        show("\n" + calibration_table({uncertainty_label(job): calibration}, clips.provenance))
    if job.output:
        show(f"The numbers are in {job.output}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
