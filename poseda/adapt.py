"""Adapt a lifter from a labelled source domain to an unlabelled target domain: python -m poseda.adapt"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, show, use_machine

if TYPE_CHECKING:
    from poseda.cli.schema import AdaptJob

COMMAND = Command(
    name="adapt",
    resumes=True,
    summary="adapt a 2D-to-3D pose lifter to an unlabelled target domain, and show what each stage brings",
    examples=(
        (
            "source=h36m target=3dhp",
            "the main job; embedded stand-in data where the real one is not prepared",
        ),
        ("stages=[gpa,lpa,tto] seed=1", "which stages, in this order"),
        ("gpa.refine_iters=0 adapt.steps=500", "options of a stage and of the adaptation"),
        (
            "oracle=true name=with_oracle",
            "also train on the target's labels, to show the best that could be reached",
        ),
        (
            "source=motion source.path=A.npz source.rig=h36m target=motion target.path=B.npz target.rig=3dhp_test",
            "real motion capture, seen by published cameras",
        ),
        ("-m seed=0,1,2", "three seeds, one after the other"),
    ),
)


def adapt(job: AdaptJob) -> None:
    """Check, run all phases, print the table and the sentence. Interrupted runs go on where they stopped."""
    from poseda.cli.adaptation import run_adaptation
    from poseda.cli.checks import check_adapt
    from poseda.cli.predicting import predict_words
    from poseda.cli.runs import run_folder
    from poseda.engine.progress import Progress
    from poseda.engine.records import RunFolder

    check_adapt(job)
    use_machine(job)
    with run_folder(job) as folder:
        results = run_adaptation(job, Progress)
    show(results.table())
    show(results.sentence())
    show(f"All of it is in {folder}.")
    if command := predict_words(job, RunFolder(folder).lifter):
        show(f"Poses of other clips, made as in the last row: {command}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, adapt, argv)


if __name__ == "__main__":
    sys.exit(main())
