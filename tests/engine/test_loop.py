"""A run that was killed at any moment and resumed cannot be told from one that was not."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from poseda.engine import loop
from poseda.engine.loop import LoopConfig, run_loop
from poseda.engine.records import read_jsonl
from poseda.errors import CheckpointError, ConfigError, PosedaError
from poseda.lifters import create_lifter

CONFIG = LoopConfig(steps=20, log_every=3, checkpoint_seconds=0.0)


class Fit:
    """A lifter with dropout, Adam and a generator of its own; `at` runs something before a step."""

    def __init__(self, at=None, poison=None):
        self.lifter = create_lifter("simplebaseline", seed=0, hidden=8).train()
        self.optimizer = torch.optim.Adam(self.lifter.parameters(), lr=1e-2)
        self.generator = torch.Generator().manual_seed(1)
        self.at, self.poison, self.seen = at or {}, poison, []

    def step(self, index):
        if index in self.at:
            self.at[index]()
        self.seen.append(index)
        keypoints = torch.rand(16, 1, 17, 2, generator=self.generator)
        loss = (self.lifter(keypoints).pose / 1000 - keypoints[..., :1]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        values = {"loss": loss.detach() * (math.nan if index == self.poison else 1.0)}
        return {**values, "even": values["loss"]} if index % 2 == 0 else values

    def state_dict(self):
        return {
            "lifter": self.lifter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state):
        self.lifter.load_state_dict(state["lifter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


class Killed(Exception):
    pass


def kill():
    raise Killed


def train(folder, config=CONFIG, task=None, **options):
    task = task or Fit()
    run_loop(task, config, seed=5, folder=Path(folder), **options)
    return task


def die_in_step(folder):
    train(folder, task=Fit(at={13: lambda: os.kill(os.getpid(), signal.SIGKILL)}))


def die_while_writing_a_checkpoint(folder):
    from poseda.files import atomic

    replace = os.replace

    def replace_twice(part, path):
        if len(read_jsonl(Path(folder) / "metrics.jsonl")) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(part, path)

    atomic.os.replace = replace_twice
    train(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return train(folder), (folder / "metrics.jsonl").read_bytes()


def same(task, folder, unbroken):
    expected, metrics = unbroken
    assert (folder / "metrics.jsonl").read_bytes() == metrics
    ours, theirs = task.lifter.state_dict(), expected.lifter.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("step", [0, 1, 3, 8, 9, 10, 19])
def test_run_interrupted_in_any_step_resumes_to_the_bit(tmp_path, unbroken, step):
    with pytest.raises(Killed):
        train(tmp_path, task=Fit(at={step: kill}))
    torch.rand(3)  # whatever happened to the global generator since
    task = train(tmp_path)
    assert task.seen == list(range(step // 3 * 3, 20))
    same(task, tmp_path, unbroken)


def test_run_interrupted_twice_resumes_to_the_bit(tmp_path, unbroken):
    for step in (7, 14):
        with pytest.raises(Killed):
            train(tmp_path, task=Fit(at={step: kill}))
    same(train(tmp_path), tmp_path, unbroken)


@pytest.mark.parametrize("death", ["die_in_step", "die_while_writing_a_checkpoint"])
def test_process_killed_with_signal_9_resumes_to_the_bit(tmp_path, unbroken, death):
    code = f"import runpy; runpy.run_path({__file__!r})[{death!r}]({str(tmp_path)!r})"
    root = str(Path(__file__).resolve().parents[2])
    threads = str(torch.get_num_threads())  # sums are rounded in another order with another number of threads
    env = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    task = train(tmp_path)
    assert 0 < task.seen[0] < 14
    same(task, tmp_path, unbroken)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "state.pt"]


def test_metrics_after_the_checkpoint_are_cut_off_on_resume(tmp_path, unbroken):
    with pytest.raises(Killed):
        train(tmp_path, task=Fit(at={10: kill}))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 12, "loss": 1.0}\n{"step": 1')
    same(train(tmp_path), tmp_path, unbroken)


def test_time_between_checkpoints_is_kept(tmp_path, unbroken):
    slow = LoopConfig(steps=20, log_every=3, checkpoint_seconds=3600.0)
    with pytest.raises(Killed):
        train(tmp_path, slow, task=Fit(at={10: kill}))
    assert not (tmp_path / "state.pt").exists()
    task = train(tmp_path, slow)
    assert task.seen[0] == 0
    same(task, tmp_path, unbroken)


def test_metrics_are_means_since_the_last_line(tmp_path, unbroken):
    every = LoopConfig(steps=20, log_every=1)
    train(tmp_path, every)
    single = [record["loss"] for record in read_jsonl(tmp_path / "metrics.jsonl")]
    (tmp_path / "other").write_bytes(unbroken[1])
    lines = read_jsonl(tmp_path / "other")
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 20]
    groups = [range(i, min(i + 3, 20)) for i in range(0, 20, 3)]
    for line, group in zip(lines, groups, strict=True):
        assert line["loss"] == pytest.approx(sum(single[i] for i in group) / len(group), rel=1e-5)
        even = [single[i] for i in group if i % 2 == 0]
        assert line["even"] == pytest.approx(sum(even) / len(even), rel=1e-5)


def test_finished_run_is_restored_without_a_step(tmp_path, unbroken):
    train(tmp_path)
    task = train(tmp_path)
    assert task.seen == []
    same(task, tmp_path, unbroken)


def test_resume_false_starts_anew(tmp_path, unbroken):
    train(tmp_path)
    task = train(tmp_path, resume=False)
    assert task.seen[0] == 0
    same(task, tmp_path, unbroken)


def test_without_a_folder_the_weights_are_the_same(unbroken):
    task = Fit()
    run_loop(task, CONFIG, seed=5)
    assert torch.equal(task.lifter.w1.weight, unbroken[0].lifter.w1.weight)


def test_global_generator_is_as_before():
    before = torch.get_rng_state()
    run_loop(Fit(), CONFIG, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_stops_the_run_with_a_sentence_and_keeps_the_last_finite_state(tmp_path):
    with pytest.raises(PosedaError, match=r"stopped at step 12: 'loss' is nan") as caught:
        train(tmp_path, task=Fit(poison=10))
    assert "\n" not in str(caught.value) and "the last checkpoint is from before it" in str(caught.value)
    assert loop.load_state(tmp_path / "state.pt")["step"] == 9
    assert read_jsonl(tmp_path / "metrics.jsonl")[-1]["step"] == 9


def test_nan_at_the_first_look_speaks_of_no_checkpoint(tmp_path):
    with pytest.raises(PosedaError, match=r"A smaller learning rate usually helps\.$"):
        train(tmp_path, task=Fit(poison=1))


@pytest.mark.parametrize(
    ("config", "seed", "match"),
    [
        (LoopConfig(steps=30, log_every=3), 5, "steps=20, not steps=30"),
        (LoopConfig(steps=20, log_every=4), 5, "log_every=3, not log_every=4"),
        (CONFIG, 6, "seed=5, not seed=6"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, config, seed, match):
    train(tmp_path)
    with pytest.raises(ConfigError, match=match):
        run_loop(Fit(), config, seed=seed, folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"adapt": {"lr": 1e-3}}, "adapt.lr=0.01, not adapt.lr=0.001"),
        ({}, "adapt.lr=0.01, not no adapt.lr"),
        ({"adapt": {"lr": 1e-2}, "gpa": {"pool": "own"}}, "no gpa.pool, not gpa.pool=own"),
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path, settings, match):
    train(tmp_path, settings={"adapt": {"lr": 1e-2}})
    train(tmp_path, settings={"adapt": {"lr": 1e-2}})
    with pytest.raises(ConfigError, match=match):
        train(tmp_path, settings=settings)


def test_lost_metrics_are_refused(tmp_path):
    train(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(CheckpointError, match="lacks lines"):
        train(tmp_path)


def test_state_of_another_task_is_refused_in_one_line(tmp_path):
    train(tmp_path)
    task = Fit()
    task.lifter = create_lifter("simplebaseline", hidden=9)
    with pytest.raises(CheckpointError, match="is of another task") as caught:
        train(tmp_path, task=task)
    assert "\n" not in str(caught.value)


def test_damaged_state_is_refused(tmp_path):
    train(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"PK damaged")
    with pytest.raises(CheckpointError, match="not a whole training state"):
        train(tmp_path)


def test_progress_is_told_at_log_lines():
    told = []

    class Listener:
        def update(self, step, values):
            told.append((step, set(values)))

    run_loop(Fit(), CONFIG, seed=5, progress=Listener())
    assert told == [(step, {"loss", "even"}) for step in (3, 6, 9, 12, 15, 18, 20)]


@pytest.mark.parametrize("fields", [{"steps": 0}, {"steps": 5, "log_every": 0}])
def test_loop_without_steps_is_refused(fields):
    with pytest.raises(ConfigError, match="at least 1"):
        LoopConfig(**fields)
