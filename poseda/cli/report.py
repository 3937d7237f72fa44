"""What a command tells about a lifter: its table on the terminal, its card in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from poseda.cli.runs import FREE, settings_of
from poseda.cli.schema import AdaptJob, EvaluateJob, TrainJob
from poseda.data.clips import LabelledClips, Provenance
from poseda.engine.records import Column, format_table
from poseda.metrics.accumulate import Evaluation
from poseda.metrics.label_free import LabelFreeEvaluation
from poseda.metrics.protocols import Protocol, get_protocol, with_options

Row = Evaluation | LabelFreeEvaluation
COLUMNS = (
    Column("lifter"),
    Column("mpjpe", "MPJPE mm"),
    Column("pa_mpjpe", "PA-MPJPE mm"),
    Column("n_mpjpe", "N-MPJPE mm"),
    Column("mpjve", "MPJVE mm/frame"),
    Column("pck", "PCK %"),
    Column("auc", "AUC %"),
    Column("frames"),
)

LABEL_FREE_COLUMNS = (
    Column("lifter"),
    Column("reprojection", "reprojection px"),
    Column("symmetry", "left/right bones mm"),
    Column("constancy", "bone constancy mm"),
    Column("jitter", "jitter mm/frame\u00b2"),
    Column("frames"),
)
"""What a target without labels allows to be said; none of it is an accuracy, so nothing is marked as best."""


def job_protocol(job: TrainJob | AdaptJob | EvaluateJob) -> Protocol:
    """The protocol that a job names, with its own wish for flipping."""
    return with_options(get_protocol(job.protocol), flip=job.flip)


def evaluation_table(rows: Mapping[str, Evaluation], data: Provenance) -> str:
    """One row a lifter, the protocol and the data below."""
    cells = [{"lifter": name, **row.values, "frames": row.frames} for name, row in rows.items()]
    protocol = next(iter(rows.values())).protocol.describe()
    return format_table(cells, COLUMNS, protocol, note=f"data: {data.name}, {data.kind}; 2D: {data.keypoints}")


def data_card(clips: LabelledClips) -> dict[str, Any]:
    """What a lifter was trained on, and whom it has seen."""
    return {"data": asdict(clips.provenance), "subjects": list(clips.subjects)}


def job_card(job: TrainJob | AdaptJob, made_of: Mapping[str, Any], evaluation: Row) -> dict[str, Any]:
    """Where a lifter comes from: data and people (`data_card`), all settings, and the numbers with their protocol."""
    return {
        **made_of,
        "settings": {key: value for key, value in settings_of(job).items() if key not in (*FREE, "data")},
        "protocol": evaluation.describe(),
        "metrics": evaluation.values,
    }
