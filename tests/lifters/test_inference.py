"""lift_clips lifts every real frame once, and no window reaches into another sequence."""

import pytest
import torch
from torch import nn

from poseda.data.clips import Provenance, Sequence, UnlabelledClips
from poseda.errors import ShapeError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.lifters.inference import fill_missing, lift_clips, mirror_keypoints
from poseda.lifters.wrapped import wrap
from poseda.skeleton import get_skeleton

LENGTHS = (1, 4, 13, 9)
SKELETON = get_skeleton("h36m17")
SIZES = ((1000.0, 1000.0), (640.0, 480.0))


def clips(lengths=LENGTHS, missing=0.0) -> UnlabelledClips:
    frames = sum(lengths)
    keypoints = torch.rand(frames, 17, 2) * 400 + 20
    confidence = (torch.rand(frames, 17) >= missing).float()
    confidence[:, :2] = 1
    width, height = ([size[i] for size in SIZES] for i in (0, 1))
    return UnlabelledClips(
        keypoints=keypoints,
        confidence=confidence,
        bounds=torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()]),
        sequences=tuple(Sequence(f"s{i}", "a", "walk", i % 2) for i in range(len(lengths))),
        cameras=Camera.create(fx=[900.0, 500.0], fy=900.0, cx=400.0, cy=300.0, width=width, height=height),
        skeleton=SKELETON,
        fps=50.0,
        provenance=Provenance("test", "stand-in", "none", "metric", "gt"),
    )


def by_hand(lifter, given, window) -> torch.Tensor:
    """One frame at a time: the window of each frame, edges repeated by a Python list."""
    out = []
    for s, (first, end) in enumerate(zip(given.bounds[:-1].tolist(), given.bounds[1:].tolist(), strict=True)):
        width, height = SIZES[s % 2]
        screen = given.keypoints[first:end] / width * 2 - torch.tensor([1.0, height / width])
        for t in range(end - first):
            out.append(lifter(torch.stack([screen[i] for i in window(t, end - first)])[None]))
    return torch.cat([o.pose[0] if hasattr(o, "pose") else o for o in out])


def centred_window(frames):
    return lambda t, length: [min(max(i, 0), length - 1) for i in range(t - frames // 2, t + frames // 2 + 1)]


@pytest.mark.parametrize("batch_size", [1, 5, 4096])
@pytest.mark.parametrize(
    ("name", "options"),
    [("simplebaseline", {"hidden": 8}), ("videopose3d", {"frames": 9, "channels": 8})],
)
def test_each_frame_is_lifted_from_its_own_window(name, options, batch_size):
    lifter, given = create_lifter(name, seed=0, **options).eval(), clips()
    lifted = lift_clips(lifter, given, batch_size=batch_size)
    expected = by_hand(lifter, given, centred_window(lifter.frames))
    torch.testing.assert_close(lifted.poses, expected, rtol=1e-4, atol=1e-2)
    assert lifted.poses.shape == (27, 17, 3)
    torch.testing.assert_close(lifted.sigma[:, 1:], torch.full((27, 16), 100.0))


class Centre(nn.Module):
    """seq2frame: the middle frame and the window's mean."""

    def forward(self, x):
        pose = torch.cat([x, x[..., :1] ** 2], -1)
        return (pose[:, x.shape[1] // 2] + pose.mean(1))[:, None]


@pytest.mark.parametrize("batch_size", [1, 12, 4096])
def test_seq2frame_lifter_that_does_not_slide_sees_the_same_windows(batch_size):
    lifter, given = wrap(Centre(), frames=5), clips()
    lifted = lift_clips(lifter, given, batch_size=batch_size)
    torch.testing.assert_close(lifted.poses, by_hand(lifter, given, centred_window(5)), rtol=1e-5, atol=1e-3)
    assert lifted.sigma is None


class Running(nn.Module):
    """seq2seq: each frame's own values, with the place in the window as depth of joint 1."""

    def forward(self, x):
        pose = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
        pose[..., 1, 2] = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
        return pose


@pytest.mark.parametrize("batch_size", [1, 11, 4096])
def test_seq2seq_lifter_gives_each_frame_once_from_windows_side_by_side(batch_size):
    lifter, given = wrap(Running(), frames=5, units="mm"), clips()
    poses = lift_clips(lifter, given, batch_size=batch_size).poses
    places = [[0], [0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 2, 3, 4], [0, 1, 2, 3, 4, 1, 2, 3, 4]]
    assert poses[:, 1, 2].tolist() == [float(t) for sequence in places for t in sequence]
    width = torch.tensor([SIZES[s % 2][0] for s in range(4)])[given.sequence_index]
    screen = given.keypoints * 2 / width[:, None, None]
    torch.testing.assert_close(poses[..., :2], screen - screen[:, :1], rtol=1e-4, atol=1e-5)


def test_no_window_reaches_into_another_sequence():
    for lifter in (create_lifter("videopose3d", seed=0, frames=9, channels=8), wrap(Centre(), frames=5)):
        first, other = clips(), clips()
        same = (first.sequence_index == 2).view(-1, 1, 1)
        object.__setattr__(other, "keypoints", torch.where(same, first.keypoints, other.keypoints))
        a, b = lift_clips(lifter, first).poses, lift_clips(lifter, other).poses
        torch.testing.assert_close(a[5:18], b[5:18])
        assert not torch.allclose(a[:5], b[:5])


def test_flip_makes_the_result_equivariant_to_mirroring():
    lifter, given = create_lifter("simplebaseline", seed=0, hidden=8), clips()
    nn.init.normal_(lifter.w_sigma.weight, std=0.1)
    width = torch.tensor([SIZES[s % 2][0] for s in range(4)])[given.sequence_index]
    mirrored = given.keypoints[:, list(SKELETON.mirror)] * torch.tensor([-1.0, 1.0])
    mirrored[..., 0] += width[:, None]
    other = clips()
    object.__setattr__(other, "keypoints", mirrored)
    a, b = lift_clips(lifter, given, flip=True), lift_clips(lifter, other, flip=True)
    back = b.poses[:, list(SKELETON.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(a.poses, back, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(a.sigma, b.sigma[:, list(SKELETON.mirror)], rtol=1e-4, atol=1e-2)
    plain, flipped = lift_clips(lifter, given).sigma, lift_clips(lifter, other).sigma
    torch.testing.assert_close(a.sigma, (plain + flipped[:, list(SKELETON.mirror)]) / 2, rtol=1e-4, atol=1e-2)


def test_mirroring_twice_changes_nothing():
    keypoints = torch.rand(4, 17, 2)
    assert torch.equal(mirror_keypoints(mirror_keypoints(keypoints, SKELETON), SKELETON), keypoints)


def test_modes_are_restored_and_no_graph_is_kept():
    lifter = create_lifter("simplebaseline", hidden=8).train()
    lifter.batch_norm1.eval()
    poses = lift_clips(lifter, clips()).poses
    assert lifter.training and not lifter.batch_norm1.training and lifter.linear_stages[0].training
    assert not poses.requires_grad


def test_missing_joints_are_put_at_the_mean_of_the_visible_ones():
    keypoints = torch.tensor([[[0.0, 2.0], [4.0, 4.0], [9.0, torch.nan]], [[5.0, 5.0]] * 3])
    visible = torch.tensor([[True, True, False], [False] * 3])
    assert fill_missing(keypoints, visible).tolist() == [[[0, 2], [4, 4], [2, 3]], [[0, 0]] * 3]


def test_what_a_missing_keypoint_holds_does_not_matter():
    lifter, given, other = create_lifter("simplebaseline", seed=0, hidden=8), clips(missing=0.3), clips()
    object.__setattr__(other, "keypoints", torch.where(given.visible[..., None], given.keypoints, -77.0))
    object.__setattr__(other, "confidence", given.confidence)
    assert torch.equal(lift_clips(lifter, given).poses, lift_clips(lifter, other).poses)


def test_other_joint_set_is_refused():
    with pytest.raises(ShapeError, match=r"lifts h36m16 and the clips hold h36m17.*convert"):
        lift_clips(create_lifter("simplebaseline", hidden=8, skeleton="h36m16"), clips())
