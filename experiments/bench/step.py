"""Time of one adaptation step: GPA alone, and LPA + GPA with the share of each network.

python experiments/bench/step.py --device cpu --threads 1 --batch 1024
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from machine import median_seconds, options, seconds, stand_in, start

import poseda
from poseda.data.clips import LabelledClips
from poseda.stages.base import Stage
from poseda.stages.pipeline import AdaptTask

BLOCK = 4
"""Steps timed together: the discriminators learn on every second one."""


def main() -> None:
    """Print the table."""
    arguments = options(str(__doc__).split("\n")[0], batch=1024, repeats=7).parse_args()
    device = start(arguments)
    source, target = stand_in("h36m", device), stand_in("3dhp", device)
    print(f"SimpleBaseline {arguments.hidden}, batch {arguments.batch}, median of {arguments.repeats} x {BLOCK} steps")
    print(f"{'stages':10}{'ms/step':>9}{'+-':>7}{'lifter':>9}{'generator':>11}{'discrim.':>10}{'rest':>7}")
    for stages in ([poseda.GPA()], [poseda.GPA(), poseda.LPA()]):
        task = adaptation(source, target, stages, arguments.batch, arguments.hidden)
        step = partial(steps_of, task, itertools.count())
        median, spread = median_seconds(step, device, arguments.repeats)
        label = "+".join(stage.label for stage in reversed(stages))
        print(f"{label:10}{1e3 * median / BLOCK:9.1f}{1e3 * spread / BLOCK:7.1f}", end="")
        parts = shares(task, stages[-1], step, device, arguments.repeats)
        print("".join(f"{100 * part:{width}.0f} %" for part, width in zip(parts, (7, 9, 8, 5), strict=True)))


def adaptation(
    source: LabelledClips, target: LabelledClips, stages: Sequence[Stage], batch: int, hidden: int
) -> AdaptTask:
    """An adaptation that is ready for its first step; its schedule is longer than any benchmark."""
    lifter = poseda.create_lifter("simplebaseline", seed=0, hidden=hidden).to(source.poses.device)
    config = poseda.AdaptConfig(steps=100_000, batch_size=batch)
    return AdaptTask(lifter.train(), source, target.unlabelled(), stages, config, seed=0)


def steps_of(task: AdaptTask, numbers: Iterator[int]) -> None:
    """A block of steps."""
    for _ in range(BLOCK):
        task.step(next(numbers))


def shares(
    task: AdaptTask, stage: Stage, step: Callable[[], object], device: torch.device, repeats: int
) -> tuple[float, float, float, float]:
    """Shares of lifter, generator (with its loss), discriminators and the rest, from steps that wait at each part."""
    spent: dict[str, float] = {}

    def watch(owner: Any, method: str, name: str) -> None:
        original = getattr(owner, method)

        def timed(*given: Any, **named: Any) -> Any:
            kept: list[Any] = []
            spent[name] = spent.get(name, 0.0) + seconds(lambda: kept.append(original(*given, **named)), device)
            return kept[0]

        setattr(owner, method, timed)

    watch(task.fitting, "fit", "lifter")
    if isinstance(stage, poseda.LPA):
        watch(stage, "augment", "generator")
        watch(stage, "update", "update")
        watch(stage.adversaries.of_3d, "learn", "discriminators")
        watch(stage.adversaries.of_2d, "learn", "discriminators")
    total = sum(seconds(step, device) for _ in range(repeats))
    judges = spent.get("discriminators", 0.0)
    made = spent.get("generator", 0.0) + spent.get("update", 0.0) - judges
    rest = total - spent["lifter"] - judges - made
    return spent["lifter"] / total, made / total, judges / total, rest / total


if __name__ == "__main__":
    main()
