"""Progress is a live line on a terminal and few plain lines elsewhere."""

import io

from poseda.engine.progress import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, seconds_per_step, steps, **options):
    clock = Clock()
    progress = Progress("train", steps, stream=stream, clock=clock, **options)
    for step in range(1, steps + 1):
        clock.now += seconds_per_step
        progress.update(step, {"loss": 1.0 / step})
    return stream.getvalue()


def test_plain_lines_are_at_least_the_given_seconds_apart_and_the_last_step_is_shown():
    lines = run(io.StringIO(), 1.0, 25, seconds=10.0).splitlines()
    assert [line.split()[1] for line in lines] == ["10/25", "20/25", "25/25"]


def test_rate_and_time_left():
    lines = run(io.StringIO(), 60.0, 100, seconds=60.0).splitlines()
    assert lines[0] == "train 1/100 1%  loss 1"
    assert lines[10] == "train 11/100 11% 0.0 step/s, 1:29:00 left  loss 0.09091"
    assert lines[-1] == "train 100/100 100% 0.0 step/s, 0:00 left  loss 0.01"


def test_rate_of_a_resumed_run_counts_only_its_own_steps():
    clock, stream = Clock(), io.StringIO()
    progress = Progress("train", 1000, stream=stream, clock=clock, seconds=0.0)
    for step in (900, 910):
        clock.now += 5.0
        progress.update(step)
    assert stream.getvalue().splitlines()[-1] == "train 910/1000 91% 2.0 step/s, 0:45 left"


def test_live_line_is_rewritten_and_ends_with_a_newline():
    text = run(Terminal(), 0.1, 10)
    assert text.count("\n") == 1 and text.endswith("\n")
    assert 3 < text.count("\r") < 8
    widths = [len(part) for part in text.split("\r")[1:-1]]
    assert widths == sorted(widths)  # a shorter text covers what the longer one left
