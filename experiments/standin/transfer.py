"""What training on the stand-in's motion costs, against training on the real motion that it was fitted to.

    python experiments/standin/transfer.py cmu17.npz hdm05_17.npz

One lifter is trained on real CMU motion of ten subjects, another on motion generated from statistics of the same ten:
as many frames, the same bodies, the same classes of action, the same cameras (Human3.6M's), exact 2D. Both are scored
on three held-out CMU subjects and on HDM05, seen by those cameras.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from compare import CLIP, HELD_OUT, SKELETON
from fit_motion_statistics import action_class, fit, to_statistics
from torch import Tensor

import poseda
from poseda.data.clips import LabelledClips
from poseda.data.motion import Motion, load_motion, read_motion
from poseda.data.standin.generate import generate_motion
from poseda.geometry.bones import bone_lengths

RIG = "h36m"
EVERY = 5  # one frame in so many is scored


def main() -> None:
    """Train and score both lifters for each seed; print the errors and their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cmu", type=Path, help="npz of 'subject/trial' -> (T, 17, 3) metres, z up, with its .json")
    parser.add_argument("hdm05", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = poseda.TrainConfig(steps=arguments.steps, batch_size=arguments.batch_size)
    subjects = [name for name in sorted(set(load_motion(arguments.cmu).subjects)) if name not in HELD_OUT]
    tests = {
        "CMU held out": read_motion(arguments.cmu, RIG, subjects=HELD_OUT).subsample(EVERY),
        "HDM05": read_motion(arguments.hdm05, RIG).subsample(EVERY),
    }
    for name, clips in tests.items():
        print(f"{name}: {clips.num_frames} frames scored")
    rows: dict[str, list[list[float]]] = {}
    for seed in range(arguments.seeds):
        sources = {
            "real CMU motion": read_motion(arguments.cmu, RIG, subjects=subjects, seed=seed),
            "stand-in motion": generated(arguments.cmu, subjects, seed),
        }
        for name, source in sources.items():
            rows.setdefault(name, []).append(score(source, tests, config, seed))
    print_rows(rows, list(tests))


def generated(path: Path, subjects: list[str], seed: int) -> LabelledClips:
    """Clips drawn from statistics of these subjects, with their bodies, classes and number of frames."""
    motion = load_motion(path, subjects)
    statistics = to_statistics(*fit(path, subjects))
    classes, people = drawn_like(motion, statistics.classes, torch.Generator().manual_seed(seed))
    sizes = torch.stack([bone_lengths(part, SKELETON).mean(0) for part in parts_of(motion)])
    world = generate_motion(statistics, classes, CLIP, sizes[people], 1.0, torch.Generator().manual_seed(seed))
    trials = {
        f"{motion.subjects[person]}/{number}": joints.numpy() / 1000.0
        for number, (person, joints) in enumerate(zip(people.tolist(), world, strict=True))
    }
    with tempfile.TemporaryDirectory() as folder:  # read as real motion is, so that it gets the same places
        file = Path(folder) / "generated.npz"
        np.savez(file, **trials)
        return read_motion(file, RIG, seed=seed)


def drawn_like(motion: Motion, names: tuple[str, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Classes (N,) and trials (N,), whose bodies are taken, drawn as often as the motion has frames of them."""
    lengths = motion.bounds.diff().double()
    count = round(float(lengths.sum()) / CLIP)
    classes = torch.tensor([names.index(action_class(action)) for action in motion.actions])
    drawn, people = (torch.multinomial(lengths, count, True, generator=generator) for _ in range(2))
    return classes[drawn], people


def parts_of(motion: Motion) -> tuple[Tensor, ...]:
    """The joints of each trial."""
    return motion.joints.split(motion.bounds.diff().tolist())


def score(
    source: LabelledClips, tests: dict[str, LabelledClips], config: poseda.TrainConfig, seed: int
) -> list[float]:
    """MPJPE and PA-MPJPE in mm on each test set of a lifter trained on the source."""
    start = time.perf_counter()
    fresh = poseda.create_lifter("simplebaseline", seed=seed, hidden=512)  # simplebaseline_small
    lifter = poseda.train_lifter(fresh, source, config, seed=seed)
    found = [poseda.evaluate_lifter(lifter, clips, "h36m17").values for clips in tests.values()]
    seconds = time.perf_counter() - start
    errors = [values[measure] for values in found for measure in ("mpjpe", "pa_mpjpe")]
    numbers = ", ".join(f"{error:.1f}" for error in errors)
    print(f"seed {seed}, {source.num_frames} frames: {numbers} mm ({seconds:.0f} s)", flush=True)
    return errors


def print_rows(rows: dict[str, list[list[float]]], tests: list[str]) -> None:
    """Mean and standard deviation over seeds as a table in Markdown."""
    heads = [f"{name}: {measure}" for name in tests for measure in ("MPJPE", "PA-MPJPE")]
    print("\n| trained on | " + " | ".join(heads) + " |")
    print("|---" + "|---:" * len(heads) + "|")
    for name, errors in rows.items():
        values = torch.tensor(errors)
        spread = values.std(0) if len(values) > 1 else torch.zeros(len(heads))
        cells = [f"{float(m):.1f} ± {float(s):.1f}" for m, s in zip(values.mean(0), spread, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
