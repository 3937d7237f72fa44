"""How near the stand-in's motion is to real motion, beside how near real motion is to other real motion.

    python experiments/standin/compare.py cmu17.npz hdm05_17.npz
    python experiments/standin/compare.py cmu17.npz hdm05_17.npz --statistics other.safetensors

The statistics are fitted anew to the CMU subjects that are not held out, unless a file is given. Everything is
cut into clips of at most 200 frames. Against the held-out subjects, real and generated clips are drawn with the
held-out clips' classes of action; HDM05 has other actions, so all classes of CMU are drawn alike against it.
Poses are turned to their heading and put on one set of bones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from fit_motion_statistics import CLASSES, action_class, features, fit, to_statistics
from torch import Tensor

from poseda.data.motion import load_motion
from poseda.data.standin.generate import generate_motion
from poseda.data.standin.statistics import MotionStatistics, load_statistics
from poseda.geometry.bones import bone_lengths
from poseda.metrics.gaps import rbf_mmd, sliced_wasserstein, wasserstein_1d
from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")
HELD_OUT = ("07", "13", "16")
CLIP = 200  # frames
FPS = 50.0
CONTACT_MM = 40.0  # an ankle this near to its lowest in the clip touches the floor
ANKLES = (3, 6)
SAMPLES = 20_000  # frames or speeds that a distance is computed from
NOT_ON_THE_FLOOR = ("playground", "climb", "uneven")  # classes that say nothing of floor contact


@dataclass(frozen=True, eq=False)
class Clip:
    """World joints (T, 17, 3) mm and the class of the action ("" where unknown)."""

    joints: Tensor
    action: str


def main() -> None:
    """Read, generate, compare, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cmu", type=Path, help="npz of 'subject/trial' -> (T, 17, 3) metres, z up, with its .json")
    parser.add_argument("hdm05", type=Path)
    parser.add_argument("--statistics", type=Path, help="a fitted file in place of a fit without the held-out")
    parser.add_argument("--clips", type=int, default=300, help="clips drawn on each side")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(arguments.seed)
    real = load_motion(arguments.cmu)
    fitted_on = [subject for subject in sorted(set(real.subjects)) if subject not in HELD_OUT]
    if arguments.statistics:
        statistics = load_statistics(arguments.statistics)
    else:
        statistics = to_statistics(*fit(arguments.cmu, fitted_on))
    held_out, rest = cut(arguments.cmu, HELD_OUT), cut(arguments.cmu, fitted_on)
    shared = {clip.action for clip in held_out} & {clip.action for clip in rest}
    held_out = [clip for clip in held_out if clip.action in shared]
    lengths = torch.cat([bone_lengths(clip.joints, SKELETON) for clip in rest]).mean(0)
    wanted = [held_out[i].action for i in torch.randint(len(held_out), (arguments.clips,), generator=generator)]
    everything = [name for name in CLASSES if name in {clip.action for clip in rest}]
    alike = [everything[i % len(everything)] for i in range(arguments.clips)]
    hdm05 = cut(arguments.hdm05, None)
    compare("CMU, held-out subjects", held_out, lengths, {
        "real: other CMU subjects": draw(rest, wanted, generator),
        "stand-in": generate(statistics, wanted, lengths, generator),
    })  # fmt: skip
    compare("HDM05", hdm05, lengths, {
        "real: CMU": draw(rest, alike, generator),
        "stand-in": generate(statistics, alike, lengths, generator),
    })  # fmt: skip


def cut(path: Path, subjects: Sequence[str] | None) -> list[Clip]:
    """Clips of at most 200 frames, 20 at least."""
    motion = load_motion(path, subjects)
    trials = motion.joints.split(motion.bounds.diff().tolist())
    known = subjects is not None  # HDM05's actions have no class
    clips = [
        Clip(part, action_class(action) if known else "")
        for trial, action in zip(trials, motion.actions, strict=True)
        for part in trial.split(CLIP)
    ]
    return [clip for clip in clips if len(clip.joints) >= 20]


def draw(clips: list[Clip], actions: list[str], generator: torch.Generator) -> list[Clip]:
    """One clip of each wanted class, drawn with replacement."""
    grouped = {name: [clip for clip in clips if clip.action == name] for name in set(actions)}
    return [grouped[name][int(torch.randint(len(grouped[name]), (1,), generator=generator))] for name in actions]


def generate(
    statistics: MotionStatistics, actions: list[str], lengths: Tensor, generator: torch.Generator
) -> list[Clip]:
    """One generated clip of each wanted class, on the given bones (E,) mm."""
    classes = torch.tensor([statistics.index(name) for name in actions])
    bones = lengths.expand(len(actions), -1)
    world = generate_motion(statistics, classes, CLIP, bones, 1.0, generator)
    return [Clip(joints, action) for joints, action in zip(world, actions, strict=True)]


def compare(title: str, reference: list[Clip], lengths: Tensor, others: dict[str, list[Clip]]) -> None:
    """Print the distances of the others from the reference, and what each looks like by itself."""
    base = measure(reference, lengths)
    print(f"\nDistance from {title}\n")
    rows = {name: measure(clips, lengths) for name, clips in others.items()}
    table = {name: distances(base, row, torch.Generator().manual_seed(0)) for name, row in rows.items()}
    print_table(table)
    print()
    print_table({name: summary(row) for name, row in ({title: base} | rows).items()})


@dataclass(frozen=True, eq=False)
class Measured:
    """What is compared of a set of clips."""

    bones: Tensor
    """(F, 16, 3) unit bones in the heading frame."""
    poses: Tensor
    """(F, 51) mm, root-relative, on the common bones."""
    bends: Tensor
    """(F, 16) degrees between a bone and the one before it."""
    speed: Tensor
    """(V,) m/s of the joints relative to the root."""
    acceleration: Tensor
    """(A,) m/s^2 of the joints relative to the root."""
    root_speed: Tensor
    """(F',) m/s over the floor."""
    lowest: Tensor
    """(F'',) mm of the lower ankle above its lowest 5 %."""
    sliding: Tensor
    """(C,) m/s over the floor of ankles in contact."""


def measure(clips: list[Clip], lengths: Tensor) -> Measured:
    """All quantities of a set of clips."""
    bones, poses, bends, speed, acceleration, root, lowest, sliding = ([] for _ in range(8))
    for clip in clips:
        flat, _ = features(clip.joints.double().numpy() / 1000.0, FPS)
        unit = torch.from_numpy(flat).float().view(-1, 16, 3)
        pose = SKELETON.path_matrix() @ (unit * lengths[:, None])
        relative = clip.joints - clip.joints[:, :1]
        bones.append(unit)
        poses.append(pose.flatten(1))
        bends.append(bend_angles(unit))
        speed.append((relative.diff(dim=0).norm(dim=-1) * FPS / 1000)[:, 1:].flatten())
        acceleration.append((relative.diff(n=2, dim=0).norm(dim=-1) * FPS**2 / 1000)[:, 1:].flatten())
        root.append(clip.joints[:, 0, :2].diff(dim=0).norm(dim=-1) * FPS / 1000)
        if clip.action not in NOT_ON_THE_FLOOR:
            height, slide = contact(clip.joints[:, list(ANKLES)])
            lowest.append(height)
            sliding.append(slide)
    return Measured(*(torch.cat(parts) for parts in (bones, poses, bends, speed, acceleration, root, lowest, sliding)))


def contact(ankles: Tensor) -> tuple[Tensor, Tensor]:
    """Heights (T,) mm of the lower ankle over its lowest 5 %, speeds (C,) m/s of ankles on the floor: (T, 2, 3)."""
    low = ankles[..., 2].amin(1)
    height = ankles[..., 2] - low.quantile(0.05)
    speed = (ankles[2:, :, :2] - ankles[:-2, :, :2]).norm(dim=-1) * FPS / 2 / 1000
    return low - low.quantile(0.05), speed[height[1:-1] < CONTACT_MM]


def bend_angles(bones: Tensor) -> Tensor:
    """Degrees (F, 16) between each unit bone and the one before it; 0 at the root."""
    place = {child: bone for bone, (_, child) in enumerate(SKELETON.bones)}
    before = [place.get(parent, bone) for bone, (parent, _) in enumerate(SKELETON.bones)]
    return (bones * bones[:, before]).sum(-1).clamp(-1, 1).arccos().rad2deg()


def distances(a: Measured, b: Measured, generator: torch.Generator) -> dict[str, float]:
    """Distances of two sets, all 0 where they agree."""

    def few(values: Tensor) -> Tensor:
        return values[torch.randperm(len(values), generator=generator)[:SAMPLES]]

    def line(first: Tensor, second: Tensor) -> Tensor:
        return wasserstein_1d(few(first).movedim(0, -1).contiguous(), few(second).movedim(0, -1).contiguous())

    direction = line(a.bones.flatten(1), b.bones.flatten(1)).view(16, 3).mean(1)
    bend = line(a.bends, b.bends)
    groups = {f"direction {name}": direction[list(bones)].mean() for name, bones in SKELETON.bone_groups.items()}
    found = {
        "pose MMD^2 x 1000": 1000 * rbf_mmd(a.poses, b.poses, generator),
        "pose sliced W mm": sliced_wasserstein(few(a.poses), few(b.poses), generator),
        "direction x 1000": 1000 * direction.mean(),
        "bend deg": bend[bend > 0].mean(),
        "speed m/s": line(a.speed, b.speed),
        "acceleration m/s2": line(a.acceleration, b.acceleration),
        "root speed m/s": line(a.root_speed, b.root_speed),
        "lower ankle mm": line(a.lowest, b.lowest),
        "sliding m/s": line(a.sliding, b.sliding),
    }
    return {name: float(value) for name, value in (found | {n: 1000 * v for n, v in groups.items()}).items()}


def summary(measured: Measured) -> dict[str, float]:
    """What a set looks like by itself."""
    spread = measured.poses.var(0).sum().sqrt() / 17**0.5
    return {
        "pose spread mm": float(spread),
        "median speed m/s": float(measured.speed.median()),
        "99 % speed": percentile(measured.speed, 0.99),
        "median acceleration m/s2": float(measured.acceleration.median()),
        "99 % acceleration": percentile(measured.acceleration, 0.99),
        "median sliding m/s": float(measured.sliding.median()),
        "90 % sliding": percentile(measured.sliding, 0.9),
        "lower ankle 95 % mm": percentile(measured.lowest, 0.95),
    }


def percentile(values: Tensor, share: float) -> float:
    """A quantile of (N,) of any N."""
    return float(values.kthvalue(max(1, round(share * len(values)))).values)


def print_table(columns: dict[str, dict[str, float]]) -> None:
    """A table in Markdown, one column a set."""
    print("| | " + " | ".join(columns) + " |")
    print("|---" + "|---:" * len(columns) + "|")
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(f"{values[name]:.3g}" for values in columns.values()) + " |")


if __name__ == "__main__":
    main()
