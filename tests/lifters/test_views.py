"""Views of a lifter: what goes in, what comes out, and that every lifter takes every view."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.engine.supervised import TrainConfig, train_lifter, windows_in_view
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.geometry.rotations import rotate
from poseda.lifters import create_lifter, list_lifters
from poseda.lifters.inference import lift_clips, mirror_keypoints, mirror_poses
from poseda.lifters.views import VIEWS, get_view, look
from tests.lifters.test_every_lifter import SMALL

OTHERS = [name for name in VIEWS if name != "screen"]
LENS = Camera.create(
    fx=1145.0, fy=1143.0, cx=512.0, cy=515.0, width=1000.0, height=1002.0, radial=(-0.2, 0.24, -0.002),
    tangential=(-0.0009, -0.0016), tangential_factor=1.0, dtype=torch.float64,
)  # fmt: skip


@pytest.fixture
def people():
    """(6, 3, 17, 3) mm: windows of people left and right, near and far."""
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(6, 3, 17, 3, generator=generator, dtype=torch.float64) * 250
    place = torch.tensor([[-900, 0, 3000], [800, -300, 4000], [0, 0, 5000], [300, 600, 2800], [-100, 100, 7000],
                          [1200, 0, 6000]], dtype=torch.float64)  # fmt: skip
    return pose + place[:, None, None]


def small(name="simplebaseline", **options):
    return create_lifter(name, seed=0, **{**SMALL.get(name, {}), **options}).eval()


@pytest.mark.parametrize("view", OTHERS)
def test_pixels_through_the_lens_and_exact_poses_look_the_same(view, people):
    lifter, cameras = small(view=view), LENS.expand(6)
    from_pixels = lifter.see(cameras.project(people), None, cameras)
    from_poses = lifter.see_poses(people, cameras)
    torch.testing.assert_close(from_pixels.keypoints, from_poses.keypoints, rtol=0, atol=1e-6)
    if from_poses.rotation is not None:
        torch.testing.assert_close(from_pixels.rotation, from_poses.rotation, rtol=0, atol=1e-8)


@pytest.mark.parametrize("view", [name for name in OTHERS if VIEWS[name].rotation == "swing"])
def test_a_camera_turned_about_its_centre_sees_the_same_but_for_roll(view, people):
    """The smallest rotation leaves a roll, which moves no point nearer to the axis or further from it."""
    spec = dataclasses.replace(VIEWS[view], tokens=(), centre="root", scale="keep")
    angle = torch.tensor(0.3, dtype=torch.float64)
    c, s, o, i = angle.cos(), angle.sin(), angle * 0, angle * 0 + 1
    turn = torch.stack([c, o, s, o, i, o, -s, o, c]).view(1, 3, 3).expand(6, 3, 3)
    first = people[:, :1]
    seen = [look(spec, p[..., :2] / p[..., 2:], None, 0).keypoints for p in (first, rotate(turn, first))]
    torch.testing.assert_close(seen[0].norm(dim=-1), seen[1].norm(dim=-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("view", OTHERS)
def test_the_view_turns_poses_as_it_turns_keypoints(view, people):
    """What is seen of a window is the projection of the window in the axes of the view."""
    lifter = small(view=view)
    keypoints, poses = windows_in_view(lifter, people, LENS.expand(6))
    flat = poses[..., :2] / poses[..., 2:]
    if VIEWS[view].crop:
        low, high = flat.amin(2), flat.amax(2)
        flat = flat - ((low + high) / 2).mean(1)[:, None, None]
    ratio = keypoints[..., :2] / flat  # one scale a window
    one = ratio.flatten(1).median(1).values[:, None, None, None]
    torch.testing.assert_close(keypoints[..., :2], one * flat, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("view", list(VIEWS))
def test_a_mirrored_person_has_the_mirrored_look(view, people):
    lifter = small(view=view, confidence=True)
    pinhole = Camera.create(fx=1000.0, fy=1000.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0, dtype=torch.float64)
    cameras = pinhole.expand(6)
    mirrored = mirror_poses(people, lifter.skeleton)
    expected = mirror_keypoints(lifter.see_poses(people, cameras).keypoints, lifter.skeleton, lifter.mirror_signs)
    torch.testing.assert_close(lifter.see_poses(mirrored, cameras).keypoints, expected, rtol=0, atol=1e-12)


def test_the_size_token_is_the_log_of_the_size(people):
    view = get_view("perspective")
    rays = people[..., :2] / people[..., 2:]
    near = look(view, rays, None, 0).keypoints[..., 2]
    far = look(view, 0.5 * rays, None, 0).keypoints[..., 2]
    assert bool((near > far).all())
    assert float((near - far)[2, 0, 0]) == pytest.approx(0.693, abs=0.03)  # half as large, but for the perspective


@pytest.mark.parametrize("view", OTHERS)
def test_missing_joints_have_no_say_and_lie_inside_the_body(view, people):
    rays = people[..., :2] / people[..., 2:]
    visible = torch.ones(6, 3, 17, dtype=torch.bool)
    visible[:, :, [4, 9]] = False
    visible[5] = False
    wild = rays.clone()
    wild[~visible] = 1e3
    seen = look(get_view(view), wild, visible, 0)
    assert bool(seen.keypoints.isfinite().all())
    again = look(get_view(view), rays, visible, 0)
    torch.testing.assert_close(seen.keypoints, again.keypoints)
    others = [j for j in range(17) if j not in (4, 9)]
    inside = seen.keypoints[:5, :, others, :2].mean(2)
    torch.testing.assert_close(seen.keypoints[:5, :, 4, :2], inside)


def test_the_root_gives_the_centre_where_it_is_seen(people):
    rays = people[..., :2] / people[..., 2:]
    seen = look(get_view("canonical"), rays[:, :1], None, 0)
    torch.testing.assert_close(seen.keypoints[:, 0, 0], torch.zeros(6, 2, dtype=torch.float64))
    visible = torch.ones(6, 1, 17, dtype=torch.bool)
    visible[..., 0] = False
    by_box = look(dataclasses.replace(get_view("canonical"), centre="box"), rays[:, :1], visible, 0)
    torch.testing.assert_close(look(get_view("canonical"), rays[:, :1], visible, 0).rotation, by_box.rotation)


@pytest.mark.parametrize("name", list_lifters())
def test_every_lifter_takes_tokens_and_confidence(name):
    lifter = small(name, view="cliff", confidence=True)
    assert lifter.inputs == 6
    keypoints = torch.randn(2, lifter.frames, 17, 6)
    output = lifter(keypoints)
    assert output.pose.shape[-2:] == (17, 3)
    changed = keypoints.clone()
    changed[..., 2:] += 0.5
    assert not torch.allclose(lifter(changed).pose, output.pose), "tokens are read"
    assert lifter.options["view"] == "cliff"


@pytest.mark.parametrize(("name", "frames"), [("simplebaseline", 1), ("videopose3d", 9), ("mixste", 9)])
def test_whole_clips_are_lifted_window_by_window_and_turned_back(name, frames, tiny_target):
    options = {} if frames == 1 else {"frames": frames}
    lifter = small(name, view="perspective", **options)
    clips = tiny_target.unlabelled()
    assert int(clips.bounds[1]) >= 18, "the first sequence has room"
    lifted = lift_clips(lifter, clips, batch_size=32).poses
    row = 5
    if lifter.output == "seq2frame" or frames == 1:
        window, at = torch.arange(row - frames // 2, row + frames // 2 + 1), 0
    else:
        window, at = torch.arange(frames), row
    with torch.no_grad():
        alone = lifter.lift(clips.keypoints[window][None], clips.cameras_at(torch.tensor([row]))).pose[0, at]
    torch.testing.assert_close(lifted[row], alone, rtol=1e-4, atol=1e-1)


def test_training_with_a_view_learns_and_is_saved_with_it(tmp_path, source_domain):
    lifter = create_lifter("simplebaseline", seed=0, hidden=128, blocks=1, view="perspective")
    train_lifter(lifter, source_domain.train, TrainConfig(steps=150, batch_size=128, lr=3e-3), seed=0)
    clips = source_domain.test
    relative = clips.poses - clips.poses[:, :1]
    error = (lift_clips(lifter, clips).poses - relative).norm(dim=-1).mean()
    flat = (relative.mean(0) - relative).norm(dim=-1).mean()
    assert float(error) < 0.6 * float(flat)
    path = tmp_path / "lifter.safetensors"
    save_lifter(path, lifter, {})
    again, _ = load_lifter(path)
    assert again.view == VIEWS["perspective"]
    assert torch.equal(lift_clips(again, clips).poses, lift_clips(lifter, clips).poses)


def test_an_unknown_view_and_screen_keypoints_without_cameras_are_refused():
    with pytest.raises(ConfigError, match="perspective"):
        create_lifter("simplebaseline", view="perspektive")
    with pytest.raises(ConfigError, match="screen keypoints alone"):
        small(view="rays").lift_screen(torch.zeros(1, 1, 17, 2), None)


def test_rays_do_not_depend_on_the_lens_or_the_image(people):
    """Domains of other cameras show the same person alike."""
    domain = load_domain(DomainConfig(name="h36m", every=50, max_frames=20), root="nowhere").train
    cameras = domain.cameras_at(torch.arange(domain.num_frames))
    other = dataclasses.replace(cameras, fx=cameras.fx * 0.7, fy=cameras.fy * 0.7, radial=0 * cameras.radial)
    lifter, poses = small(view="rays"), domain.poses[:, None]
    seen = [lifter.see(c.project(poses), None, c).keypoints for c in (cameras, other)]
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-4)
