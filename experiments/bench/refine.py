"""Frames a second of test-time optimisation, beside plain lifting and the published loop, for UAO's own network.

python experiments/bench/refine.py --device cpu --threads 1 --batch 128

Every row lifts the frames with both flips first. Wall and processor time are both given: on a busy machine only the
second is comparable. `--lifter simplebaseline` times another network. Rows without a network in the loop are timed on
more frames.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from machine import options, stand_in, start
from torch import Tensor

import poseda
from poseda.data.clips import LabelledClips
from poseda.geometry.camera import normalise_screen
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips, mirror_keypoints, mirror_poses, screen_keypoints
from poseda.stages.tto import TTO, TTOConfig

MANY_FRAMES = 16384
NO_CLIP = {"weight_bones": 0.0, "weight_symmetry": 0.0, "weight_jerk": 0.0, "root": "least_squares"}
UAO = {"solver": "adam", "reprojection": "l2", "anchor": "published", "weight_anchor": 0.005, **NO_CLIP}
PUBLISHED = {"lr": 1e-3, "steps": 4, "flip": True, **UAO}
TAILS = {"gumlp": "GCN_MLP.blocks.2", "simplebaseline": "linear_stages.1"}


def published_loop(lifter: Lifter, clips: LabelledClips) -> Tensor:
    """UAO's loop as released, written for comparison: (F, J, 3) mm.

    Two latents, the 2D and its mirror image, each through the whole network in a pass of its own; the network's weights
    ask for gradients that nobody uses; the true root; x/z and y/z clamped to [-1, 1].
    """
    skeleton, cameras = lifter.skeleton, clips.cameras_at(torch.arange(clips.num_frames, device=clips.bounds.device))
    root, screen = clips.poses[:, skeleton.root, None], screen_keypoints(clips)
    swap = skeleton.mirror_index(screen)

    def lift(latent: Tensor, mirrored: bool) -> tuple[Tensor, Tensor]:
        output = lifter(latent)
        pose, scale = output.pose[:, 0] / 1000, output.log_sigma[:, 0] - 6.907755278982137
        return (mirror_poses(pose, skeleton), scale.index_select(-1, swap)) if mirrored else (pose, scale)

    latents = [screen[:, None].clone(), mirror_keypoints(screen, skeleton)[:, None].clone()]
    first = [lift(latent, bool(side))[0].detach() for side, latent in enumerate(latents)]
    latents = [latent.requires_grad_(True) for latent in latents]
    optimizer = torch.optim.Adam(latents, lr=1e-3)
    for _ in range(4):
        loss = screen.new_zeros(())
        for side, latent in enumerate(latents):
            pose, scale = lift(latent, bool(side))
            anchor = (pose - first[side]).norm(dim=-1) * torch.exp(-scale.detach()) + scale.detach()
            place = 1000 * pose + root
            ratio = (place[..., :2] / place[..., 2:]).clamp(-1, 1)
            pixels = cameras.project(torch.cat([ratio, torch.ones_like(ratio[..., :1])], -1) * 1000)
            seen = normalise_screen(pixels, cameras.width, cameras.height)
            loss = loss + (seen - screen).norm(dim=-1).mean() + 0.005 * anchor.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 500 * sum(lift(latent, bool(side))[0].detach() for side, latent in enumerate(latents))


def main() -> None:
    """Print the table."""
    parser = options(str(__doc__).split("\n")[0], batch=128, repeats=3)
    parser.add_argument("--lifter", default="gumlp", choices=list(TAILS))
    arguments = parser.parse_args()
    device = start(arguments)
    many = stand_in("3dhp", device)
    lifter = poseda.create_lifter(arguments.lifter, seed=0).to(device).eval()
    few = many.limit(arguments.batch)
    rows: dict[str, tuple[LabelledClips, Callable[[LabelledClips], object]]] = {
        "lifting, both flips": (few, lambda clips: poseda.lift_clips(lifter, clips.unlabelled(), flip=True)),
        "lifting once": (few, lambda clips: poseda.lift_clips(lifter, clips.unlabelled())),
        "published loop": (few, lambda clips: published_loop(lifter, clips)),
    }
    settings = {
        "input (weights frozen, flips merged)": {"latent": "input", **PUBLISHED},
        f"tail of {TAILS[arguments.lifter]}": {"latent": "tail", "module": TAILS[arguments.lifter], **PUBLISHED},
        "feature": {"latent": "feature", **PUBLISHED},
    }
    for name, setting in settings.items():
        rows[name] = (few, refining(lifter, TTOConfig(**setting)))
    rows["the default, lifted once"] = (few, refining(lifter, TTOConfig(), flip=False))
    print(f"{arguments.lifter}, {few.num_frames} frames in a batch; 4 steps")
    baseline = table(rows, arguments)
    lifted = poseda.lift_clips(lifter, few.unlabelled(), flip=True)
    print("\nthe same without the lifting before")
    table({name: (few, alone(lifter, TTOConfig(**setting), lifted)) for name, setting in settings.items()}, arguments,
          1 / (1 / baseline["published loop"] - 1 / baseline["lifting, both flips"]))  # fmt: skip
    clips = many.limit(MANY_FRAMES)
    guess = clips.poses - clips.poses[:, :1] + 20.0
    guess[:, 0] = 0
    lifted = LiftedClips(guess, torch.full_like(clips.confidence, 60.0))
    print(f"\nthe pose itself, no network in the loop, without the lifting before; {clips.num_frames} frames")
    outputs = {"Gauss-Newton, 2D and anchor": NO_CLIP, "the default": {}, "Adam, 20 steps, published objective": UAO}
    table({name: (clips, alone(lifter, TTOConfig(**setting), lifted)) for name, setting in outputs.items()}, arguments)


def alone(lifter: Lifter, config: TTOConfig, lifted: LiftedClips) -> Callable[[LabelledClips], object]:
    """Refinement of poses that are lifted already."""
    stage = TTO(config)
    return lambda clips: stage.refine(lifter, clips.unlabelled(), lifted)


def refining(lifter: Lifter, config: TTOConfig, flip: bool = True) -> Callable[[LabelledClips], object]:
    """Lifting, and then refinement."""
    stage = TTO(config)

    def run(clips: LabelledClips) -> object:
        lifted = poseda.lift_clips(lifter, clips.unlabelled(), flip=flip)
        return stage.refine(lifter, clips.unlabelled(), lifted)

    return run


def table(
    rows: dict[str, tuple[LabelledClips, Callable[[LabelledClips], object]]],
    arguments: argparse.Namespace,
    published: float = 0.0,
) -> dict[str, float]:
    """Print a line a row, frames a second by processor and by wall time; returns the first."""
    rates: dict[str, float] = {}
    print(f"{'what':44}{'frames/CPU s':>13}{'frames/s':>10}{'x published':>13}")
    for name, (clips, run) in rows.items():
        run(clips)
        spent, wall = [], []
        for _ in range(arguments.repeats):
            cpu, begin = time.process_time(), time.perf_counter()
            run(clips)
            spent.append(time.process_time() - cpu)
            wall.append(time.perf_counter() - begin)
        rates[name] = clips.num_frames / min(spent)  # the least: a busy machine only adds
        published = rates[name] if name == "published loop" else published
        times = f"{rates[name] / published:12.1f}x" if published else ""
        print(f"{name:44}{rates[name]:13.1f}{clips.num_frames / min(wall):10.1f}{times:>13}", flush=True)
    return rates


if __name__ == "__main__":
    main()
