"""What `python -m poseda.calibrate` does, and what predict and evaluate do with its file."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from poseda.cli.models import open_job_lifter
from poseda.cli.schema import CalibrateJob, EvaluateJob, PredictJob
from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.data.domains import load_domain
from poseda.engine.records import Column, format_table
from poseda.engine.runtime import resolve_device
from poseda.errors import ConfigError, DataError
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips
from poseda.metrics.calibration import Calibration
from poseda.uncertainty import estimator_class
from poseda.uncertainty.base import AnyClips, Estimator, Lifting
from poseda.uncertainty.calibrated import Predicted, Uncertainty, fit_uncertainty
from poseda.uncertainty.files import open_uncertainty, save_uncertainty

COLUMNS = (
    Column("what", "uncertainty"),
    Column("calibration_error", "calibration error %", digits=2),
    Column("calibration_error_max", "largest %", digits=2),
    Column("calibration_error_joint", "by joint %", digits=2),
    Column("nll", "NLL nats", digits=2),
    Column("sharpness", "mean sigma mm"),
    Column("mean_error", "mean error mm"),
    Column("ause", "AUSE joints", digits=3),
    Column("ause_frame", "AUSE frames", digits=3),
    Column("ence", "ENCE %"),
    Column("coverage90", "in 90 % radius %"),
    Column("radius90", "90 % radius mm"),
    Column("frames"),
)
HOW = (
    "all joints but the root; calibration error = mean |coverage - level| at 5 to 95 %; NLL of the 3D error, mm; "
    "docs/uncertainty.md"
)


def calibration_table(rows: dict[str, Calibration], data: Provenance) -> str:
    """One row an uncertainty, how it is measured and the data below."""
    cells = [{"what": name, **row.values, "frames": row.frames} for name, row in rows.items()]
    return format_table(cells, COLUMNS, HOW, note=f"data: {data.name}, {data.kind}; 2D: {data.keypoints}")


def run_calibration(job: CalibrateJob) -> str:
    """Fit on held-out people of the source, write the file; returns what is to be said of it."""
    device = resolve_device(job.device)
    lifter, card = open_job_lifter(job.checkpoint, job.source_model)
    lifter = lifter.to(device)
    estimator = build_estimator(job, lifter)
    domain = load_domain(job.source, root=job.data.root, require=job.data.require, skeleton=lifter.skeleton.name)
    check_held_out(domain.test, card)
    fit, score = split_takes(domain.test.to(device), job.score_share)
    held_out = Lifting.of(lifter, fit, job.flip, job.lift)
    train = None
    if estimator.learns_from_training_clips:
        train = Lifting.of(lifter, domain.train.to(device), job.flip, job.lift)
    found = fit_uncertainty(estimator, held_out, train, recalibrate=job.recalibrate, density=job.density)
    about: dict[str, Any] = {"data": asdict(fit.provenance), "subjects": list(fit.subjects), "frames": fit.num_frames}
    table = ""
    if score is not None:
        scored = found.of(Lifting.of(lifter, score, job.flip, job.lift)).score()
        about["score"] = {"frames": scored.frames, **scored.values}
        table = calibration_table({f"{job.uncertainty}, {job.recalibrate}": scored}, score.provenance) + "\n"
    save_uncertainty(job.output, found, lifter, about)
    people = ", ".join(fit.subjects)
    return f"{table}{job.output}: fitted on {fit.num_frames} frames of {people}; give it as uncertainty=FILE."


def build_estimator(job: CalibrateJob, lifter: Lifter) -> Estimator:
    """The estimator that a job names, with the job's options of the same name."""
    cls = estimator_class(job.uncertainty)
    options = getattr(job, job.uncertainty, None)  # an estimator may have the name of another option, as flip has
    return cls(options if isinstance(options, cls.Config) else cls.Config(), lifter)


def check_held_out(clips: LabelledClips, card: dict[str, Any]) -> None:
    """Raise ConfigError where the lifter was trained on a person of `clips`, by its card."""
    known, data = set(card.get("subjects", ())), card.get("data")
    same = isinstance(data, dict) and data.get("name") == clips.provenance.name
    seen = sorted(known & set(clips.subjects)) if same else []
    if seen:
        raise ConfigError(
            f"the lifter was trained on {', '.join(seen)}, whose errors are smaller than a stranger's: name people "
            "that it never saw in source.test_subjects."
        )


def split_takes(clips: LabelledClips, share: float) -> tuple[LabelledClips, LabelledClips | None]:
    """Clips to fit on and clips to score, whole takes apart: all cameras of a take are on one side.

    Takes in the order of their names go to both sides in turn, so that both hold all people. Raises DataError where
    there is one take only.
    """
    if share == 0:
        return clips, None
    takes = sorted({take_name(sequence) for sequence in clips.sequences})
    marks = [int(share * number + 1e-9) for number in range(len(takes) + 1)]
    scored = {take for take, (before, after) in zip(takes, pairwise(marks), strict=True) if after > before}
    if not scored or len(scored) == len(takes):
        raise DataError(
            f"{clips.provenance.name}: {len(takes)} take(s) cannot be split with score_share={share:g}; score_share=0 "
            "fits on all and scores none."
        )
    return clips.select(lambda s: take_name(s) not in scored), clips.select(lambda s: take_name(s) in scored)


def take_name(sequence: Sequence) -> str:
    """What all cameras of a take share of their names: without the last part, which names the camera, and the piece."""
    name = sequence.name.split("/piece")[0]
    return name.rpartition("/")[0] or name


def asked_uncertainty(job: PredictJob | EvaluateJob, lifter: Lifter, flip: bool) -> Uncertainty | None:
    """The job's `uncertainty`, on the CPU, checked to fit the lifter; None where it asks for none."""
    return open_uncertainty(job.uncertainty, lifter, flip=flip, inflate=job.inflate) if job.uncertainty else None


def predicted(
    found: Uncertainty, job: PredictJob | EvaluateJob, lifter: Lifter, clips: AnyClips, lifted: LiftedClips
) -> Predicted:
    """What an uncertainty states of clips that were lifted as the job says."""
    found.estimator.to(clips.keypoints.device)
    return found.of(Lifting(lifter, clips, lifted, found.flip, job.lift), inflate=job.inflate)


def uncertainty_label(job: PredictJob | EvaluateJob) -> str:
    """The job's uncertainty as tables call it."""
    name = Path(job.uncertainty).stem
    return f"{name}, inflated" if job.inflate else name
