"""What an adaptation has found: the rows of its table, and the sentence that sums them up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from poseda.cli.report import COLUMNS, LABEL_FREE_COLUMNS, Row
from poseda.data.clips import LabelledClips, Provenance
from poseda.data.domains import Target
from poseda.engine.records import Column, format_table
from poseda.metrics.accumulate import Evaluation

SOURCE_ONLY = "source only"
ORACLE = "oracle (target-trained)"
SELECTED = " (selected)"
"""Behind a row's name: the step that the label-free criterion chose, in place of the last."""
STAND_IN = "stand-in"


@dataclass
class Results:
    """Rows of the table in order, and what they were made from."""

    source: str
    """Name of the source domain."""
    target: Target
    """The domain that was adapted to."""
    origin: str
    """Where the source model comes from."""
    source_kind: str = ""
    """What the source's data are, as the provenance says it; empty where there are none."""
    rows: dict[str, Row] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    selections: dict[str, object] = field(default_factory=dict)
    """Stages that were trained together -> the step that was selected, and the criterion's curve."""

    @property
    def labelled(self) -> bool:
        """Whether the target has 3D to compare with."""
        return isinstance(self.target.test, LabelledClips)

    @property
    def data(self) -> Provenance:
        """Where the clips come from that the rows are computed on."""
        return self.target.test.provenance

    def table(self) -> str:
        """The table: a row a stage, the protocol and the data below."""
        cells = [{"lifter": label, **row.values, "frames": row.frames} for label, row in self.rows.items()]
        kind = f" ({self.source_kind})" if self.source_kind not in ("", self.data.kind) else ""
        data = f"{self.source}{kind} -> {self.data.name} ({self.data.kind})"
        note = f"data: {data}; 2D: {self.data.keypoints}; {self.origin}"
        note = "\n".join([note, *self.remarks])
        columns = COLUMNS if self.labelled else LABEL_FREE_COLUMNS
        marked = [replace(c, best=_best(c.key) if self.labelled else "") for c in columns[1:]]
        return format_table(cells, [Column("lifter", "stages"), *marked], self.describe(), note=note)

    def sentence(self) -> str:
        """What happened, in one sentence."""
        return self._labelled_sentence() if self.labelled else self._unlabelled_sentence()

    def describe(self) -> str:
        """How the numbers are computed."""
        return self._first().describe()

    def to_json(self) -> dict[str, object]:
        """Rows and remarks as plain values."""
        return {
            "rows": {label: row.to_json() for label, row in self.rows.items()},
            "source_model": self.origin,
            "remarks": self.remarks,
            "selections": self.selections,
            "sentence": self.sentence(),
        }

    def remark(self) -> str:
        """What figures must say about the data."""
        return self._caution() or self.data.kind

    def errors(self) -> dict[str, float]:
        """MPJPE of each row in mm; empty without labels."""
        return {label: row.values["mpjpe"] for label, row in self.rows.items() if isinstance(row, Evaluation)}

    @property
    def last(self) -> str:
        """The row of the whole pipeline, at its last step."""
        return [label for label in self.rows if not label.startswith(ORACLE) and not label.endswith(SELECTED)][-1]

    def _labelled_sentence(self) -> str:
        errors = self.errors()
        before, after = errors[SOURCE_ONLY], errors[self.last]
        where = self.data.name
        if self.last == SOURCE_ONLY:
            return f"Without adaptation the lifter is {before:.1f} mm off on {where}."
        verb = "lowers" if after < before else "raises"
        change = 100 * (after - before) / before
        text = f"{self._what()} {verb} MPJPE on {where} from {before:.1f} to {after:.1f} mm ({change:+.0f} %)"
        gap = before - errors[ORACLE] if ORACLE in errors else 0.0
        if gap > 0:
            text += f", {100 * (before - after) / gap:.0f} % of the way to the oracle"
        meaning = ": not a result on the real data set" if self.data.kind == STAND_IN else ""
        caution = f"; {self._caution()}{meaning}" if self._caution() else ""
        return f"{text}{caution}."

    def _unlabelled_sentence(self) -> str:
        before, after = (self.rows[label].values.get("reprojection") for label in (SOURCE_ONLY, self.last))
        if before is None or after is None:
            return f"No root brings the poses before the camera of {self.data.name}: they do not fit its 2D at all."
        if self.last == SOURCE_ONLY:
            return f"Without adaptation the poses are {before:.1f} px from the 2D of {self.data.name}."
        caution = f"; {self._caution()}" if self._caution() else ""
        return (
            f"{self._what()} brings the poses from {before:.1f} to {after:.1f} px of the 2D of {self.data.name}; "
            f"how accurate they are in 3D cannot be told without labels{caution}."
        )

    def _what(self) -> str:
        adapted = [x for x in self.rows if x != SOURCE_ONLY and not x.startswith(ORACLE) and not x.endswith(SELECTED)]
        return " ".join(adapted).removeprefix("+ ")

    def _first(self) -> Row:
        return next(iter(self.rows.values()))

    def _caution(self) -> str:
        """What the numbers are worth where one of the domains is a stand-in."""
        if self.data.kind == STAND_IN:
            return "stand-in data"
        return "the source is a stand-in" if self.source_kind == STAND_IN else ""


def _best(key: str) -> Literal["", "min", "max"]:
    return "" if key == "frames" else "max" if key in ("pck", "auc") else "min"
