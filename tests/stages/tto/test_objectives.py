"""The objective: each term against a formula joint by joint, and every gradient against finite differences."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch

from poseda.geometry.joint_limits import limit_excess
from poseda.geometry.root import root_from_keypoints
from poseda.stages.tto import estimate_noise
from poseda.stages.tto.objectives import robust_penalty, robust_weight, weak_perspective
from tests.stages.tto.people import first_guess, objective, observe, published, relative, value

ONLY = {
    "l2": {"weight_anchor": 0.0},
    "square": {"reprojection": "square", "weight_anchor": 0.0},
    "huber": {"reprojection": "huber", "weight_anchor": 0.0},
    "geman_mcclure": {"reprojection": "geman_mcclure", "weight_anchor": 0.0, "robust": 20.0},
    "weak": {"camera": "weak", "weight_anchor": 0.0},
    "published": {"weight_reprojection": 0.0, "weight_anchor": 1.0},
    "laplace": {"weight_reprojection": 0.0, "weight_anchor": 1.0, "anchor": "laplace"},
    "mahalanobis": {"weight_reprojection": 0.0, "weight_anchor": 1.0, "anchor": "mahalanobis"},
    "bones": {"weight_reprojection": 0.0, "weight_anchor": 0.0, "weight_bones": 1.0},
    "symmetry": {"weight_reprojection": 0.0, "weight_anchor": 0.0, "weight_symmetry": 1.0},
    "limits": {"weight_reprojection": 0.0, "weight_anchor": 0.0, "weight_limits": 1.0},
    "jerk": {"weight_reprojection": 0.0, "weight_anchor": 0.0, "weight_jerk": 1.0},
}


@pytest.fixture(scope="module")
def few(people):
    """Eight frames of two people."""
    return people.select(lambda sequence: sequence.name in ("clip0", "clip1"))._take(torch.arange(24) % 3 == 0)


def covariances(count, seed=0):
    """(count, 17, 3, 3) mm², positive and full."""
    factor = torch.randn(count, 17, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 900.0 * factor @ factor.mT + 100.0 * torch.eye(3, dtype=torch.float64)


def test_the_objective_is_the_formula_joint_by_joint(people):
    config = published(weight_reprojection=1.3, weight_anchor=0.7)
    clips = people.with_keypoints(people.keypoints + 3.0, people.confidence * 0.5, "made")
    roots = clips.poses[:, 0]
    guess = first_guess(clips)
    pose = relative(clips) + 5.0
    values = value(pose, observe(clips, guess, roots), config)
    for i in range(0, clips.num_frames, 11):
        camera = clips.cameras_at(torch.tensor([i]))
        width = float(camera.width)
        miss = moved = 0.0
        for j in range(17):
            pixel = camera.project((pose[i, j] + roots[i])[None])[0].numpy()
            miss += 0.5 * np.linalg.norm(pixel - clips.keypoints[i, j].numpy()) * 2 / width
            moved += np.linalg.norm((pose[i, j] - guess.poses[i, j]).numpy()) / 80.0
        assert float(values[i]) == pytest.approx(1.3 * miss / 17 + 0.7 * moved / 17, rel=1e-9)


def test_its_gradient_agrees_with_finite_differences_where_the_root_is_held(people):
    clips = people.select(lambda sequence: sequence.name in ("clip0", "clip1"))._take(torch.arange(24) % 6 == 0)
    seen = observe(clips, first_guess(clips), clips.poses[:, 0])
    pose = (relative(clips) + 4.0).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: value(p, seen, published(weight_anchor=0.5)), pose, eps=1e-4)


def test_with_a_solved_root_the_gradient_is_the_one_at_that_root(people):
    """The root is a constant in each step: the gradient is that of the objective with this root given."""
    guess = first_guess(people)
    seen = observe(people, guess)
    pose = (guess.poses + 3.0).requires_grad_(True)
    root, valid = root_from_keypoints(pose.detach(), seen.rays, seen.confidence)
    assert bool(valid.all())
    (solved,) = torch.autograd.grad(value(pose, seen, published()).sum(), pose)
    (given,) = torch.autograd.grad(value(pose, replace(seen, root=root), published()).sum(), pose)
    torch.testing.assert_close(solved, given)


@pytest.mark.parametrize("name", list(ONLY))
def test_the_gradient_of_every_term_agrees_with_finite_differences(few, name):
    """Where no root or weak camera is solved for in between: those are held, and so given here."""
    config = published(**ONLY[name])
    precision = torch.linalg.inv(covariances(few.num_frames)) if name == "mahalanobis" else None
    seen = observe(few, first_guess(few), few.poses[:, 0], precision)
    bent = bend_legs_forwards(few) if name == "limits" else relative(few)
    away = torch.randn(bent.shape, generator=torch.Generator().manual_seed(1)).double()
    pose = (bent + 15 * away).requires_grad_(True)
    term = objective(seen, config)
    if name == "weak":
        scale, shift, _ = weak_perspective(pose.detach(), seen.pixels, seen.confidence)
        held = scale[:, None, None], shift[:, None]
        assert torch.autograd.gradcheck(
            lambda p: term.reprojection(held[0] * p[..., :2] + held[1], torch.ones(few.num_frames, dtype=torch.bool)),
            pose, eps=1e-4,
        )  # fmt: skip
        return
    assert float(term(pose).detach().abs().max()) > 1e-4
    assert torch.autograd.gradcheck(term, pose, eps=1e-4, atol=1e-6)


def bend_legs_forwards(clips):
    """Poses whose left knee bends forwards and whose right elbow is folded beyond its limit."""
    pose, names = relative(clips).clone(), clips.skeleton.joints
    hip, knee, ankle = (names.index(name) for name in ("lhip", "lknee", "lankle"))
    left = pose[:, hip] - pose[:, names.index("rhip")]
    forwards = torch.linalg.cross(pose[:, knee] - pose[:, hip], left)
    pose[:, ankle] = pose[:, knee] - 400 * forwards / forwards.norm(dim=-1, keepdim=True)
    shoulder, elbow, wrist = (names.index(name) for name in ("rshoulder", "relbow", "rwrist"))
    pose[:, wrist] = pose[:, elbow] + 0.9 * (pose[:, shoulder] - pose[:, elbow])
    return pose


def test_limits_see_a_knee_that_bends_forwards_and_a_folded_elbow_and_nothing_else():
    """By hand: a person who faces the camera; y down, the person's left at +x, forwards at -z."""
    from poseda.skeleton import get_skeleton

    skeleton = get_skeleton("h36m17")
    pose = torch.zeros(1, 17, 3, dtype=torch.float64)
    for side, x in (("l", 150.0), ("r", -150.0)):
        for name, place in {
            "hip": (x, 0, 0), "knee": (x, 450, 0), "ankle": (x, 890, 0),
            "shoulder": (x, -500, 0), "elbow": (x, -200, 0), "wrist": (x, 50, 0),
        }.items():  # fmt: skip
            pose[0, skeleton.index(side + name)] = torch.tensor(place, dtype=torch.float64)
    assert float(limit_excess(pose, skeleton).abs().max()) == 0.0
    backwards, forwards, folded = pose.clone(), pose.clone(), pose.clone()
    backwards[0, skeleton.index("lankle")] = torch.tensor([150.0, 450.0 + 440 * 0.5, 440 * 0.75**0.5])
    forwards[0, skeleton.index("lankle")] = torch.tensor([150.0, 450.0 + 440 * 0.5, -440 * 0.75**0.5])
    folded[0, skeleton.index("rwrist")] = torch.tensor([-150.0, -450.0, 0.0])
    assert float(limit_excess(backwards, skeleton).sum()) == 0.0  # 60 degrees, as knees bend
    assert float(limit_excess(forwards, skeleton).sum()) == pytest.approx(np.sin(np.pi / 3) - np.sin(np.pi / 18))
    assert float(limit_excess(folded, skeleton).sum()) == pytest.approx(np.cos(np.radians(150)) + 1)


@pytest.mark.parametrize("kind", ["square", "huber", "geman_mcclure"])
def test_robust_weights_are_the_slope_of_the_penalty_and_touch_it_from_above(kind):
    square = torch.linspace(0.01, 60, 200, dtype=torch.float64).requires_grad_(True)
    (slope,) = torch.autograd.grad(robust_penalty(square, kind, 3.0).sum(), square)
    weight = robust_weight(square.detach(), kind, 3.0)
    torch.testing.assert_close(2 * slope, weight)
    at, points = torch.tensor([0.5, 9.0, 30.0], dtype=torch.float64)[:, None], square.detach()
    parabola = robust_penalty(at, kind, 3.0) + 0.5 * robust_weight(at, kind, 3.0) * (points - at)
    assert bool((parabola >= robust_penalty(points, kind, 3.0) - 1e-12).all())


def test_huber_is_a_parabola_that_goes_on_as_its_tangent():
    values = robust_penalty(torch.tensor([1.0, 4.0, 25.0]), "huber", 2.0)
    torch.testing.assert_close(values, torch.tensor([0.5, 2.0, 2 * (5 - 1.0)]))
    levels = robust_penalty(torch.tensor([1e12]), "geman_mcclure", 2.0)
    assert float(levels) == pytest.approx(2.0, rel=1e-5)


def test_anchors_are_the_densities_that_they_are_named_after(few):
    """Published: distance over sigma. Laplace: 3 times that. Gauss: half the squared Mahalanobis distance."""
    guess, spread = first_guess(few), covariances(few.num_frames)
    pose = relative(few)
    offset = (pose - guess.poses).numpy()
    distance = np.linalg.norm(offset, axis=-1) / 80.0
    expected = {"published": distance.mean(-1), "laplace": 3 * distance.mean(-1)}
    expected["mahalanobis"] = 0.5 * 8 / np.pi * (distance**2).mean(-1)  # g = sigma / sqrt(8 / pi)
    for kind, wanted in expected.items():
        config = published(weight_reprojection=0.0, weight_anchor=1.0, anchor=kind)
        np.testing.assert_allclose(value(pose, observe(few, guess), config).numpy(), wanted)
    whole = np.array([
        np.mean([0.5 * d @ np.linalg.solve(c, d) for d, c in zip(offset[i], spread[i].numpy(), strict=True)])
        for i in range(few.num_frames)
    ])  # fmt: skip
    config = published(weight_reprojection=0.0, weight_anchor=1.0, anchor="mahalanobis")
    seen = observe(few, guess, precision=torch.linalg.inv(spread))
    np.testing.assert_allclose(value(pose, seen, config).numpy(), whole)


def test_bones_and_symmetry_and_jerk_are_what_a_loop_gives(people):
    guess, pose = first_guess(people), first_guess(people, seed=3).poses
    skeleton, bounds = people.skeleton, people.bounds.tolist()
    lengths = np.stack([np.linalg.norm(pose[:, c] - pose[:, p], axis=-1) for p, c in skeleton.bones], -1) / 10
    for weights, wanted in (
        ("weight_bones", np.concatenate([
            0.5 * ((lengths[a:b] - lengths[a:b].mean(0)) ** 2).mean(-1) for a, b in pairwise(bounds)
        ])),
        ("weight_symmetry", 0.5 * np.mean([(lengths[:, a] - lengths[:, b]) ** 2 for a, b in skeleton.bone_pairs], 0)),
        ("weight_jerk", np.concatenate([
            np.r_[0.5 * ((np.diff(pose[a:b].numpy(), 3, axis=0) / 10) ** 2).sum(-1).mean(-1), [0, 0, 0]]
            for a, b in pairwise(bounds)
        ])),
    ):  # fmt: skip
        config = published(weight_reprojection=0.0, weight_anchor=0.0, **{weights: 1.0})
        np.testing.assert_allclose(value(pose, observe(people, guess), config).numpy(), wanted, err_msg=weights)


def test_weak_perspective_is_the_least_squares_fit(few):
    from scipy.optimize import least_squares

    confidence = few.confidence.clone()
    confidence[:, 4] = 0
    confidence[:, 7] = 0.3
    pixels = few.keypoints.clone()
    pixels[:, 4] = 1e6
    scale, shift, valid = weak_perspective(relative(few), pixels, confidence)
    assert bool(valid.all())
    for i in range(few.num_frames):
        weight = confidence[i].sqrt().numpy()[:, None]
        pose, seen = relative(few)[i, :, :2].numpy(), few.keypoints[i].numpy()
        fit = least_squares(
            lambda p, a=pose, w=weight, x=seen: (w * (p[0] * a + p[1:] - x)).ravel(),
            [0.3, 1000, 1000],
        ).x
        np.testing.assert_allclose([float(scale[i]), *shift[i].tolist()], fit, rtol=1e-5)


@pytest.mark.parametrize("noise", [4.0, 9.0])
def test_the_noise_of_the_2d_is_told_from_smooth_motion(make_clips, noise):
    clips = make_clips(sequences=2, frames=200)
    draws = torch.randn(clips.keypoints.shape, generator=torch.Generator().manual_seed(0))
    walk = torch.stack(list(accumulate(draws, lambda before, new: 0.8 * before + 0.6 * new)))  # correlation 0.8
    noisy = clips.keypoints + noise * walk
    noisy[3, 5] = 9e5
    found = estimate_noise(noisy, clips.confidence, clips.sequence_index)
    assert found.shape == (400,)
    assert 0.8 * noise < float(found.min())
    assert float(found.max()) < 1.4 * noise + 1.0


def test_single_frames_have_the_noise_of_their_size():
    pixels = torch.tensor([[[100.0, 100.0], [300.0, 700.0]]]).expand(3, 2, 2).clone()
    found = estimate_noise(pixels, torch.ones(3, 2), torch.arange(3))
    torch.testing.assert_close(found, torch.full((3,), 0.005 * 400))
