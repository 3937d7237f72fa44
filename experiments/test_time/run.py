"""Test-time optimisation with an estimated and with the true root, over checkpoints, detector noise and settings.

    python experiments/test_time/run.py cmu17.npz hdm05_17.npz --noise none cpn \
        --lifter source=a/source.safetensors,b/source.safetensors --lifter GPA=a/lifter.safetensors,b/lifter.safetensors

A --lifter is a name and the checkpoints of its seeds. Every result is kept in OUT/results.json as soon as it is there
and is not computed again; the tables are then printed, mean ± standard deviation over seeds. `settings.json` names the
settings: add a line to try one more. Options are to be chosen on the people of --part train, whose labels are not the
test's; --part test is the final look.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from poseda.data.clips import LabelledClips
from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.official import open_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.inference import lift_clips
from poseda.lifters.matmul import use_products
from poseda.stages.tto import TTO, TTOConfig

NONE = "no optimisation"
COLUMNS = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "mpjve": "MPJVE"}
Numbers = dict[str, float]


def main() -> None:
    """Compute what is missing and print the tables."""
    settings: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("settings.json").read_text())
    arguments = options(settings).parse_args()
    torch.set_num_threads(arguments.threads)
    use_products("auto")
    store = Path(arguments.out) / "results.json"
    done: dict[str, Numbers] = json.loads(store.read_text()) if store.is_file() else {}
    lifters = dict(word.split("=", 1) for word in arguments.lifter)
    chosen = {NONE: {"steps": 0}} | {name: settings[name] for name in arguments.settings}
    source = None
    for noise in arguments.noise:
        clips = None
        for path in (path for paths in lifters.values() for path in paths.split(",")):
            for name, setting in chosen.items():
                for root in ("estimated",) if name == NONE else ("estimated", "oracle"):
                    key = " | ".join((str(Path(path).resolve()), noise, arguments.part, name, root))
                    if key in done:
                        continue
                    clips = clips or load(arguments, noise)
                    source = source or load_source(arguments)
                    print(key, file=sys.stderr, flush=True)
                    done[key] = score(open_lifter(path)[0], clips, source, config_of(setting, root))
                    store.parent.mkdir(parents=True, exist_ok=True)
                    store.write_text(json.dumps(done, indent=1))
    for noise in arguments.noise:
        for name, paths in lifters.items():
            print(f"\n{name}, 2D: {noise}, {len(paths.split(','))} seeds, people of {arguments.part}\n")
            print(table(done, [f"{Path(p).resolve()} | {noise} | {arguments.part}" for p in paths.split(",")], chosen))


def options(settings: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("source", help="motion that the lifters were trained on, for the calibration of sigma and size")
    parser.add_argument("target", help="motion to score on")
    parser.add_argument("--source-rig", default="h36m")
    parser.add_argument("--target-rig", default="3dhp_test")
    parser.add_argument("--source-test", nargs="*", default=["16", "35"], help="subjects left out of the source")
    parser.add_argument("--lifter", action="append", required=True, metavar="NAME=FILE,FILE")
    parser.add_argument("--noise", nargs="+", default=["none", "cpn"])
    parser.add_argument("--settings", nargs="+", default=list(settings), choices=list(settings), metavar="NAME")
    parser.add_argument("--part", default="test", choices=["train", "test"])
    parser.add_argument("--max-frames", type=int, default=10**9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="runs/test_time")
    return parser


def load(arguments: argparse.Namespace, noise: str) -> LabelledClips:
    """The people to score on."""
    domain = load_domain(
        DomainConfig("motion", path=arguments.target, rig=arguments.target_rig, noise=noise), root="data"
    )
    clips: LabelledClips = getattr(domain, arguments.part)
    return clips.limit(arguments.max_frames)


def load_source(arguments: argparse.Namespace) -> LabelledClips:
    config = DomainConfig(
        "motion", path=arguments.source, rig=arguments.source_rig, every=2, test_subjects=tuple(arguments.source_test)
    )
    return load_domain(config, root="data").train


def config_of(setting: dict[str, Any], root: str) -> TTOConfig:
    """A setting with its own root, or with the true one (which has neither a size to tell nor a weak camera)."""
    config = TTOConfig(**setting)
    return config if root == "estimated" else replace(config, root="oracle", camera="full", resize=False)


def score(lifter: Lifter, clips: LabelledClips, source: LabelledClips, config: TTOConfig) -> Numbers:
    """Errors in mm, and frames refined in a second of processor time."""
    stage = TTO(config)
    stage.calibrate(lifter, source)
    if stage.wants_oracle_root:
        stage.take_oracle_root(clips.poses[:, clips.skeleton.root])
    unlabelled = clips.unlabelled()
    lifted = lift_clips(lifter, unlabelled, flip=True)
    begin = time.process_time()
    refined = stage.refine(lifter, unlabelled, lifted)
    spent = time.process_time() - begin
    values = evaluate_lifter(lifter, clips, "official17", lift=lambda _: refined).values
    return {**{name: values[name] for name in COLUMNS}, "rate": clips.num_frames / spent}


def table(done: dict[str, Numbers], starts: list[str], settings: dict[str, Any]) -> str:
    """Markdown: a row a setting; estimated root and, flagged, the true one."""
    heads = [f"{title}" for title in COLUMNS.values()] + [f"{title} (oracle root)" for title in COLUMNS.values()]
    lines = [f"| setting | {' | '.join(heads)} | frames/CPU s |", "|---|" + "---:|" * (len(heads) + 1)]
    for name in settings:
        cells = []
        for root in ("estimated", "oracle"):
            found = [done[key] for start in starts if (key := f"{start} | {name} | {root}") in done]
            cells += [spread([values[column] for values in found]) for column in COLUMNS]
        rates = [done[key]["rate"] for start in starts if (key := f"{start} | {name} | estimated") in done]
        cells.append("" if name == NONE else f"{statistics.median(rates):.0f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean, and ± standard deviation of two or more; nothing of none."""
    if not values:
        return ""
    more = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{more}"


if __name__ == "__main__":
    main()
