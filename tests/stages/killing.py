"""Ends a run inside a step, as a kill does."""

from __future__ import annotations

from poseda.stages.base import Stage


class Killed(Exception):
    """Stands for a process that ends."""


class KilledAt(Stage):
    """Ends the run inside a step, once."""

    name, label = "killed", "killed"

    def __init__(self, after: int) -> None:
        self.after, self.steps = after, 0

    def after_step(self, lifter):
        self.steps += 1
        if self.steps == self.after:
            raise Killed
