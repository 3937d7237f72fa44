"""How well uncertainties hold on people of the source that the lifter never saw, and on the target.

    python experiments/uncertainty/run.py cmu17.npz hdm05_17.npz seed0.safetensors seed1.safetensors --rows rows.json

Each checkpoint is a lifter for CMU through Human3.6M's cameras that never saw subjects 16 and 35. Their takes are
split in two halves, to fit on and to score. With several checkpoints, each is the other's ensemble. Rows are written as
they are found; `--rows` with no checkpoint prints the table of a file again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poseda.cli.calibrating import split_takes
from poseda.data.clips import LabelledClips
from poseda.data.domains import DomainConfig, load_domain, load_test
from poseda.engine.official import open_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips
from poseda.lifters.matmul import use_products
from poseda.metrics.calibration import Stated, get_density
from poseda.stages.tto import TTO
from poseda.uncertainty import estimator_class
from poseda.uncertainty.base import Estimator, Lifting
from poseda.uncertainty.calibrated import Uncertainty
from poseda.uncertainty.inflation import typical_residual
from poseda.uncertainty.recalibration import fit_recalibration

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "own head": ("own", {}),
    "constant": ("constant", {}),
    "flip": ("flip", {}),
    "ensemble": ("ensemble", {}),
    "posthoc, laplace": ("posthoc", {"loss": "laplace"}),
    "posthoc, gaussian": ("posthoc", {"loss": "gaussian"}),
    "posthoc, uao": ("posthoc", {"loss": "uao"}),
    "jitter": ("jitter", {}),
}
RECALIBRATIONS = ("temperature", "isotonic", "conformal")
PLACES = ("source", "target", "target, inflated", "target, refined", "target, inflated, refined")
"""Where errors are scored; refined: those after test-time optimisation, by the uncertainty of the first prediction."""
MEASURES = {
    "calibration_error": "ECE %", "calibration_error_joint": "by joint %", "coverage90": "in 90 % radius %",
    "radius90": "radius mm", "nll": "NLL", "sharpness": "sigma mm", "ause": "AUSE", "ence": "ENCE %",
}  # fmt: skip


class Replay:
    """An estimator's answers for clips that it has seen, so that all recalibrations share them."""

    def __init__(self, estimator: Estimator, seen: dict[str, Lifting]) -> None:
        self.skeleton = estimator.skeleton
        self.answers = {id(lifting): estimator(lifting) for lifting in seen.values()}

    def __call__(self, lifting: Lifting) -> tuple[Tensor, Tensor | None]:
        return self.answers[id(lifting)]


def rows_of(checkpoint: Path, others: list[Path], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each method, recalibration and place."""
    lifter, _ = open_lifter(checkpoint)
    cmu = DomainConfig("motion", path=args.cmu, rig="h36m", every=2, test_subjects=("16", "35"))
    hdm05 = DomainConfig("motion", path=args.hdm05, rig="3dhp_test", every=args.every)
    source = load_domain(cmu, root="data")
    fit, score = split_takes(source.test, 0.5)
    clips = {"fit": fit, "source": score, "target": load_test(hdm05, root="data")}
    seen = {name: Lifting.of(lifter, some) for name, some in clips.items() if some is not None}
    train = Lifting.of(lifter, source.train.subsample(args.train_every))
    refined = replace(seen["target"], lifted=refine(lifter, seen["target"], source.train))
    reference, error = typical_residual(seen["fit"]), seen["fit"].error()
    for method, (name, options) in METHODS.items():
        if method not in args.methods or (name == "ensemble" and not others):
            continue
        cls = estimator_class(name)
        more = {"checkpoints": tuple(map(str, others))} if name == "ensemble" else options
        estimator = cls(cls.Config(**more), lifter)
        estimator.fit(seen["fit"], train)
        replay, law = Replay(estimator, seen), get_density(estimator.density or "laplace")
        sigma, covariance = replay(seen["fit"])
        for kind in RECALIBRATIONS:
            recalibration = fit_recalibration(kind, error, Stated(sigma, law, covariance))
            found = Uncertainty(replay, law, False, recalibration, reference)  # type: ignore[arg-type]
            for place in PLACES:
                said = found.of(seen[place.split(",")[0]], inflate="inflated" in place)
                said = replace(said, seen=refined) if "refined" in place else said
                values = said.score().values
                yield {"checkpoint": checkpoint.name, "seed": checkpoint.parent.name, "method": method,
                       "recalibration": kind, "place": place, **values}  # fmt: skip


def refine(lifter: Lifter, seen: Lifting, source: LabelledClips) -> LiftedClips:
    """The clips' poses after test-time optimisation by its defaults."""
    stage = TTO()
    stage.calibrate(lifter, source)
    return stage.refine(lifter, seen.clips.unlabelled(), seen.lifted)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean over checkpoints, and the spread of the calibration error where there are several."""
    head = ["sigma from", "recalibration", "on", *MEASURES.values()]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    keys = dict.fromkeys((row["method"], row["recalibration"], row["place"]) for row in rows)
    for key in keys:
        found = [row for row in rows if (row["method"], row["recalibration"], row["place"]) == key]
        cells = []
        for measure in MEASURES:
            values = [row[measure] for row in found]
            cells.append(f"{statistics.mean(values):.3g}")
            if measure == "calibration_error" and len(values) > 1:
                cells[-1] += f" ± {statistics.stdev(values):.2g}"
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cmu", nargs="?")
    parser.add_argument("hdm05", nargs="?")
    parser.add_argument("checkpoints", nargs="*", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("rows.json"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--every", type=int, default=2, help="one target frame in so many")
    parser.add_argument("--train-every", type=int, default=3, help="one training frame in so many, for the heads")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    use_products("auto")
    rows = json.loads(args.rows.read_text()) if args.rows.is_file() else []
    for checkpoint in args.checkpoints:
        others = [other for other in args.checkpoints if other != checkpoint]
        for row in rows_of(checkpoint, others, args):
            rows.append(row)
            args.rows.write_text(json.dumps(rows, indent=0))
    print(table(rows))


if __name__ == "__main__":
    main()
