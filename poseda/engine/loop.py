"""The training loop: steps, log lines, checkpoints, and a resume that cannot be told from an unbroken run."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from poseda.engine.checkpoint import load_state, save_state
from poseda.engine.progress import Progress
from poseda.engine.records import append_jsonl
from poseda.errors import CheckpointError, ConfigError, PosedaError
from poseda.lifters.base import one_line

STATE = "state.pt"
METRICS = "metrics.jsonl"
NOTHING = object()


class Task(Protocol):
    """What is trained; its state is all that the next step depends on: weights, optimisers, generators."""

    def step(self, index: int) -> Mapping[str, Tensor]:
        """Do one step; return detached scalars on the device (they are averaged between log lines)."""

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


@dataclass(frozen=True)
class LoopConfig:
    """How long, and how often to write."""

    steps: int
    """Number of steps."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    checkpoint_seconds: float = 20.0
    """Time between two checkpoints, written at the next log line: only a state seen to be finite is kept."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.log_every < 1:
            raise ConfigError(f"steps={self.steps} and log_every={self.log_every} must be at least 1.")


class Means:
    """Means of scalars since the last log line, summed on the device; only reading them synchronises."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars; a step may leave some out."""
        for key, value in values.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value.clone()
            self.counts[key] = self.counts.get(key, 0) + 1

    def take(self) -> dict[str, float]:
        """The means; starts anew."""
        sums = torch.stack([value.float() for value in self.sums.values()]).tolist() if self.sums else []
        means = {key: total / self.counts[key] for key, total in zip(self.sums, sums, strict=True)}
        self.sums, self.counts = {}, {}
        return means


def run_loop(
    task: Task,
    config: LoopConfig,
    *,
    seed: int,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Train `task`. With a `folder`, a killed run continues from its checkpoint there, to the bit on the CPU.

    `settings`, nested plain values, are what else makes the run what it is: one with others is not taken for it.

    The global generator (dropout) is seeded inside and given back as it was; other draws are the task's own.
    Raises PosedaError when a logged value is not finite: the last checkpoint is then the last finite state.
    """
    with _own_randomness(seed):
        asked = {"seed": seed, "steps": config.steps, "log_every": config.log_every} | flat(settings or {})
        start = _prepare(task, asked, folder, resume)
        means, saved_at = Means(), time.monotonic()
        for index in range(start, config.steps):
            means.add(task.step(index))
            done = index + 1
            if done % config.log_every and done != config.steps:
                continue
            values = _finite(means.take(), done, folder)
            if progress is not None:
                progress.update(done, values)
            if folder is None:
                continue
            append_jsonl(folder / METRICS, {"step": done, **values})
            if done == config.steps or time.monotonic() - saved_at >= config.checkpoint_seconds:
                _save(task, asked, folder, done)
                saved_at = time.monotonic()


def _gpu_in_use() -> bool:
    """Whether the process has touched a GPU; asking for a GPU's generator would start it for nothing."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators for the loop alone."""
    gpus = range(torch.cuda.device_count()) if _gpu_in_use() else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _prepare(task: Task, asked: Mapping[str, Any], folder: Path | None, resume: bool) -> int:
    """Index of the first step: restores the checkpoint, cutting the metrics back to it, or starts anew."""
    if folder is None:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f".{STATE}.*.tmp"):  # left by a kill in the middle of a write
        stale.unlink()
    if not (resume and (folder / STATE).is_file()):
        (folder / STATE).unlink(missing_ok=True)
        (folder / METRICS).write_bytes(b"")
        return 0
    state = load_state(folder / STATE)
    _check_same_run(folder, state.get("settings", {}), asked)
    try:
        task.load_state_dict(state["task"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / STATE} is of another task ({one_line(error)}); resume=False starts anew."
        ) from error
    _cut(folder / METRICS, state["metrics_bytes"])
    torch.set_rng_state(state["cpu_rng"])
    if state["cuda_rng"] and _gpu_in_use():
        torch.cuda.set_rng_state_all(state["cuda_rng"][: torch.cuda.device_count()])  # of a machine with more of them
    return int(state["step"])


def _check_same_run(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for field in {**asked, **stored}:
        if stored.get(field, NOTHING) != asked.get(field, NOTHING):
            before, now = (f"{field}={s[field]}" if field in s else f"no {field}" for s in (stored, asked))
            raise ConfigError(
                f"{folder} holds a run with {before}, not {now}: take another folder, or resume=False to start anew."
            )


def _save(task: Task, asked: Mapping[str, Any], folder: Path, step: int) -> None:
    """Write the state after `step` steps; the metrics so far are made durable first."""
    with (folder / METRICS).open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    save_state(
        folder / STATE,
        {
            "settings": dict(asked),
            "step": step,
            "metrics_bytes": size,
            "cpu_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if _gpu_in_use() else [],
            "task": task.state_dict(),
        },
    )


def _cut(path: Path, size: int) -> None:
    """Forget the metrics written after the checkpoint."""
    if not path.is_file() or path.stat().st_size < size:
        raise CheckpointError(f"{path} lacks lines that the checkpoint beside it knows of; resume=False starts anew.")
    with path.open("r+b") as file:
        file.truncate(size)


def _finite(values: dict[str, float], step: int, folder: Path | None) -> dict[str, float]:
    for key, value in values.items():
        if not math.isfinite(value):
            kept = folder is not None and (folder / STATE).is_file()
            before = "; the last checkpoint is from before it" if kept else ""
            raise PosedaError(
                f"Training stopped at step {step}: '{key}' is {value}. A smaller learning rate usually helps{before}."
            )
    return values
