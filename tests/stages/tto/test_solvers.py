"""Gauss-Newton never rises and ends where SciPy ends; bounds and stop rules hold; the 3x3 algebra is right."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from poseda.lifters.inference import LiftedClips
from poseda.stages.tto import TTO
from poseda.stages.tto.solvers import apply_symmetric, conjugate_gradients, gauss_newton, solve_symmetric, within
from tests.stages.tto.people import first_guess, objective, observe, published, relative, value

GAUSS = {"solver": "gn", "anchor": "mahalanobis", "weight_anchor": 1.0}
SETTINGS = {
    "square": {"reprojection": "square"},
    "huber": {"reprojection": "huber"},
    "geman_mcclure": {"reprojection": "geman_mcclure", "robust": 5.0},
    "l2": {"reprojection": "l2", "weight_reprojection": 50.0},
    "weak": {"reprojection": "huber", "camera": "weak"},
    "symmetry and limits": {"reprojection": "huber", "weight_symmetry": 1.0, "weight_limits": 1.0},
    "bones": {"reprojection": "huber", "weight_bones": 1.0},
    "ground": {"reprojection": "huber", "root": "ground"},
    "jerk, clip": {"reprojection": "huber", "weight_bones": 1.0, "weight_jerk": 1.0, "root": "clip"},
}


def settings(name, **more):
    return published(**{**GAUSS, "steps": 3, **SETTINGS[name], **more})


@pytest.mark.parametrize("name", list(SETTINGS))
def test_the_objective_never_rises_and_falls_far(people, name):
    clips = people.with_keypoints(people.keypoints + 3.0, people.confidence, "made")
    guess, lows = first_guess(clips), []
    seen = observe(clips, guess)
    for steps in range(5):
        config = settings(name, steps=steps)
        lows.append(value(gauss_newton(objective(seen, config), config, None), seen, config))
    if config.weight_bones or config.root == "ground":  # a sequence accepts a step as a whole
        lows = [torch.zeros(4, dtype=torch.float64).index_add_(0, clips.sequence_index, low) for low in lows]
    for before, after in pairwise(lows):
        assert bool((after <= before + 1e-12).all())
    assert float(lows[-1].sum()) < 0.75 * float(lows[0].sum())


def test_with_the_root_held_it_ends_where_scipy_ends(people):
    """Coupled by symmetry, robust, with a true root: one smooth problem for each frame."""
    config = published(**GAUSS, reprojection="huber", weight_symmetry=2.0, steps=60, root="oracle")
    one = people._take(torch.arange(48) == 7)
    seen = observe(one, first_guess(one), one.poses[:, 0])
    found = gauss_newton(objective(seen, config), config, None)

    def fun(offset):
        pose = torch.from_numpy(np.concatenate([np.zeros(3), offset]).reshape(1, 17, 3)).requires_grad_(True)
        total = value(seen.pose + pose, seen, config).sum()
        (gradient,) = torch.autograd.grad(total, pose)
        return float(total.detach()), gradient.numpy().ravel()[3:]

    best = minimize(fun, np.zeros(48), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15})
    assert float(value(found, seen, config)) == pytest.approx(best.fun, rel=1e-4)
    np.testing.assert_allclose((found - seen.pose).numpy().ravel()[3:], best.x, atol=1.0)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_perfect_pose_with_perfect_2d_does_not_move(make_clips, small_lifter, name):
    """People with constant bones who do not move, so that every term is at its least."""
    clips = make_clips(sequences=3, frames=1)
    perfect = LiftedClips(relative(clips), torch.full_like(clips.confidence, 80.0))
    config = settings(name, weight_symmetry=0.0, weight_limits=0.0) if name != "weak" else settings("huber")
    refined = TTO(config).refine(small_lifter(), clips.unlabelled(), perfect)
    assert float((refined.poses - perfect.poses).norm(dim=-1).max()) < 0.05


@pytest.mark.parametrize("options", [GAUSS | {"reprojection": "square"}, {}, {"latent": "feature", "lr": 1.0}])
@pytest.mark.parametrize("trust", [0.25, 1.0])
def test_2d_that_is_pure_noise_moves_no_joint_beyond_its_bound(people, small_lifter, options, trust):
    draws = torch.randn(people.keypoints.shape, generator=torch.Generator().manual_seed(5)).double()
    clips = people.with_keypoints(1000 + 400 * draws, people.confidence, "noise")
    sigma = 20 + 60 * torch.rand(people.confidence.shape, generator=torch.Generator().manual_seed(6)).double()
    guess = LiftedClips(first_guess(people).poses, sigma)
    refined = TTO(published(**options, trust=trust)).refine(small_lifter().double(), clips.unlabelled(), guess)
    share = (refined.poses - guess.poses).norm(dim=-1) / sigma
    assert 0.5 * trust < float(share.max()) <= trust * (1 + 1e-6)
    free = TTO(published(**options)).refine(small_lifter().double(), clips.unlabelled(), guess)
    assert float(((free.poses - guess.poses).norm(dim=-1) / sigma).max()) > trust


@pytest.mark.parametrize("options", [GAUSS | {"reprojection": "square", "weight_anchor": 0.0}, {"weight_anchor": 0.0}])
def test_a_frame_stops_at_the_noise_of_its_2d(people, small_lifter, options):
    """Without an anchor the 2D would be fitted to the pixel; with the stop rule it is fitted to about the noise."""
    guess, misfits = first_guess(people, error=30.0), {}
    for discrepancy in (False, True):
        config = published(**options, noise_px=6.0, discrepancy=discrepancy, steps=25)
        refined = TTO(config).refine(small_lifter().double(), people.unlabelled(), guess)
        term = objective(observe(people, guess), config)
        misfits[discrepancy] = term.misfit(term.project(refined.poses)[0])
    fitted = misfits[False] < 3.0
    assert float(fitted.double().mean()) > 0.9
    assert bool((misfits[True][fitted] <= 6.0).all())
    if "solver" not in options:  # Adam's steps are short; Gauss-Newton's first one passes the noise
        assert float(misfits[True].median()) > 1.2 * float(misfits[False].median())


def test_frames_that_fit_already_do_not_move_under_the_stop_rule(people, small_lifter):
    guess = first_guess(people, error=2.0)
    config = published(noise_px=20.0, discrepancy=True)
    refined = TTO(config).refine(small_lifter().double(), people.unlabelled(), guess)
    assert torch.equal(refined.poses, guess.poses)


@pytest.mark.parametrize("name", ["huber", "symmetry and limits", "jerk, clip"])
def test_a_sequence_is_refined_alone_as_among_others(people, small_lifter, name):
    guess = first_guess(people)
    stage = TTO(settings(name))
    together = stage.refine(small_lifter(), people.unlabelled(), guess).poses
    for i in (0, 3):
        one = people.select(lambda sequence, i=i: sequence.name == f"clip{i}")
        rows = slice(12 * i, 12 * i + 12)
        alone = stage.refine(small_lifter(), one.unlabelled(), LiftedClips(guess.poses[rows], guess.sigma[rows])).poses
        torch.testing.assert_close(together[rows], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 30])
def test_the_chunk_size_changes_nothing(people, small_lifter, chunk):
    guess = first_guess(people)
    whole, pieces = (
        TTO(settings("jerk, clip", chunk=size)).refine(small_lifter(), people.unlabelled(), guess).poses
        for size in (8192, chunk)
    )
    torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-6)


def test_a_covariance_lets_joints_move_where_they_are_uncertain(people, small_lifter):
    guess = first_guess(people)
    wide = torch.diag(torch.tensor([50.0**2, 1.0, 1.0], dtype=torch.float64)).expand(48, 17, 3, 3)
    lifted = LiftedClips(guess.poses, guess.sigma, wide)
    refined = TTO(published(**GAUSS, reprojection="huber")).refine(small_lifter(), people.unlabelled(), lifted)
    moved = (refined.poses - guess.poses).abs().mean((0, 1))
    assert float(moved[0]) > 10 * float(moved[1])
    assert refined.covariance is wide


def test_symmetric_3x3_systems_are_solved_as_linalg_solves_them():
    draws = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    full, vector = draws @ draws.mT + 0.1 * torch.eye(3), torch.randn(5, 4, 3, dtype=torch.float64)
    packed = tuple(full[..., a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    torch.testing.assert_close(solve_symmetric(packed, vector), torch.linalg.solve(full, vector))
    torch.testing.assert_close(apply_symmetric(packed, vector), (full @ vector.unsqueeze(-1)).squeeze(-1))


def test_conjugate_gradients_solve_each_frame_apart():
    draws = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    full, target = draws @ draws.mT + torch.eye(6), torch.ones(3, 2, 3, dtype=torch.float64)
    found = conjugate_gradients(lambda v: (full @ v.reshape(3, 6, 1)).view(3, 2, 3), target, lambda v: v, None)
    torch.testing.assert_close(found.view(3, 6), torch.linalg.solve(full, target.view(3, 6)), rtol=1e-6, atol=1e-9)


def test_offsets_beyond_the_radius_are_cut_to_it():
    offset = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.3, 0.4, 0.0]]])
    cut = within(offset, torch.ones(1, 3))
    torch.testing.assert_close(cut, torch.tensor([[[0.6, 0.8, 0.0], [0.0, 0.0, 0.0], [0.3, 0.4, 0.0]]]))
    assert within(offset, None) is offset
