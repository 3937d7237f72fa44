"""What `python -m poseda.adapt` does: source model, one adaptation a stage, evaluation, figures, results.json."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from poseda.cli.report import COLUMNS, job_card, job_protocol
from poseda.cli.schema import AdaptJob
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.domains import Domain, DomainConfig, load_domain
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.progress import Progress
from poseda.engine.records import Column, RunFolder, format_table, write_results
from poseda.engine.runtime import resolve_device
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import CheckpointError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips
from poseda.metrics.accumulate import Evaluation
from poseda.stages import stage_class
from poseda.stages.base import Stage
from poseda.stages.pipeline import finish_stages, lift_with_stages, run_stages
from poseda.stages.tto import TTO
from poseda.viz.report import gap_statistics, save_figures
from poseda.zoo import find_source_model

SOURCE_ONLY = "source only"
ORACLE = "oracle (target-trained)"


@dataclass
class Results:
    """Rows of the table in order, and what they were made from."""

    source: str
    """Name of the source domain."""
    target: LabelledClips
    """The target's test clips."""
    origin: str
    """Where the source model comes from."""
    rows: dict[str, Evaluation] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The table: a row a stage, the protocol and the data below."""
        cells = [{"lifter": label, **row.values, "frames": row.frames} for label, row in self.rows.items()]
        data = self.target.provenance
        note = f"data: {self.source} -> {data.name} ({data.kind}); 2D: {data.keypoints}; {self.origin}"
        note = "\n".join([note, *self.remarks])
        columns = [Column("lifter", "stages"), *(replace(c, best=_best(c.key)) for c in COLUMNS[1:])]
        return format_table(cells, columns, self._first().protocol.describe(), note=note)

    def sentence(self) -> str:
        """What happened, in one sentence."""
        before = self._first().values["mpjpe"]
        adapted = [label for label in self.rows if label not in (SOURCE_ONLY, ORACLE)]
        if not adapted:
            return f"Without adaptation the lifter is {before:.1f} mm off on {self.target.provenance.name}."
        after = self.rows[adapted[-1]].values["mpjpe"]
        verb = "lowers" if after < before else "raises"
        what, where = " ".join(adapted).removeprefix("+ "), self.target.provenance.name
        change = 100 * (after - before) / before
        text = f"{what} {verb} MPJPE on {where} from {before:.1f} to {after:.1f} mm ({change:+.0f} %)"
        gap = before - self.rows[ORACLE].values["mpjpe"] if ORACLE in self.rows else 0.0
        if gap > 0:
            text += f", {100 * (before - after) / gap:.0f} % of the way to the oracle"
        kind = "; stand-in data: not a result on the real data set" if self._stand_in() else ""
        return f"{text}{kind}."

    def to_json(self) -> dict[str, object]:
        """Rows and remarks as plain values."""
        return {
            "rows": {label: row.to_json() for label, row in self.rows.items()},
            "source_model": self.origin,
            "remarks": self.remarks,
            "sentence": self.sentence(),
        }

    def remark(self) -> str:
        """What figures must say about the data."""
        return "stand-in data" if self._stand_in() else self.target.provenance.kind

    def _first(self) -> Evaluation:
        return next(iter(self.rows.values()))

    def _stand_in(self) -> bool:
        return self.target.provenance.kind == "stand-in"


def _best(key: str) -> Literal["", "min", "max"]:
    return "" if key == "frames" else "max" if key in ("pck", "auc") else "min"


def run_adaptation(job: AdaptJob, progress: type[Progress]) -> Results:
    """All phases of an adaptation. Finished phases of an interrupted run are taken over, to the same numbers."""
    return _Adaptation(job, progress).run()


class _Adaptation:
    """One job: its data on the device, its run folder, and the rows that it has so far."""

    def __init__(self, job: AdaptJob, progress: type[Progress]) -> None:
        self.job, self.progress = job, progress
        self.folder = RunFolder(job.folder)
        self.device = resolve_device(job.device)
        asked = create_lifter(job.lifter.name, seed=job.seed, **job.lifter.options)
        self.source = self._load(job.source, asked)
        self.target = self._load(job.target, asked)
        self.lifter, self.origin = self._start(asked)
        self.protocol = job_protocol(job)
        self.predictions: dict[str, LiftedClips] = {}
        self.stages: list[Stage] = []

    def run(self) -> Results:
        """Rows one by one; everything is written at the end, and each phase keeps its own state meanwhile."""
        if not self.origin:
            self.origin = self._train_source()
        self.results = Results(self.source.name, self.target.test, self.origin)
        self._score(SOURCE_ONLY, self.lifter, ())
        final = self._adapt()
        if self.job.oracle:
            self._score(ORACLE, self._oracle(), ())
        self._write(final)
        return self.results

    def _load(self, config: DomainConfig, lifter: Lifter) -> Domain:
        data = self.job.data
        domain = load_domain(config, root=data.root, require=data.require, skeleton=lifter.skeleton.name)
        return Domain(domain.name, domain.train.to(self.device), domain.test.to(self.device))

    def _start(self, asked: Lifter) -> tuple[Lifter, str]:
        """The source lifter and where it comes from, or the fresh one and '' where it must be trained."""
        given = self.job.checkpoint
        path = Path(given) if given else find_source_model(asked, self.source.train)
        if path is None:
            return asked.to(self.device), ""
        lifter, _ = load_lifter(path)
        if (lifter.name, lifter.options) != (asked.name, asked.options):
            raise CheckpointError(
                f"{path} holds {_describe(lifter)}, and the job asks for {_describe(asked)}: "
                "give the checkpoint's lifter=... and its options, or another checkpoint."
            )
        return lifter.to(self.device), f"source model: {path.name} ({'given' if given else 'shipped'})"

    def _train_source(self) -> str:
        train = self.job.train
        train_lifter(
            self.lifter,
            self.source.train,
            train,
            seed=self.job.seed,
            folder=self.folder.training("source"),
            progress=self.progress("source model", train.steps),
        )
        evaluation = evaluate_lifter(self.lifter, self.source.test, self.protocol)
        card = job_card(self.job, self.source.train, evaluation)
        save_lifter(self.folder.source_lifter, self.lifter, card)
        return f"source model: trained here, {train.steps} steps"

    def _adapt(self) -> Lifter:
        """A row for each prefix of the stages; prefixes that train alike share one training."""
        final = self.lifter
        for group in _shared_trainings([self._class(label) for label in self.job.stages]):
            labels = self.job.stages[: group[-1]]
            stages = [self._build(label) for label in labels]
            lifter = copy.deepcopy(self.lifter)
            trained = [stage.name for stage in stages if stage.shapes_training()]
            steps = self.job.adapt.steps
            run_stages(
                lifter,
                self.source.train,
                self.target.train.unlabelled(),
                stages,
                self.job.adapt,
                seed=self.job.seed,
                folder=self.folder.training("adapt-" + "-".join(trained)),
                progress=self.progress("+".join(stage.label for stage in stages[: len(trained)]), steps),
                report=self._remark,
            )
            for length in group:
                final = finish_stages(copy.deepcopy(lifter), self.source.train, stages[:length])
                self._score(f"+ {stages[length - 1].label}", final, stages[:length])
            self.stages = stages
        return final

    def _remark(self, remark: str) -> None:
        if remark not in self.results.remarks:
            self.results.remarks.append(remark)

    def _class(self, label: str) -> type[Stage]:
        return stage_class(self.job.stage_configs[label].name)

    def _build(self, label: str) -> Stage:
        choice = self.job.stage_configs[label]
        stage = stage_class(choice.name)(choice.config)  # type: ignore[call-arg]
        if isinstance(stage, TTO) and stage.config.root == "oracle":
            # the one place where the truth is handed to a stage: asked for by name, flagged in each table
            stage.oracle_root = self.target.test.poses[:, self.lifter.skeleton.root]
        return stage

    def _oracle(self) -> Lifter:
        """The source model trained on with the target's labels, for as long and as fast as an adaptation."""
        adapt = self.job.adapt
        config = TrainConfig(
            steps=adapt.steps, batch_size=adapt.batch_size, lr=adapt.lr, flip=adapt.flip, grad_clip=adapt.grad_clip,
            log_every=adapt.log_every,
        )  # fmt: skip
        return train_lifter(
            copy.deepcopy(self.lifter),
            self.target.train,
            config,
            seed=self.job.seed,
            folder=self.folder.training("oracle"),
            progress=self.progress("oracle", adapt.steps),
        )

    def _score(self, label: str, lifter: Lifter, stages: Sequence[Stage]) -> None:
        def lift(clips: UnlabelledClips) -> LiftedClips:
            self.predictions[label] = lift_with_stages(lifter, clips, stages, flip=self.protocol.flip)
            return self.predictions[label]

        self.results.rows[label] = evaluate_lifter(lifter, self.target.test, self.protocol, lift=lift)

    def _write(self, lifter: Lifter) -> None:
        """The lifter, figures, and results.json last: where it is, the run is whole."""
        results, data = self.results, [self.source.train.provenance, self.target.test.provenance]
        last = [label for label in results.rows if label != ORACLE][-1]
        evaluation = results.rows[last]
        save_lifter(self.folder.lifter, lifter, job_card(self.job, self.source.train, evaluation))
        save_figures(
            self.folder.plots,
            gap_statistics(self.source.train, self.target.train, self.stages, seed=self.job.seed),
            self.target.test,
            {label: self.predictions[label] for label in dict.fromkeys((SOURCE_ONLY, last))},
            {label: row.values["mpjpe"] for label, row in results.rows.items()},
            protocol=evaluation.protocol.describe(),
            remark=results.remark(),
        )
        protocol = evaluation.protocol.describe()
        write_results(self.folder.results, results.to_json(), seed=self.job.seed, protocol=protocol, data=data)


def _shared_trainings(stages: Sequence[type[Stage]]) -> list[list[int]]:
    """Lengths of all prefixes of `stages`, grouped by the stages in them that shape training."""
    groups: dict[int, list[int]] = {}
    for length in range(1, len(stages) + 1):
        key = sum(stage.shapes_training() for stage in stages[:length])
        groups.setdefault(key, []).append(length)
    return list(groups.values())


def _describe(lifter: Lifter) -> str:
    options: Mapping[str, object] = lifter.options
    return f"{lifter.name}({', '.join(f'{key}={value}' for key, value in options.items())})"
