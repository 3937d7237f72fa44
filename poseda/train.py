"""Train a lifter on a labelled domain: python -m poseda.train"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poseda.cli.app import Command, run_command, show, use_machine

if TYPE_CHECKING:
    from poseda.cli.schema import TrainJob

COMMAND = Command(
    name="train",
    resumes=True,
    summary="train a 2D-to-3D pose lifter on a labelled domain; writes a checkpoint with its card",
    examples=(
        ("source=h36m", "the default network on the default data"),
        ("source=h36m lifter=videopose3d lifter.frames=27", "a temporal network"),
        (
            "source=motion source.path=A.npz source.rig=h36m train.steps=20000",
            "real motion seen by published cameras",
        ),
    ),
)


def train(job: TrainJob) -> None:
    """Check, train, score on the source's test clips, write the checkpoint and its card, print the table."""
    from poseda.cli.checks import check_train
    from poseda.cli.report import data_card, evaluation_table, job_card, job_protocol
    from poseda.cli.runs import run_folder
    from poseda.data.domains import load_domain
    from poseda.engine.checkpoint import save_lifter
    from poseda.engine.evaluate import evaluate_lifter
    from poseda.engine.facts import FACTS, measure_facts
    from poseda.engine.progress import Progress
    from poseda.engine.records import RunFolder, write_results
    from poseda.engine.runtime import resolve_device
    from poseda.engine.supervised import train_lifter
    from poseda.lifters import create_lifter
    from poseda.zoo import load_source_model

    check_train(job)
    use_machine(job)
    device = resolve_device(job.device)
    if job.source_model:
        lifter, _ = load_source_model(job.source_model)
    else:
        lifter = create_lifter(job.lifter.name, seed=job.seed, **job.lifter.options)
    lifter.to(device)
    domain = load_domain(job.source, root=job.data.root, require=job.data.require, skeleton=lifter.skeleton.name)
    with run_folder(job) as path:
        run, clips = RunFolder(path), domain.train.to(device)
        progress = Progress("train", job.train.steps)
        train_lifter(lifter, clips, job.train, seed=job.seed, folder=run.training("source"), progress=progress)
        evaluation = evaluate_lifter(lifter, domain.test.to(device), job_protocol(job))
        card = job_card(job, data_card(clips), evaluation)
        facts = measure_facts(lifter, domain.test.to(device), clips)
        save_lifter(run.lifter, lifter, {**card, FACTS: facts.to_card()})
        results = {"source": evaluation.to_json()}
        data = [clips.provenance, domain.test.provenance]
        write_results(run.results, results, seed=job.seed, protocol=evaluation.protocol.describe(), data=data)
    show(evaluation_table({lifter.name: evaluation}, domain.test.provenance))
    show(f"The lifter is {run.lifter}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given words (sys.argv by default) and return its exit code."""
    return run_command(COMMAND, train, argv)


if __name__ == "__main__":
    sys.exit(main())
