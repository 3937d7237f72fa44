"""Adaptation as a whole: any order of stages, norms, resume to the bit, a gap that alignment closes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from poseda.engine.checkpoint import load_state
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.loop import LoopConfig
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.stages import create_stage, pipeline
from poseda.stages.base import Stage
from poseda.stages.pipeline import (
    AdaptConfig,
    adapt_lifter,
    lift_with_stages,
)
from tests.stages.adapting import CONFIG, adapt, same, weights
from tests.stages.killing import Killed, KilledAt


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
