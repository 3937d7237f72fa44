"""What `python -m poseda.adapt` does: source model, one adaptation a stage, evaluation, figures, results.json."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poseda.cli.app import show
from poseda.cli.report import data_card, job_card, job_protocol
from poseda.cli.results import ORACLE, SELECTED, SOURCE_ONLY, Results
from poseda.cli.schema import NO_SOURCE, AdaptJob
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.domains import Domain, Target, load_domain, load_target
from poseda.engine.checkpoint import save_lifter
from poseda.engine.evaluate import evaluate_lifter, evaluate_unlabelled
from poseda.engine.facts import FACTS, SourceFacts, facts_of, measure_facts
from poseda.engine.official import open_lifter
from poseda.engine.predictions import save_predictions
from poseda.engine.progress import Progress
from poseda.engine.records import RunFolder, write_results
from poseda.engine.runtime import resolve_device
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import CheckpointError, ConfigError
from poseda.files.torch_files import is_torch_file
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips
from poseda.stages import stage_class
from poseda.stages.base import Stage
from poseda.stages.pipeline import finish_selected, finish_stages, lift_with_stages, recast_source, run_stages
from poseda.stages.selection import Selection
from poseda.viz.report import gap_statistics, save_figures
from poseda.zoo import find_source_model, load_source_model

FACTS_FRAMES = 4096
"""Source frames on which the adapted lifter's errors are measured for its card."""


def run_adaptation(job: AdaptJob, progress: type[Progress]) -> Results:
    """All phases of an adaptation. Finished phases of an interrupted run are taken over, to the same numbers."""
    return _Adaptation(job, progress).run()


class _Adaptation:
    """One job: its data on the device, its run folder, and the rows that it has so far."""

    def __init__(self, job: AdaptJob, progress: type[Progress]) -> None:
        self.job, self.progress = job, progress
        self.folder = RunFolder(job.folder)
        self.device = resolve_device(job.device)
        self.card: dict[str, Any] = {}
        asked, self.origin = self._given() if job.checkpoint or job.source_model else (self._asked(), "")
        self.facts = facts_of(self.card, asked.skeleton)
        self.source = None if job.source.name == NO_SOURCE else self._source(asked)
        self.clips = self.source.train if self.source else None
        self.target = self._target(asked)
        self.lifter = asked.to(self.device) if self.origin else self._shipped(asked)
        self.protocol = job_protocol(job)
        self.predictions: dict[str, LiftedClips] = {}
        self.stages: list[Stage] = []
        self.recasts: dict[tuple[str, ...], LabelledClips | None] = {}
        self.adapted_from = self.clips

    def run(self) -> Results:
        """Rows one by one; everything is written at the end, and each phase keeps its own state meanwhile."""
        if not self.origin:
            self.origin = self._train_source()
        source = self.source.name if self.source else "no source clips"
        kind = self.source.train.provenance.kind if self.source else ""
        self.results = Results(source, self.target, self.origin, kind, remarks=list(self.target.remarks))
        self._score(SOURCE_ONLY, self.lifter, ())
        final = self._adapt()
        if self.job.oracle:
            oracle = self._oracle()
            self._score(ORACLE, oracle, ())
            self._score_refined(oracle)
        self._write(final)
        return self.results

    def _source(self, lifter: Lifter) -> Domain:
        job = self.job
        domain = load_domain(job.source, root=job.data.root, require=job.data.require, skeleton=lifter.skeleton.name)
        return Domain(domain.name, domain.train.to(self.device), domain.test.to(self.device))

    def _target(self, lifter: Lifter) -> Target:
        job = self.job
        target = load_target(job.target, root=job.data.root, require=job.data.require, skeleton=lifter.skeleton.name)
        if job.oracle and target.oracle is None:
            raise ConfigError(f"oracle=true needs labels, and {target.name} has none; leave it out.")
        return target.to(self.device)

    def _asked(self) -> Lifter:
        return create_lifter(self.job.lifter.name, seed=self.job.seed, **self.job.lifter.options)

    def _given(self) -> tuple[Lifter, str]:
        """The lifter of the job's checkpoint, and where it comes from. An official one brings its own options."""
        if self.job.source_model:
            lifter, self.card = load_source_model(self.job.source_model)
            return lifter, f"source model: {self.job.source_model}"
        path = Path(self.job.checkpoint)
        lifter, self.card = open_lifter(path, say=show)
        asked = self._asked()
        if not is_torch_file(path) and (lifter.name, lifter.options) != (asked.name, asked.options):
            raise CheckpointError(
                f"{path} holds {_describe(lifter)}, and the job asks for {_describe(asked)}: "
                "give the checkpoint's lifter=... and its options, or another checkpoint."
            )
        return lifter, f"source model: {path.name} (given)"

    def _shipped(self, asked: Lifter) -> Lifter:
        """The shipped source model where one fits lifter and data, else the fresh lifter, which is to be trained."""
        path = find_source_model(asked, self.clips) if self.clips else None
        if path is None:
            return asked.to(self.device)
        self.origin = f"source model: {path.name} (shipped)"
        return open_lifter(path)[0].to(self.device)

    def _train_source(self) -> str:
        train = self.job.train
        assert self.source is not None  # check_adapt asks for a trained lifter otherwise
        train_lifter(
            self.lifter,
            self.source.train,
            train,
            seed=self.job.seed,
            folder=self.folder.training("source"),
            progress=self.progress("source model", train.steps),
        )
        evaluation = evaluate_lifter(self.lifter, self.source.test, self.protocol)
        card = job_card(self.job, data_card(self.source.train), evaluation)
        facts = measure_facts(self.lifter, self.source.test, self.source.train)
        save_lifter(self.folder.source_lifter, self.lifter, {**card, FACTS: facts.to_card()})
        return f"source model: trained here, {train.steps} steps"

    def _adapt(self) -> Lifter:
        """A row for each prefix of the stages; prefixes that train alike share one training."""
        final = self.lifter
        groups = _shared_trainings([self._class(label) for label in self.job.stages])
        for group in groups if self.job.rows == "all" else groups[-1:]:
            labels = self.job.stages[: group[-1]]
            stages = [self._build(label) for label in labels]
            lifter = copy.deepcopy(self.lifter)
            trained = [stage.name for stage in stages if stage.shapes_training()]
            steps = self.job.adapt.steps
            clips = self.adapted_from = self._recast(stages)
            selection = run_stages(
                lifter,
                clips,
                self.target.train,
                stages,
                self.job.adapt,
                seed=self.job.seed,
                folder=self.folder.training("adapt-" + "-".join(trained)),
                progress=self.progress("+".join(stage.label for stage in stages[: len(trained)]), steps),
                report=self._remark,
                facts=self.facts,
            )
            for length in group:
                final = finish_stages(copy.deepcopy(lifter), clips, stages[:length], self.facts)
                together = self.job.rows == "last" and length == group[0]
                shown = stages[0 if together else length - 1 : length]
                label = " ".join(f"+ {stage.label}" for stage in shown)
                self._score(label, final, stages[:length])
                if selection is not None:
                    chosen = finish_selected(lifter, clips, stages[:length], selection, self.facts)
                    self._score(f"{label}{SELECTED}", chosen, stages[:length])
            if selection is not None:
                self._note_selection(selection, stages[: len(trained)])
            self.stages = stages
        return final

    def _recast(self, stages: Sequence[Stage]) -> LabelledClips | None:
        """The source as these stages want it recorded; prefixes that recast it alike share one copy."""
        recasting = [stage for stage in stages if stage.overrides("recast")]
        names = tuple(stage.name for stage in recasting)
        if names not in self.recasts:
            self.recasts[names] = recast_source(self.clips, self.target.train, recasting, self._remark)
        return self.recasts[names]

    def _note_selection(self, selection: Selection, stages: Sequence[Stage]) -> None:
        what = "+".join(stage.label for stage in stages)
        self._remark(
            f"selected, {what}: step {selection.step} of {self.job.adapt.steps}, "
            "by reprojection, symmetry, constancy and source error; no target label"
        )
        self.results.selections[what] = {"step": selection.step, "curve": [dict(look) for look in selection.curve]}

    def _remark(self, remark: str) -> None:
        if remark not in self.results.remarks:
            self.results.remarks.append(remark)

    def _class(self, label: str) -> type[Stage]:
        return stage_class(self.job.stage_configs[label].name)

    def _build(self, label: str) -> Stage:
        choice = self.job.stage_configs[label]
        stage = stage_class(choice.name)(choice.config)  # type: ignore[call-arg]
        if stage.wants_oracle_root:
            # the one place where the truth is handed to a stage: asked for by name, flagged in each table
            if not isinstance(self.target.test, LabelledClips):
                raise ConfigError(f"{label} reads the true root, which needs labels, and {self.target.name} has none.")
            stage.take_oracle_root(self.target.test.poses[:, self.lifter.skeleton.root])
        return stage

    def _oracle(self) -> Lifter:
        """The source model trained on with the target's labels, for as long and as fast as an adaptation."""
        adapt, labelled = self.job.adapt, self.target.oracle
        assert labelled is not None  # _target has seen to it
        config = TrainConfig(
            steps=adapt.steps, batch_size=adapt.batch_size, lr=adapt.lr, flip=adapt.flip, grad_clip=adapt.grad_clip,
            log_every=adapt.log_every,
        )  # fmt: skip
        return train_lifter(
            copy.deepcopy(self.lifter),
            labelled,
            config,
            seed=self.job.seed,
            folder=self.folder.training("oracle"),
            progress=self.progress("oracle", adapt.steps),
        )

    def _score_refined(self, oracle: Lifter) -> None:
        """What the run's test-time stages give a lifter that needs no adapting: without it their gain looks like
        adaptation."""
        stages = [self._build(label) for label in self.job.stages]
        stages = [stage for stage in stages if stage.overrides("refine") and not stage.shapes_training()]
        if stages:
            run_stages(oracle, self.clips, self.target.train, stages, self.job.adapt, seed=self.job.seed)
            refined = finish_stages(oracle, self.clips, stages, self.facts)
            self._score(" + ".join([ORACLE, *(stage.label for stage in stages)]), refined, stages)

    def _score(self, label: str, lifter: Lifter, stages: Sequence[Stage]) -> None:
        flip, test = self.protocol.flip, self.target.test

        def lift(clips: UnlabelledClips) -> LiftedClips:
            self.predictions[label] = lift_with_stages(lifter, clips, stages, flip=flip, report=self._remark)
            return self.predictions[label]

        if isinstance(test, LabelledClips):
            self.results.rows[label] = evaluate_lifter(lifter, test, self.protocol, lift=lift)
        else:
            self.results.rows[label] = evaluate_unlabelled(lifter, test, lift=lift)

    def _facts(self, lifter: Lifter) -> SourceFacts:
        """What test-time stages need of the source, for the card of the adapted lifter: as the stages had recast it."""
        if self.adapted_from is None:
            return self.facts
        some = self.adapted_from.spread(FACTS_FRAMES, lifter.frames)
        return measure_facts(lifter, some, self.adapted_from)

    def _write(self, lifter: Lifter) -> None:
        """The lifter, figures, and results.json last: where it is, the run is whole."""
        results, data = self.results, [self.target.test.provenance]
        made_of: dict[str, Any] = {key: value for key, value in self.card.items() if key in ("data", "subjects")}
        if self.clips:
            data, made_of = [self.clips.provenance, *data], data_card(self.clips)
        last, facts = results.last, self._facts(lifter)
        card = job_card(self.job, made_of, results.rows[last])
        save_lifter(self.folder.lifter, lifter, {**card, FACTS: facts.to_card()})
        if not results.labelled:
            save_predictions(self.folder.predictions, self.predictions[last], self.target.test)
        save_figures(
            self.folder.plots,
            gap_statistics(self.clips, self.target.oracle or self.target.train, self.stages, seed=self.job.seed),
            self.target.test,
            {label: self.predictions[label] for label in dict.fromkeys((SOURCE_ONLY, last))},
            results.errors(),
            protocol=results.describe(),
            remark=results.remark(),
        )
        write_results(
            self.folder.results, results.to_json(), seed=self.job.seed, protocol=results.describe(), data=data
        )


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
