"""Two networks written down with torch's own layers and nothing else, beside ours: what this machine makes of those.

    python experiments/bench/plain.py --threads 2

The originals' numbers in `lifters.py` come from another day; where both of these are slower than they were then by the
same factor, the machine is. SimpleBaseline is Martinez et al.'s network of 1024 units, VideoPose3D Pavllo et al.'s
strided form; weights are random, both sides in eval mode. Frames a second of forward passes, best of the rounds, in
turns, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import poseda


def layer(into: int, out: int, conv: bool = False, width: int = 1) -> nn.Sequential:
    """Linear or strided convolution, batch norm, ReLU, dropout."""
    first = nn.Conv1d(into, out, width, stride=width, bias=False) if conv else nn.Linear(into, out)
    return nn.Sequential(first, nn.BatchNorm1d(out), nn.ReLU(inplace=True), nn.Dropout(0.25))


class PlainBaseline(nn.Module):
    """(B, 1, 16, 2) -> (B, 48)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layer(32, 1024)
        self.blocks = nn.ModuleList(nn.Sequential(layer(1024, 1024), layer(1024, 1024)) for _ in range(2))
        self.last = nn.Linear(1024, 48)

    def forward(self, keypoints: Tensor) -> Tensor:
        x = self.first(keypoints.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class PlainVideoPose3D(nn.Module):
    """(B, 3^n, 17, 2) -> (B, 51, 1)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.first = layer(34, 1024, True, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(layer(1024, 1024, True, 3), layer(1024, 1024, True)) for _ in range(levels - 1)
        )
        self.last = nn.Conv1d(1024, 51, 1)

    def forward(self, keypoints: Tensor) -> Tensor:
        x = self.first(keypoints.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = x[:, :, 1::3] + block(x)
        return self.last(x)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| network | batch | plain | ours |\n|---|---:|---:|---:|")
    for name, plain, options in cases():
        lifter = poseda.create_lifter(seed=0, sigma=False, **options).eval()
        for batch in (1, 64):
            keypoints = torch.rand(batch, lifter.frames, lifter.skeleton.num_joints, 2)
            found = compared([plain.eval(), lifter], keypoints, arguments)
            print(f"| {name} | {batch} | {' | '.join(f'{batch / seconds:.0f}' for seconds in found)} |", flush=True)


def cases() -> list[tuple[str, nn.Module, dict[str, object]]]:
    """Name, the plain network, and ours of the same layers."""
    found: list[tuple[str, nn.Module, dict[str, object]]] = [
        ("SimpleBaseline", PlainBaseline(), {"name": "simplebaseline", "skeleton": "h36m16"})
    ]
    for levels in (3, 4, 5):
        options: dict[str, object] = {"name": "videopose3d", "frames": 3**levels}
        found.append((f"VideoPose3D {3**levels}", PlainVideoPose3D(levels), options))
    return found


def compared(networks: list[nn.Module], keypoints: Tensor, arguments: argparse.Namespace) -> list[float]:
    """Seconds of a forward pass of each network."""
    best = [float("inf")] * len(networks)
    with torch.inference_mode():
        for _ in range(arguments.rounds):
            for number, network in enumerate(networks):
                taken = repeated(lambda network=network: network(keypoints), arguments.seconds)  # type: ignore[misc]
                best[number] = min(best[number], taken)
    return best


def repeated(run: Callable[[], object], seconds: float) -> float:
    """Mean seconds of a run, after one to warm up."""
    run()
    count, begin = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - begin < seconds:
        run()
        count += 1
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()
