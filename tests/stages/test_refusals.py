"""What an adaptation refuses before the first step, in one line."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from poseda.data.clips import LabelledClips
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError, DataError
from poseda.lifters import create_lifter
from poseda.skeleton import get_skeleton
from poseda.stages import create_stage, list_stages
from poseda.stages.pipeline import (
    AdaptConfig,
    adapt_lifter,
    lift_with_stages,
)
from tests.stages.adapting import CONFIG, adapt


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
