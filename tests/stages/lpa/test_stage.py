"""LPA as a stage: what it learns, logs and keeps, and when it stops."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from poseda.engine.checkpoint import load_state, save_state
from poseda.errors import ConfigError, PosedaError
from poseda.stages.augmentation.discriminators import PartDiscriminator, PlainDiscriminator
from poseda.stages.base import Setting
from poseda.stages.gpa import GPA
from poseda.stages.lpa import LPA, LPAConfig
from poseda.stages.lpa.stage import band_penalty
from poseda.stages.pipeline import AdaptConfig, AdaptTask
from tests.stages.lpa.people import draws


def test_the_band_penalty_is_what_leaves_the_bands():
    angles = torch.zeros(3, 4, 3)
    angles[0, :, 1] = 1.0  # 1 - cos = 0.4597 for all bones: above the band
    angles[1, :2, 0] = 0.8  # mean 0.1516: inside
    lengths = torch.tensor([[0.05, -0.3], [0.0, 0.1], [0.25, 0.0]])
    change = SimpleNamespace(turns=1 - torch.cos(angles.norm(dim=-1)), lengths=lengths)
    turn = np.array([1 - np.cos(1.0), (1 - np.cos(0.8)) / 2, 0.0])
    outside = np.mean([(turn[0] - 0.37) ** 2, 0.0, (0.04 - turn[2]) ** 2])
    longer = (0.2**2 + 0.15**2) / 6
    assert float(band_penalty(change, (0.04, 0.37), 0.1)) == pytest.approx(outside + longer, rel=1e-5)


def prepared(clips, seed=0, **options):
    stage = LPA(LPAConfig(**options))
    source, target = clips
    stage.prepare(Setting(None, source, target.unlabelled(), 10, seed, draws(seed)))
    return stage


def weights(stage):
    networks = (stage.generator, stage.adversaries.of_3d.network, stage.adversaries.of_2d.network)
    return [p.detach().clone() for network in networks for p in network.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_first_weights_depend_on_the_seed_of_the_run_alone(tiny_clips):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(prepared(tiny_clips, seed=4))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, weights(prepared(tiny_clips, seed=4)))
    assert not same(first, weights(prepared(tiny_clips, seed=5)))


def make_task(clips, lifter, seed=0, **options):
    source, target = clips
    stages = [LPA(LPAConfig(**options)), GPA()]
    return AdaptTask(
        lifter.train(), source, target.unlabelled(), stages, AdaptConfig(steps=10, batch_size=16), seed=seed
    )


@pytest.mark.parametrize("gan", ["lsgan", "wgan_gp"])
@pytest.mark.parametrize("discriminator", ["anchor_sets", "conditional_pair"])
def test_both_discriminators_learn_in_both_games(tiny_clips, small_lifter, discriminator, gan):
    task = make_task(tiny_clips, small_lifter(), discriminator=discriminator, gan=gan, pool=32)
    stage = task.stages[0]
    wanted = PartDiscriminator if discriminator == "anchor_sets" else PlainDiscriminator
    assert isinstance(stage.adversaries.of_3d.network, wanted)
    assert isinstance(stage.adversaries.of_2d.network, PlainDiscriminator)
    before = weights(stage)
    for index in range(4):
        scalars = task.step(index)
        assert all(bool(value.isfinite()) and not value.requires_grad for value in scalars.values())
    networks = (stage.generator, stage.adversaries.of_3d.network, stage.adversaries.of_2d.network)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(stage), strict=True)]
    counts = np.cumsum([0] + [len(network.state_dict()) for network in networks])
    assert all(any(moved[a:b]) for a, b in pairwise(counts))
    assert all(bool(p.isfinite().all()) for p in weights(stage))


def test_a_stage_with_a_loaded_state_augments_and_learns_as_the_saved_one(tiny_clips, small_lifter, tmp_path):
    first = make_task(tiny_clips, small_lifter(dropout=0.0), pool=32)
    for index in range(3):
        first.step(index)
    save_state(tmp_path / "state.pt", first.state_dict())
    second = make_task(tiny_clips, small_lifter(dropout=0.0), seed=1, pool=32)
    assert not same(weights(first.stages[0]), weights(second.stages[0]))
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    for index in range(3, 6):
        a, b = first.step(index), second.step(index)
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert same(weights(first.stages[0]), weights(second.stages[0]))


def test_augmented_windows_keep_cameras_weights_and_place(tiny_clips, small_lifter):
    task = make_task(tiny_clips, small_lifter())
    batch = task.sources.draw(8, draws())
    batch = replace(batch, weight=torch.tensor([1.0, 0, 1, 1, 1, 1, 1, 0]))
    made = task.stages[0].augment(batch, draws(3))
    assert made.cameras is batch.cameras
    assert made.weight is batch.weight
    torch.testing.assert_close(made.poses[:, 0, 0], batch.poses[:, 0, 0])
    assert made.poses.requires_grad
    assert torch.equal(made.poses, task.stages[0].augment(batch, draws(3)).poses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": "anchor_set"}, "Did you mean 'anchor_sets'"),
        ({"gan": "wgan"}, "wgan_gp"),
        ({"angles": "axisangle"}, "Did you mean 'axis_angle'"),
        ({"rotation": "6d"}, "sixd"),
        ({"clip": "linear"}, r"lpa\.clip"),
        ({"hardness": (3.0,)}, r"lpa\.hardness"),
        ({"length_limit": 1.0}, "length_limit"),
        ({"watch_every": -1}, "watch_every"),
        ({"discriminator_every": 0}, "discriminator_every"),
        ({"angle_band": (0.3, 0.1)}, "angle_band"),
        ({"angle_limit": -1.0}, "angle_limit"),
        ({"crossover": 1.5}, "crossover"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        LPAConfig(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"rotation": "sixd"}, {"rotation": "axis_angle"}, {"angles": "additive"}, {"weight_feedback": 0.1},
        {"frozen_lengths": ("torso",)}, {"generator_lr": 0.0},
    ],
)  # fmt: skip
def test_every_form_learns_and_logs_finite_numbers(tiny_clips, small_lifter, options):
    task = make_task(tiny_clips, small_lifter(), pool=32, watch_every=1, **options)
    for index in range(2):
        scalars = task.step(index)
    assert all(bool(value.isfinite()) and not value.requires_grad for value in scalars.values())
    wanted = {"at_limit", "variety", "bone_turn", "body_turn", "length_change", "length_spread", "divergence"}
    assert {f"lpa_{name}" for name in wanted} <= set(scalars)
    assert ("lpa_hardness" in scalars) == ("weight_feedback" in options)


def test_discriminator_accuracies_are_logged_apart(tiny_clips, small_lifter):
    scalars = make_task(tiny_clips, small_lifter()).step(0)
    for name in ("3d", "2d"):
        for kind in ("real", "fake"):
            assert 0 <= float(scalars[f"lpa_discriminator_{name}_accuracy_{kind}"]) <= 1


def test_temporal_windows_keep_their_bone_lengths(tiny_clips):
    from poseda.lifters import create_lifter

    lifter = create_lifter("videopose3d", seed=0, frames=9, channels=8)
    task = make_task(tiny_clips, lifter, clip="ramp")
    made = task.stages[0].augment(task.sources.draw(8, draws()), draws(3)).poses.detach()
    bones = made[:, :, [c for _, c in lifter.skeleton.bones]] - made[:, :, [p for p, _ in lifter.skeleton.bones]]
    lengths = bones.norm(dim=-1)
    torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths), rtol=1e-4, atol=0.05)
    assert bool(task.step(0)["lpa_generator_loss"].isfinite())


def test_a_collapsed_generator_ends_the_run_with_a_sentence(tiny_clips, small_lifter):
    task = make_task(tiny_clips, small_lifter(), watch_every=2)
    with torch.no_grad():
        task.stages[0].generator.angle_head.body[-1].bias.fill_(float("nan"))
    task.step(0)
    with pytest.raises(PosedaError, match=r"collapsed at step 2: .* is nan\. Raise lpa\.weight_prior") as caught:
        task.step(1)
    assert "\n" not in str(caught.value)
