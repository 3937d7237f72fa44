"""Every lifter at a small but real width, on equal processor time: trained, adapted, refined, beside an oracle.

    python experiments/lifters/run.py cmu17.npz hdm05_17.npz --seconds 30

CMU motion through Human3.6M's cameras is the source, HDM05 through those of 3DHP's test set the target. Each lifter
gets `--seconds` of a processor to learn the source, and two thirds of that to adapt ([gpa, lpa]) and for the oracle
(the source model trained on with the target's labels). How many steps that is comes from timing a few. Refinement
(tto) and scoring come on top. Finished lifters are not repeated; the table is printed of all that are there.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import poseda
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.domains import Domain, DomainConfig, Target, load_domain, load_target
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.files.atomic import atomic_write
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips
from poseda.lifters.matmul import use_products
from poseda.metrics.protocols import get_protocol
from poseda.stages.base import Stage
from poseda.stages.gpa import GPA
from poseda.stages.lpa import LPA
from poseda.stages.pipeline import AdaptConfig, adapt_lifter, lift_with_stages
from poseda.stages.tto import TTO

ROWS = ("source only", "gpa, lpa", "gpa, lpa, tto", "oracle")
SHORT = 2 / 3
"""Time for the adaptation, and for the oracle, over that of the source model."""
FEW = (4, 24)
"""Steps of the two timed runs; what they differ by is the time of the steps alone."""


@dataclass(frozen=True)
class Case:
    """A lifter at a small width, and the windows in a step: about as many frames for all temporal ones."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 512

    @property
    def label(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def small(dim: int = 64, frames: int = 9, **others: Any) -> dict[str, Any]:
    """Options of a small transformer."""
    return {"frames": frames, "dim": dim, **others}


CASES = (
    Case("simplebaseline", {"hidden": 512}),
    Case("videopose3d", {"frames": 1, "channels": 256}),
    Case("semgcn", {"channels": 64}, 256),
    Case("stgcn", {"channels": 32}, 256),
    Case("gumlp", {"channels": 64}, 256),
    Case("videopose3d", {"frames": 9, "channels": 256}, 256),
    Case("mixste", small(depth=3), 64),
    Case("motionagformer", small(layers=3), 64),
    Case("poseformerv2", small(16, 27, depth=2), 128),
    Case("ktpformer", small(depth=2), 64),
    Case("motionbert", small(depth=2, dim_rep=128), 64),
    Case("poseformer", small(16, depth=2), 128),
    Case("convformer", small(16), 128),
    Case("glagcn", {"frames": 9, "channels": 32}, 128),
    Case("hot", small(frames=27, depth=3, tokens=9, layer=1), 24),
    Case("hot_motionbert", small(frames=27, depth=2, dim_rep=128, tokens=9), 24),
    Case("hot_motionagformer", small(frames=27, layers=3, tokens=9, layer=1), 24),
)


@dataclass(frozen=True)
class Setting:
    """What all lifters have in common."""

    source: Domain
    target: Target
    seconds: float
    seed: int


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("cmu", type=Path)
    parser.add_argument("hdm05", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="processor time of each source model")
    parser.add_argument("--only", default="", help="names of lifters, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/lifters"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the clock is that of one thread
    use_products("auto")
    wanted = arguments.only.split(",") if arguments.only else [case.name for case in CASES]
    cases = [case for case in CASES if case.name in wanted]
    folder = arguments.out / f"{arguments.seconds:g}s-seed{arguments.seed}"
    missing = [case for case in cases if not (folder / f"{case.label}.json").is_file()]
    if missing:
        setting = Setting(*domains(arguments.cmu, arguments.hdm05), arguments.seconds, arguments.seed)
        for case in missing:
            print(case.label, file=sys.stderr, flush=True)
            atomic_write(folder / f"{case.label}.json", json.dumps(measured(case, setting), indent=1).encode())
    print(table([path for case in cases if (path := folder / f"{case.label}.json").is_file()]))


def domains(cmu: Path, hdm05: Path) -> tuple[Domain, Target]:
    """Source and target, with the same test people as in the other experiments."""
    source = DomainConfig("motion", path=str(cmu), rig="h36m", every=2, test_subjects=("16", "35"))
    target = DomainConfig("motion", path=str(hdm05), rig="3dhp_test")
    return load_domain(source, root=""), load_target(target, root="")


def measured(case: Case, setting: Setting) -> dict[str, Any]:
    """All phases of one lifter: steps, minutes and errors."""
    begin = time.thread_time()
    fresh = partial(poseda.create_lifter, case.name, seed=setting.seed, **case.options)
    seconds, source = setting.seconds, setting.source.train
    labelled = setting.target.oracle
    assert labelled is not None  # motion capture has labels

    def train(lifter: Lifter, clips: LabelledClips, steps: int) -> Lifter:
        return train_lifter(lifter, clips, TrainConfig(steps, case.batch), seed=setting.seed)

    def adapt(lifter: Lifter, stages: list[Stage], steps: int) -> Lifter:
        config = AdaptConfig(steps, case.batch)
        return adapt_lifter(lifter, source, setting.target.train, stages, config, seed=setting.seed)

    steps = {"source": steps_within(seconds, lambda n: train(fresh(), source, n))}
    steps["oracle"] = max(round(SHORT * steps["source"]), 2)
    steps["adapt"] = steps_within(SHORT * seconds, lambda n: adapt(fresh(), [GPA(), LPA()], n))
    lifter, stages = train(fresh(), source, steps["source"]), [GPA(), LPA(), TTO()]
    rows = {"source only": score(lifter, [], setting)}
    rows["oracle"] = score(train(copy.deepcopy(lifter), labelled, steps["oracle"]), [], setting)
    adapted = adapt(lifter, stages, steps["adapt"])
    rows["gpa, lpa"] = score(adapted, [], setting)
    rows["gpa, lpa, tto"] = score(adapted, stages, setting)
    return {
        "label": case.label.replace("-", " "),
        "batch": case.batch,
        "parameters": sum(p.numel() for p in adapted.parameters()),
        "steps": steps,
        "minutes": (time.thread_time() - begin) / 60,
        "rows": rows,
    }


def steps_within(seconds: float, run: Callable[[int], object]) -> int:
    """How many steps of `run` fit, from two short runs of it: what it does besides steps is not counted."""
    times = []
    for steps in (FEW[0], *FEW):  # the first one warms up
        begin = time.thread_time()
        run(steps)
        times.append(time.thread_time() - begin)
    each = max((times[2] - times[1]) / (FEW[1] - FEW[0]), times[2] / FEW[1] / 3)  # the second where the clock jumped
    return max(round(seconds / each), 2)


def score(lifter: Lifter, stages: list[Stage], setting: Setting) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm on the target's test people, with the mirrored pass."""
    protocol = get_protocol("official17")

    def lift(clips: UnlabelledClips) -> LiftedClips:
        return lift_with_stages(lifter, clips, stages, flip=protocol.flip)

    test = setting.target.test
    assert isinstance(test, LabelledClips)
    values = evaluate_lifter(lifter, test, protocol, lift=lift).values
    return {key: values[key] for key in ("mpjpe", "pa_mpjpe")}


def table(paths: list[Path]) -> str:
    """Markdown: a row a lifter, MPJPE / PA-MPJPE in mm."""
    titles = ["lifter", "parameters", "batch", "steps: source, adapt", "CPU min", *ROWS]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for path in paths:
        found = json.loads(path.read_text())
        errors = [f"{found['rows'][row]['mpjpe']:.1f} / {found['rows'][row]['pa_mpjpe']:.1f}" for row in ROWS]
        steps = f"{found['steps']['source']}, {found['steps']['adapt']}"
        cells = [found["label"], f"{found['parameters']:,}", str(found["batch"]), steps, f"{found['minutes']:.1f}"]
        lines.append(f"| {' | '.join(cells + errors)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
