"""Progress of a loop: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO


class Progress:
    """Writes step, rate, time left and the first few values of a loop of `total` steps.

    On a terminal the line is rewritten at most five times a second; otherwise (a log file, CI) a new line is
    written at most every `seconds`. The last step is always shown. `clock` is for tests.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        stream: TextIO | None = None,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total = label, total
        self.stream = stream if stream is not None else sys.stderr
        self.live = self.stream.isatty()
        self.pause = 0.2 if self.live else seconds
        self.clock = clock
        self.first: tuple[int, float] | None = None
        self.shown_at = clock()
        self.width = 0

    def update(self, step: int, values: Mapping[str, float] | None = None) -> None:
        """Show that `step` steps are done, unless the last line is too recent."""
        now = self.clock()
        if self.first is None:
            self.first = (step, now)
        if step < self.total and now - self.shown_at < self.pause:
            return
        self.shown_at = now
        self._write(self.line(step, now, values or {}), last=step >= self.total)

    def line(self, step: int, now: float, values: Mapping[str, float]) -> str:
        """The text for `step`; the rate counts from the first update, so that a resumed run shows its own."""
        text = f"{self.label} {step}/{self.total} {100 * step / self.total:.0f}%"
        first, since = self.first or (step, now)
        if step > first and now > since:
            rate = (step - first) / (now - since)
            text += f" {rate:.1f} step/s, {_duration((self.total - step) / rate)} left"
        return text + "".join(f"  {key} {value:.4g}" for key, value in list(values.items())[:4])

    def _write(self, text: str, last: bool) -> None:
        if self.live:
            self.stream.write("\r" + text.ljust(self.width) + ("\n" if last else ""))
            self.width = 0 if last else len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
