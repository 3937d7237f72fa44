"""Scoring: errors against a loop, each frame once, the protocol's flip, and no 3D in the lifter's hands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.engine.evaluate import evaluate_lifter, scored_runs
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.metrics.protocols import get_protocol, with_options
from poseda.skeleton import get_skeleton


@pytest.fixture
def clips():
    """30 frames in sequences of 12, 7 and 11 with two actions before two cameras."""
    generator = torch.Generator().manual_seed(0)
    poses = 300 * torch.randn(30, 17, 3, generator=generator) + torch.tensor([0.0, 0.0, 5000.0])
    cameras = Camera.create(fx=[1000.0, 1300.0], fy=1000.0, cx=500.0, cy=480.0, width=1000.0, height=960.0)
    bounds = torch.tensor([0, 12, 19, 30])
    index = torch.tensor([0, 1, 0]).repeat_interleave(bounds.diff())
    return LabelledClips(
        poses=poses,
        keypoints=cameras[index].project(poses),
        confidence=torch.ones(30, 17),
        bounds=bounds,
        sequences=(
            Sequence("a", "A", "walk", 0),
            Sequence("b", "A", "sit", 1),
            Sequence("c", "B", "walk", 0),
        ),
        cameras=cameras,
        skeleton=get_skeleton("h36m17"),
        fps=50.0,
        provenance=Provenance("made", "stand-in", "none", "universal", "gt"),
    )


@pytest.fixture
def lifter():
    return create_lifter("simplebaseline", seed=0, hidden=16)


def mpjpe(lifted, clips, rows=slice(None)):
    """Mean error of frames, by a loop over frames and joints."""
    pred, truth = lifted.double().numpy(), clips.poses.double().numpy()
    errors = [
        [np.linalg.norm((pred[f, j] - pred[f, 0]) - (truth[f, j] - truth[f, 0])) for j in range(17)]
        for f in range(len(pred))
    ]
    return np.mean(np.array(errors)[rows])


def test_values_are_the_errors_of_the_lifted_frames(clips, lifter):
    result = evaluate_lifter(lifter, clips)
    lifted = lift_clips(lifter, clips).poses
    assert result.frames == 30
    assert result.values["mpjpe"] == pytest.approx(mpjpe(lifted, clips), rel=1e-5)
    walking = [*range(12), *range(19, 30)]
    assert result.per_action["walk"]["mpjpe"] == pytest.approx(mpjpe(lifted, clips, walking), rel=1e-5)
    assert result.per_action["sit"]["frames"] == 7


def test_the_truth_itself_scores_0_whatever_its_root(clips, lifter):
    result = evaluate_lifter(lifter, clips, lift=lambda _: LiftedClips(clips.poses + 123.0, None))
    assert result.values["mpjpe"] < 1e-3
    assert result.values["pck"] == 100.0


def test_other_lifting_is_handed_clips_without_3d(clips, lifter):
    handed = []

    def lift(unlabelled):
        handed.append(unlabelled)
        return LiftedClips(torch.randn(30, 17, 3), None)

    evaluate_lifter(lifter, clips, lift=lift)
    assert len(handed) == 1
    assert not hasattr(handed[0], "poses")
    assert handed[0].num_frames == 30


def test_the_mirrored_pass_is_added_when_the_protocol_says_so(clips, lifter):
    plain, flipped = (
        evaluate_lifter(lifter, clips, with_options(get_protocol("h36m17"), flip=f)) for f in (False, True)
    )
    assert plain.values["mpjpe"] == pytest.approx(mpjpe(lift_clips(lifter, clips).poses, clips), rel=1e-5)
    assert flipped.values["mpjpe"] == pytest.approx(mpjpe(lift_clips(lifter, clips, flip=True).poses, clips), rel=1e-5)
    assert plain.values["mpjpe"] != flipped.values["mpjpe"]
    assert evaluate_lifter(lifter, clips, "poseaug16").protocol.flip


def test_the_label_scale_of_the_clips_is_written_beside_the_numbers(clips, lifter):
    for scale in ("universal", "metric"):
        result = evaluate_lifter(lifter, clips.with_provenance(label_scale=scale))
        assert result.protocol.label_scale == scale
        assert scale in result.to_json()["describe"]


@pytest.mark.parametrize("protocol", ["official17", "poseaug16", "h36m17"])
def test_every_protocol_scores_a_17_joint_lifter(clips, lifter, protocol):
    result = evaluate_lifter(lifter, clips, protocol)
    assert result.protocol.name == protocol
    assert all(np.isfinite(value) for value in result.values.values())


def test_scoring_leaves_the_lifter_as_it_was(clips, lifter):
    lifter.train()
    before = {name: value.clone() for name, value in lifter.state_dict().items()}
    evaluate_lifter(lifter, clips)
    assert lifter.training
    assert all(torch.equal(value, before[name]) for name, value in lifter.state_dict().items())


@pytest.mark.parametrize(("protocol", "message"), [("offical17", "Did you mean 'official17'"), ("h36m17", "h36m16")])
def test_mistakes_are_answered_in_one_line(clips, lifter, protocol, message):
    other = clips.convert(get_skeleton("h36m16"))
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate_lifter(lifter, other, protocol)
    assert "\n" not in str(caught.value)


def test_only_scored_frames_count_and_the_others_stay_as_context(tiny_target):
    lifter = create_lifter("videopose3d", seed=0, frames=9, channels=8)
    scored = torch.zeros(tiny_target.num_frames, dtype=torch.bool)
    scored[torch.tensor([3, 4, 5, 9])] = True
    bound = int(tiny_target.bounds[1])
    scored[bound - 1 : bound + 1] = True  # neighbours of two sequences are no run
    some = replace(tiny_target, scored=scored)
    found = evaluate_lifter(lifter, some, "h36m17")
    lifted = lift_clips(lifter, tiny_target).poses
    truth = tiny_target.poses - tiny_target.poses[:, :1]
    errors = (lifted - truth).norm(dim=-1).double()
    assert found.frames == some.num_scored == 6
    assert found.values["mpjpe"] == pytest.approx(float(errors[scored].mean()), rel=1e-5)
    rows, bounds, owners = scored_runs(some)
    assert rows.tolist() == [3, 4, 5, 9, bound - 1, bound] and bounds.tolist() == [0, 3, 4, 5, 6]
    assert owners == [0, 0, 0, 1]
