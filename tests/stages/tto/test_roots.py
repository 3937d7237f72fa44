"""Where the root stands: each provider against the truth, SciPy or a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.geometry.root import root_from_keypoints
from poseda.stages.tto import TTO, Roots
from poseda.stages.tto.roots import stature
from tests.stages.tto.people import first_guess, in_double, observe, published, relative


def test_the_robust_closed_form_is_scipys_cauchy_fit_at_its_own_scale(people):
    """The same cost as an iterated problem: SciPy minimises sum of log(1 + r²/s²) per joint, s from the closed form."""
    guess = first_guess(people, error=20.0)
    seen = observe(people, guess)
    root, valid = root_from_keypoints(guess.poses, seen.rays, seen.confidence, iterations=60)
    assert bool(valid.all())
    for i in range(0, 48, 9):
        pose, ray = guess.poses[i].numpy(), seen.rays[i].numpy()

        def miss(t, pose=pose, ray=ray):
            place = pose + t
            return np.linalg.norm(place[:, :2] - ray * place[:, 2:], axis=1)

        scale = 1.5 * np.median(miss(root[i].numpy()))
        start = root[i].numpy() + np.array([30, -20, 200])
        fit = least_squares(miss, start, loss="cauchy", f_scale=scale, x_scale=[10, 10, 100])
        np.testing.assert_allclose(root[i].numpy(), fit.x, atol=2.0)


def test_a_clips_root_knows_one_body_and_a_smooth_way(make_clips):
    """Poses whose size flickers by 5 %: the frame's own root flickers with it, the clip's does not."""
    clips = in_double(make_clips(sequences=2, frames=60))
    flicker = 1 + 0.05 * torch.randn(120, generator=torch.Generator().manual_seed(0)).double()
    seen = observe(clips, first_guess(clips))
    pose = relative(clips) * flicker[:, None, None]
    own, _ = Roots("least_squares")(pose, seen)
    smooth, valid = Roots("clip")(pose, seen)
    truth = clips.poses[:, 0]
    assert bool(valid.all())
    for i in range(2):  # up to the mean size of the person, which no view tells
        rows = slice(60 * i, 60 * i + 60)
        off = [(found[rows, 2] / truth[rows, 2]).log() for found in (own, smooth)]
        assert float(off[1].std()) < 0.2 * float(off[0].std())
        assert float((off[1].mean() - off[0].mean()).abs()) < 0.02


def test_a_straight_walk_is_not_bent_by_smoothing(make_clips):
    clips = in_double(make_clips(sequences=1, frames=40))
    seen = observe(clips, first_guess(clips))
    root, _ = Roots("clip", path_frames=6.0)(relative(clips), seen)
    own, _ = Roots("least_squares")(relative(clips), seen)
    torch.testing.assert_close(root, own, rtol=5e-3, atol=5.0)


def test_a_size_prior_gives_the_depth_of_a_body_of_that_size(people):
    """Poses lifted 10 % too small: with the true length of all bones, or the true height, the root is the true one."""
    seen = observe(people, first_guess(people))
    small, truth = 0.9 * relative(people), people.poses[:, 0]
    lengths = bone_lengths(people.poses, people.skeleton).sum(-1)
    one = int(torch.argmin((lengths - lengths.median()).abs()))
    by_bones, _ = Roots("size_prior", source_length=float(lengths[one]))(small, seen)
    torch.testing.assert_close(by_bones[one], truth[one], rtol=1e-6, atol=1e-3)
    height = float(stature(relative(people), people.skeleton)[one]) / 0.961
    by_height, _ = Roots("size_prior", height_mm=height)(small, seen)
    torch.testing.assert_close(by_height[one], truth[one], rtol=1e-6, atol=1e-3)
    with pytest.raises(ConfigError, match="height_mm"):
        Roots("size_prior")(small, seen)


def standing_on_the_floor(clips, camera):
    """The clips' people before a placed camera, with the lower ankle at 3.9 % of their height over the floor."""
    poses = relative(clips)
    up = camera.R[0] @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    upright = torch.stack([camera.R[0] @ turn for turn in torch.eye(3, dtype=torch.float64)], -1)
    body = torch.stack([poses[..., 0], poses[..., 2], -poses[..., 1]], -1)  # y down -> world z up
    poses = (upright @ body.unsqueeze(-1)).squeeze(-1)
    ankle = 0.039 / 0.961 * stature(poses, clips.skeleton)
    ankles = [clips.skeleton.index(name) for name in ("lankle", "rankle")]
    lowest = (poses[:, ankles] @ up).amin(-1)
    forwards = camera.R[0, 2] * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    place = camera.centre()[0] + 4500 * forwards / forwards.norm()
    root = place.expand(len(poses), 3).clone()
    root[:, 2] = ankle - lowest
    root = camera.expand(len(poses)).world_to_camera(root)
    return poses, root


def test_the_floor_gives_true_places_to_people_who_were_lifted_too_small(make_clips):
    camera = load_rig("3dhp_test").cameras.to(dtype=torch.float64)[0]
    clips = in_double(make_clips(sequences=3, frames=5, cameras=camera))
    poses, root = standing_on_the_floor(clips, camera)
    clips = in_double(replace(clips, poses=poses + root[:, None]))
    seen = observe(clips, first_guess(clips))
    assert bool((root[:, 2] > 1000).all())
    for size in (0.85, 1.1):
        found, valid = Roots("ground")(size * poses, seen)
        assert bool(valid.all())
        torch.testing.assert_close(found, root, rtol=1e-4, atol=1.0)
    bare = replace(seen, cameras=replace_extrinsics(seen.cameras))
    ratio, known = Roots("ground").size_ratio(0.9 * poses, bare)
    assert not bool(known.any())
    assert bool((ratio == 1).all())


def replace_extrinsics(cameras):
    values = {**cameras._tensors(), "R": torch.eye(3).to(cameras.R).expand_as(cameras.R), "t": 0 * cameras.t}
    return Camera(**values)


def test_frames_without_a_floor_are_counted_in_a_remark(people, small_lifter):
    bare = replace(people, cameras=replace_extrinsics(people.cameras))
    stage = TTO(published(root="ground"))
    stage.refine(small_lifter(), bare.unlabelled(), first_guess(people))
    assert "the floor tells no size in 48 frames" in stage.remark()


def test_poses_take_the_size_that_is_known_first(people, small_lifter):
    guess = first_guess(people, error=1.0)
    stage = TTO(published(root="size_prior", height_mm=1500.0, resize=True, steps=0))
    refined = stage.refine(small_lifter(), people.unlabelled(), guess)
    height = stature(refined.poses, people.skeleton) / 0.961
    assert float((height.view(4, 12).mean(1) - 1500).abs().max()) < 15
