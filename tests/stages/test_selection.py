"""Model selection without target labels: its criterion by hand, what it keeps, what it may not see, resume."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch

from poseda.data.batches import SourceBatch
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.loop import LoopConfig
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError
from poseda.lifters.base import evaluation_mode
from poseda.lifters.inference import lift_clips
from poseda.metrics.label_free import reprojection_error
from poseda.stages import create_stage, pipeline
from poseda.stages.pipeline import AdaptConfig, AdaptTask, adapt_and_select, adapt_lifter, finish_selected
from poseda.stages.selection import Selector, criterion

CONFIG = AdaptConfig(steps=8, batch_size=16, log_every=2, select_every=2)


def weights(lifter):
    return [value.clone() for value in lifter.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def select(clips, lifter, names, config=CONFIG, **options):
    source, target = clips
    stages = [create_stage(name) for name in names]
    return adapt_and_select(lifter, source, target.unlabelled(), stages, config, seed=0, **options)


@pytest.fixture
def selector(tiny_clips, small_lifter):
    source, target = tiny_clips
    task = AdaptTask(small_lifter(), source, target.unlabelled(), [create_stage("gpa")], CONFIG, seed=0)
    return task.selector


# --- the criterion ---


def test_the_criterion_is_the_mean_of_ratios_to_the_first_look():
    first = {"reprojection": 10.0, "symmetry": 4.0, "constancy": 2.0, "source": 80.0}
    assert criterion(first, first) == 1
    now = {"reprojection": 5.0, "symmetry": 4.0, "constancy": 3.0, "source": 40.0}
    assert criterion(now, first) == pytest.approx((0.5 + 1 + 1.5 + 0.5) / 4)


def test_a_number_that_was_never_defined_is_left_out_and_one_that_is_lost_excludes_the_step():
    assert criterion({"source": 40.0, "symmetry": 2.0}, {"source": 80.0, "symmetry": 0.0}) == 0.5
    assert criterion({"source": 40.0}, {"source": 80.0, "reprojection": 5.0}) == math.inf
    assert criterion({}, {}) == math.inf


def test_a_look_reports_the_numbers_of_the_lifter_as_it_is(tiny_clips, small_lifter):
    source, target = tiny_clips
    lifter = train_lifter(small_lifter(hidden=64), source, TrainConfig(steps=60, batch_size=64), seed=0)
    clips = target.unlabelled()
    selector = AdaptTask(lifter, source, clips, [create_stage("gpa")], CONFIG, seed=0).selector
    seen = selector.look(0)
    poses = lift_clips(lifter, clips).poses
    cameras = clips.cameras_at(torch.arange(clips.num_frames))
    expected = reprojection_error(poses, clips.keypoints, clips.confidence, cameras)
    assert float(seen["select_reprojection"]) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad(), evaluation_mode(lifter):
        error = (lifter(selector.keypoints).pose - selector.poses).norm(dim=-1).mean()
    assert float(seen["select_source"]) == pytest.approx(float(error), rel=1e-5)
    assert float(seen["select_criterion"]) == 1


def test_a_look_draws_no_random_number_and_leaves_the_mode_alone(selector):
    selector.lifter.train()
    before = torch.get_rng_state()
    selector.look(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in selector.lifter.modules())


def test_the_best_look_is_kept_and_ties_go_to_the_earlier(selector):
    criteria = iter([4.0, 2.0, 3.0, 2.0])
    selector._values = lambda: {"source": next(criteria)}
    kept = []
    for done in range(4):
        with torch.no_grad():
            selector.lifter.w1.bias.fill_(float(done))
        selector.look(done)
        kept.append(selector.selection.step)
    assert kept == [0, 1, 1, 1]
    assert float(selector.selection.weights["w1.bias"][0]) == 1
    assert [look["criterion"] for look in selector.selection.curve] == [1.0, 0.5, 0.75, 0.5]


def test_a_look_at_nothing_that_can_be_measured_is_never_chosen_and_never_logged_as_infinite(selector):
    values = iter([{"source": 4.0}, {}, {"source": 3.0}])
    selector._values = lambda: next(values)
    logged = [selector.look(done) for done in range(3)]
    assert logged[1] == {}
    assert selector.selection.step == 2
    assert selector.selection.curve[1]["criterion"] == math.inf


def test_frames_are_spread_and_windows_stay_whole(make_clips):
    clips = make_clips(sequences=8, frames=12)
    assert clips.spread(1000, 1).num_frames == 96
    thinned = clips.unlabelled().spread(30, 1)
    assert len(thinned.sequences) == 8 and thinned.num_frames == 24
    pieces = clips.spread(40, 9)
    assert [sequence.name for sequence in pieces.sequences] == ["clip0", "clip3", "clip6"]
    assert pieces.num_frames == 36
    assert pieces.fps == clips.fps


# --- in a run ---


def test_a_run_gives_last_and_selected(tiny_clips, small_lifter):
    lifter = small_lifter()
    start = weights(lifter)
    adapted = select(tiny_clips, lifter, ["gpa"])
    assert adapted.last is lifter
    assert [look["step"] for look in adapted.selection.curve] == [0, 2, 4, 6, 8]
    best = min(adapted.selection.curve, key=lambda look: look["criterion"])
    assert adapted.selection.step == best["step"]
    assert same(weights(adapted.selected), list(adapted.selection.weights.values()))
    assert not adapted.selected.training
    if adapted.selection.step == 0:
        assert same(weights(adapted.selected), start)


def test_the_last_step_is_looked_at_whatever_the_interval(tiny_clips, small_lifter):
    config = dataclasses.replace(CONFIG, steps=7, select_every=3)
    adapted = select(tiny_clips, small_lifter(), ["gpa"], config)
    assert [look["step"] for look in adapted.selection.curve] == [0, 3, 6, 7]


def test_looking_changes_no_bit_of_the_training(tiny_clips, small_lifter):
    source, target = tiny_clips
    names = ["gpa", "lpa", "ema"]
    plain = adapt_lifter(
        small_lifter(), source, target.unlabelled(), [create_stage(n) for n in names],
        dataclasses.replace(CONFIG, select_every=0), seed=0,
    )  # fmt: skip
    assert same(weights(plain), weights(select(tiny_clips, small_lifter(), names).last))


def test_a_selected_average_is_that_of_its_step(tiny_clips, small_lifter):
    """EMA's average at the chosen step is the one that a run ends with there; the last one is not touched by it."""
    source, target = tiny_clips
    target = target.unlabelled()
    stages = [create_stage("gpa"), create_stage("ema")]
    lifter = small_lifter()
    task = AdaptTask(lifter.train(), source, target, stages, CONFIG, seed=0)
    for index in range(4):
        task.step(index)
    average = {name: value.clone() for name, value in stages[1].average.items()}
    task.selector.best = {}
    task.selector._keep(4)
    selection = task.selector.selection
    for index in range(4, 8):
        task.step(index)
    last = {name: value.clone() for name, value in stages[1].average.items()}
    chosen = finish_selected(lifter, source, stages, selection)
    assert all(torch.equal(value, average[name]) for name, value in chosen.state_dict().items())
    assert all(torch.equal(value, last[name]) for name, value in stages[1].average.items())
    assert stages[1].steps == 8
    # the first stages alone, as a table's earlier row has them
    plain = finish_selected(lifter, source, stages[:1], selection)
    assert same(weights(plain), list(selection.weights.values()))


def test_temporal_lifters_are_looked_at_on_whole_windows(tiny_clips):
    from poseda.lifters import create_lifter

    adapted = select(tiny_clips, create_lifter("videopose3d", seed=0, frames=9, channels=8), ["gpa"])
    assert all(math.isfinite(look["criterion"]) for look in adapted.selection.curve)


def test_without_looks_there_is_nothing_to_select(tiny_clips, small_lifter):
    adapted = select(tiny_clips, small_lifter(), ["gpa"], dataclasses.replace(CONFIG, select_every=0))
    assert adapted.selected is None and adapted.selection is None


class Killed(Exception):
    """Stands for a process that ends."""


@pytest.mark.parametrize("after", [5, 8])
def test_a_resumed_selection_is_that_of_an_unbroken_run(tiny_clips, small_lifter, tmp_path, monkeypatch, after):
    monkeypatch.setattr(pipeline, "LoopConfig", partial(LoopConfig, checkpoint_seconds=0.0))
    names = ["gpa", "lpa", "ema"]
    whole = select(tiny_clips, small_lifter(), names, folder=tmp_path / "a")
    step = AdaptTask.step

    def killed(self, index):
        if index == after - 1:
            raise Killed
        return step(self, index)

    monkeypatch.setattr(AdaptTask, "step", killed)
    with pytest.raises(Killed):
        select(tiny_clips, small_lifter(), names, folder=tmp_path / "b")
    monkeypatch.setattr(AdaptTask, "step", step)
    resumed = select(tiny_clips, small_lifter(), names, folder=tmp_path / "b")
    assert resumed.selection.curve == whole.selection.curve
    assert resumed.selection.step == whole.selection.step
    assert same(weights(resumed.selected), weights(whole.selected))
    assert same(weights(resumed.last), weights(whole.last))
    lines = [(tmp_path / run / "metrics.jsonl").read_text() for run in "ab"]
    assert lines[0] == lines[1]
    assert "select_criterion" in lines[0]


# --- no labels ---


def test_labelled_target_clips_are_refused(tiny_clips, small_lifter):
    source, target = tiny_clips
    lifter = small_lifter()
    aligned = SourceBatch(source.poses[:4, None], source.cameras_at(torch.arange(4)), torch.ones(4))
    with pytest.raises(ConfigError, match=r"no labelled target: give target\.unlabelled\(\)"):
        Selector(lifter, aligned, target)
    with pytest.raises(ConfigError, match=r"target\.unlabelled\(\)"):
        adapt_and_select(lifter, source, target, [create_stage("gpa")], CONFIG)


def test_no_pose_of_the_target_can_reach_a_selection(tiny_clips, small_lifter):
    """What the selector holds of the target has no 3D, and the criterion is the same whatever the true poses are."""
    source, target = tiny_clips
    moved = dataclasses.replace(target, poses=target.poses + 500 * torch.randn_like(target.poses).abs())
    curves = []
    for clips in (target, moved):
        torch.manual_seed(0)  # of dropout
        task = AdaptTask(small_lifter().train(), source, clips.unlabelled(), [create_stage("gpa")], CONFIG, seed=0)
        assert isinstance(task.selector.target, UnlabelledClips)
        assert not isinstance(task.selector.target, LabelledClips)
        assert not any(hasattr(value, "poses") for value in vars(task.selector).values())
        for index in range(3):
            task.step(index)
        curves.append(task.selector.curve)
    assert curves[0] == curves[1]


def test_a_negative_interval_is_refused():
    with pytest.raises(ConfigError, match=r"adapt\.select_every=-1"):
        AdaptConfig(select_every=-1)
