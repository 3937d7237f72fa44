"""Every adaptation method under one protocol: runs what is missing, then prints the table.

    python experiments/comparison/run.py cmu17.npz hdm05_17.npz --seeds 0 1 2 --methods gpa poseda

One source model and one oracle are trained for each pair of domains, lifter, view and seed; each method starts from the
one of its view. The share of the gap is that between the source model and the oracle that see the screen. A run is a
`python -m poseda.adapt` of its own, whose folder holds everything; finished runs are not repeated, and an interrupted
one goes on. `methods.json` names the methods and their options: add a line to compare one more, `of` another if it is a
variant.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

SOURCE_ONLY, ORACLE = "source only", "oracle (target-trained)"
REFINED = f"{ORACLE} + TTO"
SCREEN = "screen"
METHODS = Path(__file__).with_name("methods.json")
PAIRS = {  # name -> rig of CMU, rig of HDM05, which of them is the source
    "cmu-hdm05": ("h36m", "3dhp_test", "cmu"),
    "cmu-hdm05train": ("h36m", "3dhp_vnect8", "cmu"),
    "hdm05-cmu": ("h36m", "3dhp_test", "hdm05"),
}
NOISES = ("none", "cpn", "hrnet")
COLUMNS = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "n_mpjpe": "N-MPJPE", "mpjve": "MPJVE"}


@dataclass(frozen=True)
class Case:
    """What all methods of one table have in common."""

    pair: str
    lifter: str
    noise: str
    body: float
    out: Path
    cmu: Path
    hdm05: Path
    steps: int
    threads: int
    lifter_options: tuple[str, ...] = ()

    def options(self, seed: int) -> list[str]:
        """Options of both domains, the lifter and the schedule."""
        cmu_rig, hdm_rig, source = PAIRS[self.pair]
        cmu = {"path": self.cmu, "rig": cmu_rig, "test_subjects": '["16","35"]', "every": 2}
        hdm05 = {"path": self.hdm05, "rig": hdm_rig}
        first, second = (cmu, hdm05) if source == "cmu" else (hdm05, cmu)
        second["path"] = resized(second["path"], self.body, self.out)
        words = [f"source.{key}={value}" for key, value in first.items()]
        words += [f"target.{key}={value}" for key, value in second.items()]
        words += ["source=motion", "target=motion", f"lifter={self.lifter}", f"target.noise={self.noise}"]
        words += [f"train.steps={self.steps}", "train.batch_size=512", f"adapt.steps={self.steps * 3 // 5}"]
        return [*words, *self.lifter_options, f"seed={seed}", f"threads={self.threads}", f"out={self.out}"]

    def name(self, run: str) -> str:
        size = "" if self.body == 1 else f"-body{self.body:g}"
        options = [option.partition(".")[2].replace("=", "") for option in self.lifter_options]
        lifter = "-".join([self.lifter, *options])
        return f"{self.pair}-{lifter}-{self.noise}{size}-{run.replace(', ', '-').replace(' ', '-')}"

    def folder(self, run: str, seed: int) -> Path | None:
        """Where a run has left its results; None where it has not."""
        found = sorted(self.out.glob(f"*/{self.name(run)}/seed{seed}/results.json"))
        return found[0].parent if found else None

    def same_source(self) -> Iterator[Case]:
        """Cases whose source model is this one's: the target has no say in it."""
        for pair in (name for name, facts in PAIRS.items() if facts[2] == PAIRS[self.pair][2]):
            for noise in NOISES:
                yield replace(self, pair=pair, noise=noise, body=1.0)


def main() -> None:
    """Run what is missing and print the table."""
    methods = read_methods()
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("cmu", type=Path)
    parser.add_argument("hdm05", type=Path)
    parser.add_argument("--pair", choices=PAIRS, default="cmu-hdm05")
    parser.add_argument("--lifter", default="simplebaseline_small")
    parser.add_argument("--lifter-options", nargs="+", default=[], metavar="KEY=VALUE", help="lifter.frames=9, ...")
    parser.add_argument("--noise", choices=NOISES, default="none", help="detector noise on the target's 2D")
    parser.add_argument("--body", type=float, default=1.0, help="size of the target's people over their own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(methods), choices=list(methods), metavar="NAME")
    parser.add_argument("--steps", type=int, default=2000, help="of the source model; adaptation: 3/5 of them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--table", action="store_true", help="run nothing; print what there is")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("pair", "lifter", "noise", "body", "steps", "threads")}
    files = {"cmu": arguments.cmu.resolve(), "hdm05": arguments.hdm05.resolve()}
    case = Case(out=arguments.out.resolve(), lifter_options=tuple(arguments.lifter_options), **files, **given)
    chosen = {name: methods[name] for name in arguments.methods}
    for seed in [] if arguments.table else arguments.seeds:
        for name, recipe in chosen.items():
            source = start(case, view_of(recipe), seed)
            run(case, run_of(name, recipe), recipe, seed, source)
    print(table(case, chosen, arguments.seeds))


def read_methods(path: Path = METHODS) -> dict[str, dict[str, Any]]:
    """Recipes by name: `stages`, `options`, `view`, and which `run` and `row` of it hold the numbers.

    One that is `of` another takes all that it does not say itself from it, but for options of stages that it has not.
    It names its own `stages`, or those of the other that it is `without`.
    """
    methods: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {name: whole(recipe, methods) for name, recipe in methods.items()}


def whole(recipe: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A recipe with what it takes from the one that it is `of`."""
    if "of" not in recipe:
        return dict(recipe)
    base = whole(methods[recipe["of"]], methods)
    stages = [stage for stage in recipe.get("stages", base["stages"]) if stage not in recipe.get("without", ())]
    out = set(base["stages"]) - set(stages)
    options = [*base.get("options", []), *recipe.get("options", [])]
    chosen = dict(option.split("=", 1) for option in options if option.split(".")[0] not in out)  # the later ones count
    return {**base, **recipe, "stages": stages, "options": [f"{key}={value}" for key, value in chosen.items()]}


def view_of(recipe: Mapping[str, Any]) -> str:
    """What the method's lifter sees: each view has a source model of its own."""
    return str(recipe.get("view", SCREEN))


def run_of(name: str, recipe: Mapping[str, Any]) -> str:
    """The run that holds a method's row: its own, unless another one has it too."""
    return str(recipe.get("run", name))


def source_name(view: str) -> str:
    return "source" if view == SCREEN else f"source {view}"


def start(case: Case, view: str, seed: int) -> Path:
    """The source model of a view, trained where it is missing, as are source model and oracle of the screen."""
    for each in dict.fromkeys([SCREEN, view]):
        known = trained(case, each, seed)
        if known is None or each == SCREEN:
            ends = {"stages": ["tto"], "view": each, "options": ["oracle=true"]}
            run(case, source_name(each), ends, seed, known)
    found = trained(case, view, seed)
    assert found is not None
    return found


def trained(case: Case, view: str, seed: int) -> Path | None:
    """A source model of this view and seed, trained for whichever target; None where there is none."""
    folders = (other.folder(source_name(view), seed) for other in case.same_source())
    files = (folder / "source.safetensors" for folder in folders if folder)
    return next((file for file in files if file.is_file()), None)


def run(case: Case, name: str, recipe: Mapping[str, Any], seed: int, source: Path | None) -> None:
    """One adaptation, unless it is there; its seconds are kept beside it."""
    if case.folder(name, seed):
        return
    words = [*case.options(seed), f"name={case.name(name)}", f"stages=[{','.join(recipe['stages'])}]", "rows=last"]
    words += [f"lifter.view={view_of(recipe)}"]
    words += [f"checkpoint={source}"] if source else []
    print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
    begin = processor_seconds()
    done = subprocess.run([sys.executable, "-m", "poseda.adapt", *words, *recipe.get("options", [])],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
    folder = case.folder(name, seed)
    assert folder is not None
    (folder / "seconds.json").write_text(json.dumps(processor_seconds() - begin))


def processor_seconds() -> float:
    """What finished runs have used of a processor: unlike wall time, the same on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resized(path: Path, body: float, out: Path) -> Path:
    """The motion file with people `body` times as large, who walk where they walked."""
    if body == 1:
        return path
    made = out / f"{path.stem}-body{body:g}.npz"
    if not made.is_file():
        out.mkdir(parents=True, exist_ok=True)
        with np.load(path) as file:
            np.savez(made, **{name: enlarged(file[name], body) for name in file.files})
    return made


def enlarged(poses: np.ndarray[Any, Any], body: float) -> np.ndarray[Any, Any]:
    """Poses (T, J, 3) m, z up, about the point of the floor below the root."""
    floor = poses[:, :1] * np.array([1, 1, 0], poses.dtype)
    return (floor + body * (poses - floor)).astype(poses.dtype)


def table(case: Case, methods: Mapping[str, Mapping[str, Any]], seeds: list[int]) -> str:
    """Markdown: a row a method, mean ± standard deviation over seeds, and the share of the gap that it closes."""
    titles = ["method", *COLUMNS.values(), "gap closed %", "CPU min", "seeds"]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for view in dict.fromkeys([SCREEN, *map(view_of, methods.values())]):
        for key in (SOURCE_ONLY, ORACLE, REFINED):
            label = key if view == SCREEN else f"{key}, {view}"
            lines += line(label, list(rows_of(case, source_name(view), seeds, key)), [])
    for name, recipe in methods.items():
        where = run_of(name, recipe)
        found = list(rows_of(case, where, seeds, recipe.get("row")))
        stages = ", ".join(recipe["stages"])
        label = name if name.startswith(stages) else f"{name}: {stages}"
        lines += line(label, found, list(minutes(case, where, seeds)))
    size = "" if case.body == 1 else f", bodies of {case.body:g}"
    lifter = " ".join([case.lifter, *case.lifter_options])
    return "\n".join([*lines, f"\n{case.pair}, {lifter}, noise {case.noise}{size}"])


def rows_of(case: Case, run: str, seeds: list[int], number: int | str | None) -> Iterator[dict[str, float]]:
    """Values of one row, by name or place (the last where it is None), of each finished seed, with the gap's share."""
    for seed in seeds:
        if not case.folder(run, seed) or not case.folder("source", seed):
            continue
        rows, ends = read(case, run, seed), read(case, "source", seed)
        if isinstance(number, str) and number not in rows:
            continue
        first, best = (ends[name]["values"]["mpjpe"] for name in (SOURCE_ONLY, ORACLE))
        key = number if isinstance(number, str) else list(rows)[-1 if number is None else number]
        values = rows[key]["values"]
        yield {**values, "closed": 100 * (first - values["mpjpe"]) / (first - best)}


def read(case: Case, run: str, seed: int) -> dict[str, Any]:
    folder = case.folder(run, seed)
    assert folder is not None
    return dict(json.loads((folder / "results.json").read_text())["results"]["rows"])


def minutes(case: Case, run: str, seeds: list[int]) -> Iterator[float]:
    """Processor time of each run, scoring of its rows and figures included."""
    for seed in seeds:
        folder = case.folder(run, seed)
        if folder and (folder / "seconds.json").is_file():
            yield json.loads((folder / "seconds.json").read_text()) / 60


def line(label: str, rows: list[dict[str, float]], times: list[float]) -> list[str]:
    """The row of a table, or none where no run has finished."""
    if not rows:
        return []
    cells = [spread([row[key] for row in rows]) for key in COLUMNS]
    cells += [spread([row["closed"] for row in rows], 0)]
    cells += [f"{statistics.mean(times):.1f}" if times else "", str(len(rows))]
    return [f"| {label} | {' | '.join(cells)} |"]


def spread(values: list[float], digits: int = 1) -> str:
    """Mean ± sample standard deviation; the value alone where there is one."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
