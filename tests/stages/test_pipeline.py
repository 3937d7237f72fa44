"""Adaptation as a whole: any order of stages, resume to the bit, refusals, a gap that alignment closes."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from poseda.data.clips import LabelledClips
from poseda.engine.checkpoint import load_state
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.loop import LoopConfig
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError, DataError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.skeleton import get_skeleton
from poseda.stages import create_stage, list_stages, pipeline
from poseda.stages.base import Stage
from poseda.stages.pipeline import (
    AdaptConfig,
    AdaptTask,
    adapt_lifter,
    aligned_sample,
    join_batches,
    lift_with_stages,
    split_batch,
)

CONFIG = AdaptConfig(steps=6, batch_size=16, log_every=2)


def adapt(clips, lifter, names, *, seed=0, config=CONFIG, extra=(), **options):
    source, target = clips
    stages = [create_stage(name) for name in names]
    return adapt_lifter(lifter, source, target.unlabelled(), [*stages, *extra], config, seed=seed, **options), stages


def weights(lifter):
    return [value.clone() for value in lifter.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_folder_with_another_adaptation_is_not_taken_for_this_one(tiny_clips, small_lifter, tmp_path):
    adapt(tiny_clips, small_lifter(), ["gpa", "lpa"], folder=tmp_path)
    adapt(tiny_clips, small_lifter(), ["gpa", "lpa"], folder=tmp_path)
    for names, config, match in (
        (["gpa"], CONFIG, "not stages="),
        (["gpa", "lpa"], replace(CONFIG, lr=1e-5), "adapt.lr=0.001, not adapt.lr=1e-05"),
    ):
        with pytest.raises(ConfigError, match=match):
            adapt(tiny_clips, small_lifter(), names, config=config, folder=tmp_path)


class Learner(Stage):
    """Learns, but from what nobody augments."""

    name = "learner"

    def update(self, step):
        return {"loss": torch.zeros(())}


def test_a_stage_that_learns_from_what_nobody_augments_is_refused(tiny_clips, small_lifter):
    with pytest.raises(ConfigError, match="learner learns from augmented windows, and no stage"):
        adapt(tiny_clips, small_lifter(), ["gpa"], extra=[Learner()])


@pytest.mark.parametrize("names", [["gpa"], ["gpa", "lpa"], ["lpa", "gpa", "ema", "tto"], ["ema", "lpa"]])
def test_stages_compose_in_any_order_and_numbers_stay_finite(tiny_clips, small_lifter, names):
    lifter = small_lifter()
    before = weights(lifter)
    adapted, stages = adapt(tiny_clips, lifter, names)
    assert not same(before, weights(adapted))
    assert all(bool(value.isfinite().all()) for value in weights(adapted))
    assert not adapted.training
    assert (adapted is lifter) == ("ema" not in names)
    target = tiny_clips[1].unlabelled()
    lifted = lift_with_stages(adapted, target, stages)
    assert lifted.poses.shape == (target.num_frames, 17, 3)
    assert bool(lifted.poses.isfinite().all())
    plain = lift_clips(adapted, target).poses
    assert "tto" in names or torch.equal(lifted.poses, plain)


def test_temporal_lifters_are_adapted_on_whole_windows(tiny_clips):
    lifter = create_lifter("videopose3d", seed=0, frames=9, channels=8)
    before = weights(lifter)
    adapted, _ = adapt(tiny_clips, lifter, ["lpa", "gpa"])
    assert not same(before, weights(adapted))
    assert all(bool(value.isfinite().all()) for value in weights(adapted))


def test_test_time_stages_refine_what_was_lifted_in_their_order(tiny_clips, small_lifter):
    class Add(Stage):
        label = "add"

        def __init__(self, factor, term):
            self.factor, self.term = factor, term

        def refine(self, lifter, clips, lifted):
            return LiftedClips(self.factor * lifted.poses + self.term, lifted.sigma)

    lifter, clips = small_lifter(), tiny_clips[1].unlabelled()
    for flip in (False, True):
        lifted = lift_with_stages(lifter, clips, [Add(2.0, 0.0), Add(1.0, 5.0)], flip=flip)
        torch.testing.assert_close(lifted.poses, 2 * lift_clips(lifter, clips, flip=flip).poses + 5)


def test_the_lifter_stays_as_it_is_without_a_stage_that_shapes_training(tiny_clips, small_lifter):
    lifter = small_lifter()
    before = weights(lifter)
    adapted, _ = adapt(tiny_clips, lifter, ["ema", "tto"])
    assert adapted is lifter
    assert same(before, weights(adapted))
    assert not adapted.training


@pytest.mark.parametrize(
    ("with_source", "stage", "norms", "stay"),
    [
        (True, "gpa", "auto", False),
        (True, "gpa", "source", True),
        (True, "mean_teacher", "auto", True),
        (True, "mean_teacher", "batch", False),
        (False, "mean_teacher", "auto", True),
        (False, "mean_teacher", "batch", False),
    ],
)
def test_batch_norms_keep_the_source_models_statistics_where_asked(
    tiny_clips, small_lifter, with_source, stage, norms, stay
):
    source, target = tiny_clips
    lifter = small_lifter()
    norm = lifter.batch_norm1
    for statistics in (norm.running_mean, norm.running_var):
        statistics.add_(torch.rand(statistics.shape, generator=torch.Generator().manual_seed(3)))
    before = [norm.running_mean.clone(), norm.running_var.clone(), norm.weight.detach().clone()]
    stages = [create_stage(stage, **({"keep": "student"} if stage == "mean_teacher" else {}))]
    config = replace(CONFIG, norms=norms)
    adapt_lifter(lifter, source if with_source else None, target.unlabelled(), stages, config)
    assert torch.equal(norm.running_mean, before[0]) is stay and torch.equal(norm.running_var, before[1]) is stay
    assert not torch.equal(norm.weight, before[2]), "it learns all the same"
    assert not any(module.training for module in lifter.modules())


def test_a_lifter_without_batch_norms_has_none_to_keep_and_says_so(tiny_clips):
    lifter = create_lifter("poseformer", seed=0, frames=3, dim=8, depth=1, heads=2)
    remarks = []
    adapt(tiny_clips, lifter, ["gpa"], config=replace(CONFIG, steps=1, norms="source"), report=remarks.append)
    assert "adapt.norms=source: poseformer has no BatchNorm" in remarks


def test_one_seed_gives_one_result_and_another_seed_another(tiny_clips, small_lifter):
    names = ["lpa", "gpa", "ema"]
    torch.manual_seed(1)
    first, _ = adapt(tiny_clips, small_lifter(), names, seed=3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, _ = adapt(tiny_clips, small_lifter(), names, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    other, _ = adapt(tiny_clips, small_lifter(), names, seed=4)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


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


@pytest.mark.parametrize(
    ("names", "after"),
    [
        (["gpa"], 5),
        (["lpa", "gpa", "ema"], 1),
        (["lpa", "gpa", "ema"], 6),
        (["lpa", "gpa", "ema"], 7),
        (["gpa", "mean_teacher", "adabn"], 5),
        (["gpa", "coral", "mmd", "dann", "lpa"], 6),
    ],
)
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    tiny_clips, small_lifter, tmp_path, monkeypatch, names, after
):
    monkeypatch.setattr(pipeline, "LoopConfig", partial(LoopConfig, checkpoint_seconds=0.0))
    config = AdaptConfig(steps=8, batch_size=16, log_every=2)
    whole, _ = adapt(tiny_clips, small_lifter(), names, config=config, extra=[KilledAt(0)], folder=tmp_path / "a")
    with pytest.raises(Killed):
        adapt(tiny_clips, small_lifter(), names, config=config, extra=[KilledAt(after)], folder=tmp_path / "b")
    if after > 2:
        assert load_state(tmp_path / "b" / "state.pt")["step"] == (after - 1) // 2 * 2
    resumed, _ = adapt(tiny_clips, small_lifter(), names, config=config, extra=[KilledAt(0)], folder=tmp_path / "b")
    assert same(weights(whole), weights(resumed))
    lines = [(tmp_path / run / "metrics.jsonl").read_text() for run in "ab"]
    assert lines[0] == lines[1]


def test_a_finished_run_is_read_and_not_repeated(tiny_clips, small_lifter, tmp_path):
    names = ["lpa", "gpa", "ema"]
    first, _ = adapt(tiny_clips, small_lifter(), names, folder=tmp_path)
    state = tmp_path / "state.pt"
    before = state.read_bytes()
    again, _ = adapt(tiny_clips, small_lifter(), names, folder=tmp_path)
    assert same(weights(first), weights(again))
    assert state.read_bytes() == before


# --- refusals ---


def test_a_labelled_target_is_refused(tiny_clips, small_lifter):
    source, target = tiny_clips
    with pytest.raises(ConfigError, match=r"target\.unlabelled\(\)"):
        adapt_lifter(small_lifter(), source, target, [create_stage("gpa")], CONFIG)


def test_an_unlabelled_target_has_no_poses_to_look_at(tiny_clips):
    target = tiny_clips[1].unlabelled()
    assert not hasattr(target, "poses")
    assert not isinstance(target, LabelledClips)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"stages": ["gpa"]}, "stages= holds the text 'gpa': it takes stages, such as poseda.GPA()"),
        ({"stages": "gpa"}, "stages= is the text 'gpa': give a list"),
        ({"stages": [type(create_stage("gpa"))]}, "stages= holds the class GPA"),
        ({"stages": create_stage("gpa")}, "stages= is of type GPA: give a list"),
        ({"source": np.zeros((5, 17, 3))}, "source is of type ndarray: give LabelledClips, or None, .*docs/archive.md"),
        ({"target": np.zeros((5, 17, 2))}, "target is of type ndarray: give UnlabelledClips .*docs/archive.md"),
        ({"lifter": torch.nn.Linear(1, 1)}, r"The lifter is of type Linear: give poseda.wrap\(module\)"),
    ],
)
def test_arguments_of_another_kind_are_told_in_a_line(tiny_clips, small_lifter, changes, match):
    source, target = tiny_clips
    given = {"lifter": small_lifter(), "source": source, "target": target.unlabelled(), "stages": [], **changes}
    with pytest.raises(ConfigError, match=match):
        adapt_lifter(**given)


def test_a_stage_given_twice_is_refused(tiny_clips, small_lifter):
    with pytest.raises(ConfigError, match="gpa is given twice"):
        adapt(tiny_clips, small_lifter(), ["gpa", "ema", "gpa"])


def test_other_joints_than_the_lifters_are_refused_on_either_side(tiny_clips, small_lifter):
    source, target = tiny_clips
    fewer = get_skeleton("h36m16")
    with pytest.raises(ConfigError, match="h36m16") as caught:
        adapt((source.convert(fewer), target), small_lifter(), ["gpa"])
    with pytest.raises(ConfigError, match="h36m16"):
        adapt((source, target.convert(fewer)), small_lifter(), ["gpa"])
    assert "\n" not in str(caught.value)


def test_a_target_of_degenerate_frames_only_is_refused(tiny_clips, small_lifter):
    source, target = tiny_clips
    points = target.with_keypoints(torch.full_like(target.keypoints, 300.0), target.confidence, "made")
    with pytest.raises(DataError, match="no frame can be adapted to"):
        adapt((source, points), small_lifter(), ["gpa"])


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"batch_size": 1},
        {"lr": 0.0},
        {"augmented_share": 0.0},
        {"augmented_share": 1.5},
        {"norms": "target"},
    ],
)
def test_a_schedule_that_cannot_be_run_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        AdaptConfig(**options)


@pytest.fixture(scope="module")
def sighted(tiny_clips):
    """A lifter whose input has four numbers a joint, and whose poses come in the axes of a turned camera."""
    lifter = create_lifter("simplebaseline", seed=0, hidden=32, blocks=1, view="perspective", confidence=True)
    return train_lifter(lifter, tiny_clips[0], TrainConfig(steps=100, batch_size=32, lr=3e-3), seed=0)


@pytest.mark.parametrize("name", list_stages())
def test_every_stage_takes_a_lifter_with_a_view_and_confidence_or_says_why_not(tiny_clips, sighted, name):
    stage = create_stage(name, **({"draws": 2} if name == "hypotheses" else {}))
    try:
        adapted, _ = adapt(tiny_clips, copy.deepcopy(sighted), [], extra=[stage])
        lifted = lift_with_stages(adapted, tiny_clips[1].unlabelled().limit(24), [stage])
    except ConfigError as error:
        assert name == "iso" and "view=screen" in str(error)
    else:
        assert bool(lifted.poses.isfinite().all())


# --- how a step is made ---


def test_remarks_of_the_stages_are_reported(tiny_clips, small_lifter):
    remarks = []
    source, target = tiny_clips
    adapt((source, target), small_lifter(), ["gpa"], report=remarks.append)
    assert remarks == [], "where all frames can be used there is nothing to say"
    confidence = target.confidence.clone()
    confidence[:5] = 0
    target = target.with_keypoints(target.keypoints, confidence, "gt")
    adapt((source, target), small_lifter(), ["gpa"], report=remarks.append)
    assert remarks == ["5 of 72 target frames are degenerate and are not used"]


def test_degenerate_target_frames_are_never_drawn(tiny_clips, small_lifter):
    source, target = tiny_clips
    keypoints = target.keypoints.clone()
    keypoints[::2] = 300.0
    seen = []

    class Watch(Stage):
        name, label = "watch", "watch"

        def align(self, source, target, generator):
            seen.append(target.keypoints.flatten(2).std(-1).min())
            return source

    broken = target.with_keypoints(keypoints, target.confidence, "made")
    adapt((source, broken), small_lifter(), ["gpa"], extra=[Watch()])
    assert len(seen) == CONFIG.steps
    assert float(min(seen)) > 1.0


def test_only_the_wanted_share_of_a_step_is_augmented(tiny_clips, small_lifter):
    source, target = tiny_clips

    class Grow(Stage):
        name, label = "grow", "grow"

        def augment(self, source, generator):
            first, second = split_batch(source, len(source.weight))
            assert len(first.weight) == 0
            return type(second)(second.poses + 1000.0, second.cameras, second.weight)

    config = AdaptConfig(steps=1, batch_size=16, augmented_share=0.25)
    task = AdaptTask(small_lifter(), source, target.unlabelled(), [Grow()], config, seed=0)
    batch = task.sources.draw(16, torch.Generator().manual_seed(0))
    shift = (task._augment(batch).poses - batch.poses).flatten(1).mean(1)
    torch.testing.assert_close(shift, torch.tensor([0.0] * 12 + [1000.0] * 4))


def test_a_batch_that_was_split_and_joined_is_the_same(tiny_clips, small_lifter):
    source, target = tiny_clips
    task = AdaptTask(small_lifter(), source, target.unlabelled(), [create_stage("gpa")], CONFIG, seed=0)
    batch = task.sources.draw(9, torch.Generator().manual_seed(0))
    joined = join_batches(*split_batch(batch, 4))
    assert torch.equal(joined.poses, batch.poses)
    assert torch.equal(joined.cameras.fx, batch.cameras.fx)
    assert torch.equal(joined.weight, batch.weight)


def test_no_gradient_of_the_lifter_reaches_the_stages_and_none_of_theirs_the_lifter(tiny_clips, small_lifter):
    source, target = tiny_clips
    stages = [create_stage("lpa"), create_stage("gpa")]
    task = AdaptTask(small_lifter().train(), source, target.unlabelled(), stages, CONFIG, seed=0)
    fit, seen = task.fitting.fit, []

    def watch(index, keypoints, poses, weight, generator):
        seen.append(keypoints.requires_grad or poses.requires_grad)
        seen.append(any(p.grad is not None for p in task.lifter.parameters()))
        return fit(index, keypoints, poses, weight, generator)

    task.fitting.fit = watch
    task.step(0)
    assert seen == [False, False]


def test_an_aligned_sample_stands_where_the_targets_stand(tiny_clips):
    source, target = tiny_clips
    draws = torch.Generator().manual_seed(0)
    poses, keypoints = aligned_sample(source, target.unlabelled(), [create_stage("gpa")], 400, draws)
    assert len(poses) == len(keypoints) > 350
    cameras = target.cameras_at(torch.arange(target.num_frames))
    roots = target.keypoints[:, 0] / cameras.width[:, None] * 2
    roots = roots - torch.stack([torch.ones_like(cameras.width), cameras.height / cameras.width], -1)
    distance = (keypoints[:, None, 0] - roots).norm(dim=-1).min(1).values
    assert float(distance.max()) < 2e-5


# --- what it is for ---


@pytest.fixture(scope="module")
def gap(make_clips):
    """One population before two cameras: the source in the middle and far, the target aside and near."""
    near = Camera.create(fx=1500.0, fy=1500.0, cx=1024.0, cy=1024.0, width=2048.0, height=2048.0)
    aside = {"place": (700.0, 250.0, 3200.0), "cameras": near, "bend": 0.25}
    source = make_clips(sequences=150, frames=10, seed=15, place=(0.0, 0.0, 5500.0), bend=0.25)
    target, test = (make_clips(sequences=100, frames=10, seed=seed, **aside) for seed in (16, 17))
    return source, target, test


def test_alignment_closes_a_gap_of_place_and_scale(gap, small_lifter):
    source, target, test = gap
    lifter = train_lifter(small_lifter(hidden=128), source, TrainConfig(steps=400, batch_size=256, lr=3e-3), seed=0)
    before = evaluate_lifter(lifter, test).values["mpjpe"]
    config = AdaptConfig(steps=250, batch_size=128, lr=3e-3)
    adapted, _ = adapt((source, target), lifter, ["gpa"], config=config)
    after = evaluate_lifter(adapted, test).values["mpjpe"]
    assert after < 0.7 * before, f"{before:.1f} mm before, {after:.1f} mm after"


def gradient_nodes(value):
    """Names of all nodes of the autograd graph behind a tensor."""
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}


def test_no_gradient_is_summed_by_threads_in_random_order(tiny_clips, small_lifter, monkeypatch):
    # x[:, indices] adds its gradients atomically on several CPU threads: runs of one seed then differ in the last bits
    nodes, backward = set(), torch.Tensor.backward

    def noted(loss, *arguments, **options):
        nodes.update(gradient_nodes(loss))
        backward(loss, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", noted)
    adapt(tiny_clips, small_lifter(), ["gpa", "lpa"])
    assert "IndexSelectBackward0" in nodes and "IndexBackward0" not in nodes
