"""Frames a second of whole clips, as a seq2frame lifter's windows one by one, in batches, and sharing what they can;
with as many frames at a time as a CPU's caches hold, and 4096; and what bfloat16 and torch.compile change of them.

python experiments/bench/inference.py --threads 1 --frames 300
python experiments/bench/inference.py --only poseformer --compile

The error is the largest and the mean distance of a joint from its place in float32, on random weights. The clock is
that of lifters.py.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from machine import start

import poseda
from poseda.data.clips import UnlabelledClips
from poseda.data.domains import DomainConfig, load_domain
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftConfig, lift_clips, screen_keypoints
from poseda.lifters.tiling import lifting_batches

ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("videopose3d", {"frames": 27}),
    ("videopose3d", {"frames": 243}),
    ("poseformer", {"frames": 27}),
    ("poseformer", {"frames": 81}),
    ("poseformerv2", {"frames": 81, "kept_frames": 9, "coefficients": 9}),
    ("poseformerv2", {"frames": 243, "kept_frames": 27, "coefficients": 27}),
    ("convformer", {"frames": 27}),
    ("convformer", {"frames": 81}),
    ("glagcn", {"frames": 27}),
    ("semgcn", {}),
    ("stgcn", {}),
    ("motionagformer", {"variant": "xs"}),
    ("motionbert", {"frames": 81}),
    ("mixste", {"frames": 81}),
    ("ktpformer", {"frames": 81}),
)


def main() -> None:
    """Print the table."""
    arguments = parse()
    device = start(arguments)
    stand_in = load_domain(DomainConfig("h36m"), root="").train.unlabelled()
    clips = one_sequence(stand_in, arguments.frames).to(device)
    print("| lifter | windows one by one | in batches | lift_clips | against one by one, batches |", end="")
    print(" 4096 frames at once | bfloat16 |", end="")
    print(" error mm, largest, mean |" + (" compiled | first call s | error mm |" if arguments.compile else ""))
    print("|---|---:|---:|---:|---:|---:|---:|---:|" + ("---:|---:|---:|" if arguments.compile else ""))
    for name, options in ROWS:
        if not arguments.only or name in arguments.only.split(","):
            lifter = poseda.create_lifter(name, seed=0, **options).to(device).eval()
            print(line(lifter, clips, arguments), flush=True)


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--products", default="auto", help="as of every command: auto, torch or onednn")
    parser.add_argument("--only", default="", help="lifters to measure, with commas between")
    parser.add_argument("--frames", type=int, default=300, help="frames of the sequence")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    return parser.parse_args()


def one_sequence(clips: UnlabelledClips, frames: int) -> UnlabelledClips:
    """The first frames of all clips as if they were one sequence: times do not depend on what moves."""
    bounds = torch.tensor([0, frames], device=clips.bounds.device)
    keypoints, confidence = clips.keypoints[:frames], clips.confidence[:frames]
    first = clips.sequences[:1]
    return replace(clips, keypoints=keypoints, confidence=confidence, bounds=bounds, sequences=first)


def line(lifter: Lifter, clips: UnlabelledClips, arguments: argparse.Namespace) -> str:
    """One line of the table."""
    exact, whole = timed(lifter, clips, arguments)
    cells = [f"{lifter.name} {lifter.frames}", "–", "–", f"{whole:.0f}", "–"]
    if lifter.output == "seq2frame":
        single, batched = (sliding(lifter, clips, size, arguments) for size in (1, 50))
        gain = f"{whole / single:.1f}×, {whole / batched:.1f}×"
        cells[1:] = [f"{single:.0f}", f"{batched:.0f}", f"{whole:.0f}", gain]
    cells += [at_once(lifter, clips, arguments) if lifter.cached_frames else "–"]
    half, speed = timed(lifter, clips, arguments, precision="bfloat16")
    cells += [f"{speed:.0f}", error(half, exact)]
    if arguments.compile:
        begin = time.perf_counter()
        compiled, _ = timed(lifter, clips, arguments, compile=True)
        first = time.perf_counter() - begin
        _, speed = timed(lifter, clips, arguments, compile=True)
        cells += [f"{speed:.0f}", f"{first:.0f}", error(compiled, exact)]
    return f"| {' | '.join(cells)} |"


def timed(
    lifter: Lifter, clips: UnlabelledClips, arguments: argparse.Namespace, **options: Any
) -> tuple[torch.Tensor, float]:
    """Poses of the clips, and frames a second of the faster of two runs."""
    config = LiftConfig(**options)
    lifted, seconds = None, float("inf")
    for _ in range(2):
        begin = clock(arguments)
        lifted = lift_clips(lifter, clips, config=config).poses
        seconds = min(seconds, clock(arguments) - begin)
    assert lifted is not None
    return lifted, clips.num_frames / seconds


def at_once(lifter: Lifter, clips: UnlabelledClips, arguments: argparse.Namespace) -> str:
    """Frames a second of a lifter that would rather take fewer frames at a time."""
    limit, lifter.cached_frames = lifter.cached_frames, 0
    _, speed = timed(lifter, clips, arguments)
    lifter.cached_frames = limit
    return f"{speed:.0f}"


def sliding(lifter: Lifter, clips: UnlabelledClips, size: int, arguments: argparse.Namespace) -> float:
    """Frames a second of plain windows, `size` in a batch, over at most 50 of them."""
    frames = screen_keypoints(clips)
    batches = [batch.windows for batch in lifting_batches(lifter, clips.bounds, size * lifter.frames)]
    if lifter.slides:  # its batches are stretches: cut the windows of their middles
        middle = torch.arange(50, device=frames.device)[:, None] + torch.arange(lifter.frames, device=frames.device)
        batches = list(torch.split(middle, size))
    batches = batches[: max(50 // size, 1)]
    with torch.inference_mode():
        lifter(frames[batches[0]])
        begin = clock(arguments)
        for windows in batches:
            lifter(frames[windows])
        return sum(map(len, batches)) / (clock(arguments) - begin)


def clock(arguments: argparse.Namespace) -> float:
    """Seconds: the thread's own on one CPU thread, else the wall's, with the GPU idle."""
    if arguments.device != "cpu":
        torch.cuda.synchronize()
    return time.thread_time() if (arguments.device, arguments.threads) == ("cpu", 1) else time.perf_counter()


def error(given: torch.Tensor, exact: torch.Tensor) -> str:
    """Largest and mean distance of a joint, mm."""
    distance = (given - exact).norm(dim=-1)[:, 1:]
    return f"{distance.max():.2g}, {distance.mean():.2g}"


if __name__ == "__main__":
    main()
