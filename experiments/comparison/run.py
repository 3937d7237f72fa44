"""Every adaptation method under one protocol: runs what is missing, then prints the table.

    python experiments/comparison/run.py cmu17.npz hdm05_17.npz --seeds 0 1 2 --methods gpa poseda

One source model and one oracle are trained for each pair of domains, lifter and seed; each method starts from it.
A run is a `python -m poseda.adapt` of its own, whose folder holds everything; finished runs are not repeated, and
an interrupted one goes on. `methods.json` names the methods and their options: add a line to compare one more.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE_ONLY, ORACLE = "source only", "oracle (target-trained)"
METHODS = Path(__file__).with_name("methods.json")
PAIRS = {  # name -> rig of CMU, rig of HDM05, which of them is the source
    "cmu-hdm05": ("h36m", "3dhp_test", "cmu"),
    "cmu-hdm05train": ("h36m", "3dhp_vnect8", "cmu"),
    "hdm05-cmu": ("h36m", "3dhp_test", "hdm05"),
}
COLUMNS = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "n_mpjpe": "N-MPJPE"}


@dataclass(frozen=True)
class Case:
    """What all methods of one table have in common."""

    pair: str
    lifter: str
    noise: str
    out: Path
    cmu: Path
    hdm05: Path
    steps: int
    threads: int

    def options(self, seed: int) -> list[str]:
        """Options of both domains, the lifter and the schedule."""
        cmu_rig, hdm_rig, source = PAIRS[self.pair]
        cmu = {"name": "motion", "path": self.cmu.resolve(), "rig": cmu_rig, "test_subjects": '["16","35"]'}
        hdm05 = {"name": "motion", "path": self.hdm05.resolve(), "rig": hdm_rig}
        first, second = (cmu, hdm05) if source == "cmu" else (hdm05, cmu)
        words = [f"source.{key}={value}" for key, value in first.items() if key != "name"]
        words += [f"target.{key}={value}" for key, value in second.items() if key != "name"]
        words += ["source=motion", "target=motion", f"lifter={self.lifter}", f"target.noise={self.noise}"]
        words += ["source.every=2"] if source == "cmu" else ["target.every=2"]
        words += [f"train.steps={self.steps}", "train.batch_size=512", f"adapt.steps={self.steps * 3 // 5}"]
        return [*words, f"seed={seed}", f"threads={self.threads}", f"out={self.out}"]

    def name(self, method: str) -> str:
        return f"{self.pair}-{self.lifter}-{self.noise}-{method.replace(', ', '-').replace(' ', '-')}"

    def folder(self, method: str, seed: int) -> Path | None:
        """Where a run has left its results; None where it has not."""
        found = sorted(self.out.glob(f"*/{self.name(method)}/seed{seed}/results.json"))
        return found[0].parent if found else None


def main() -> None:
    """Run what is missing and print the table."""
    methods: dict[str, dict[str, Any]] = json.loads(METHODS.read_text())
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("cmu", type=Path)
    parser.add_argument("hdm05", type=Path)
    parser.add_argument("--pair", choices=PAIRS, default="cmu-hdm05")
    parser.add_argument("--lifter", default="simplebaseline_small")
    parser.add_argument("--noise", default="none", help="detector noise on the target's 2D")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(methods), choices=list(methods), metavar="NAME")
    parser.add_argument("--steps", type=int, default=2000, help="of the source model; adaptation: 3/5 of them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("pair", "lifter", "noise", "cmu", "hdm05", "steps", "threads")}
    case = Case(out=arguments.out.resolve(), **given)
    for seed in arguments.seeds:
        run(case, "source", {"stages": [], "options": ["oracle=true"]}, seed, None)
        for method in arguments.methods:
            run(case, method, methods[method], seed, case.folder("source", seed))
    print(table(case, {name: methods[name] for name in arguments.methods}, arguments.seeds))


def run(case: Case, method: str, recipe: Mapping[str, Any], seed: int, source: Path | None) -> None:
    """One adaptation, unless it is there; its seconds are kept beside it."""
    if case.folder(method, seed):
        return
    words = [*case.options(seed), f"name={case.name(method)}", f"stages=[{','.join(recipe['stages'])}]", "rows=last"]
    words += [f"checkpoint={source / 'source.safetensors'}"] if source else []
    print(f"seed {seed}: {method}", file=sys.stderr, flush=True)
    begin = processor_seconds()
    done = subprocess.run([sys.executable, "-m", "poseda.adapt", *words, *recipe.get("options", [])],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{method}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
    folder = case.folder(method, seed)
    assert folder is not None
    (folder / "seconds.json").write_text(json.dumps(processor_seconds() - begin))


def processor_seconds() -> float:
    """What finished runs have used of a processor: unlike wall time, the same on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(case: Case, methods: Mapping[str, Mapping[str, Any]], seeds: list[int]) -> str:
    """Markdown: a row a method, mean ± standard deviation over seeds, and the share of the gap that it closes."""
    titles = ["method", *COLUMNS.values(), "gap closed %", "CPU min"]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for label, key in ((SOURCE_ONLY, SOURCE_ONLY), (ORACLE, ORACLE)):
        lines.append(line(label, list(rows_of(case, "source", seeds, key)), None))
    for name, recipe in methods.items():
        found = list(rows_of(case, name, seeds, None))
        lines.append(line(f"{name}: {' '.join(recipe['stages'])}", found, list(minutes(case, name, seeds))))
    return "\n".join([*lines, f"\n{case.pair}, {case.lifter}, noise {case.noise}, seeds {' '.join(map(str, seeds))}"])


def rows_of(case: Case, method: str, seeds: list[int], key: str | None) -> Iterator[dict[str, float]]:
    """Values of one row (the last where key is None) of each seed, with the share of the gap."""
    for seed in seeds:
        rows = read(case, method, seed)
        ends = read(case, "source", seed)
        start, best = (ends[name]["values"]["mpjpe"] for name in (SOURCE_ONLY, ORACLE))
        values = rows[key or list(rows)[-1]]["values"]
        yield {**values, "closed": 100 * (start - values["mpjpe"]) / (start - best)}


def read(case: Case, method: str, seed: int) -> dict[str, Any]:
    folder = case.folder(method, seed)
    assert folder is not None
    return dict(json.loads((folder / "results.json").read_text())["results"]["rows"])


def minutes(case: Case, method: str, seeds: list[int]) -> Iterator[float]:
    """Processor time of each run, scoring of both rows and figures included."""
    for seed in seeds:
        folder = case.folder(method, seed)
        if folder and (folder / "seconds.json").is_file():
            yield json.loads((folder / "seconds.json").read_text()) / 60


def line(label: str, rows: list[dict[str, float]], times: list[float] | None) -> str:
    cells = [spread([row[key] for row in rows]) for key in COLUMNS]
    closed = spread([row["closed"] for row in rows], 0)
    return f"| {label} | {' | '.join(cells)} | {closed} | {statistics.mean(times):.1f} |" if times else (
        f"| {label} | {' | '.join(cells)} | {closed} | |"
    )


def spread(values: list[float], digits: int = 1) -> str:
    """Mean ± sample standard deviation; the value alone where there is one."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
