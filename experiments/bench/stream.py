"""Milliseconds a frame of a stream (`predict follow=true`), each frame pushed once the one before has its pose.

python experiments/bench/stream.py --device cuda

On a GPU the lifter's passes are recorded and replayed; the last column is without that. The frames that fill the window
and START more do not count.
"""

from __future__ import annotations

import torch
from inference import ROWS, one_sequence
from machine import options, seconds, start

import poseda
from poseda.data.clips import UnlabelledClips
from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.streaming import PoseStream, StreamConfig, StreamFrame
from poseda.lifters.base import Lifter

FRAMES, START = 60, 10


def main() -> None:
    """Print the table."""
    arguments = options(str(__doc__).split("\n")[0], batch=1, repeats=1).parse_args()
    device = start(arguments)
    stand_in = load_domain(DomainConfig("h36m"), root="").train.unlabelled()
    print("| lifter | ms / frame | one kernel at a time |\n|---|---:|---:|")
    for name, chosen in ROWS:
        lifter = poseda.create_lifter(name, seed=0, **chosen).to(device)
        clips = one_sequence(stand_in, lifter.frames + START + FRAMES).to(device)
        times = [milliseconds(lifter, clips, device, replayed) for replayed in (True, False)]
        print(f"| {name} {lifter.frames} | {times[0]:.2f} | {times[1]:.2f} |", flush=True)


def milliseconds(lifter: Lifter, clips: UnlabelledClips, device: torch.device, replayed: bool) -> float:
    """Mean time of the last FRAMES frames."""
    stream = PoseStream(lifter, clips.cameras[0], StreamConfig(latency="none", jump=0, scale_jump=0))
    if not replayed:
        stream.run_whole = stream.run
    frames = [StreamFrame(n, *parts) for n, parts in enumerate(zip(clips.keypoints, clips.confidence, strict=True))]

    def push(some: list[StreamFrame]) -> None:
        for frame in some:
            stream.push(frame)

    push(frames[:-FRAMES])
    return 1e3 * seconds(lambda: push(frames[-FRAMES:]), device) / FRAMES


if __name__ == "__main__":
    main()
