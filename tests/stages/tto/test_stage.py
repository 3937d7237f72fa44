"""Test-time optimisation as a stage: its fixed points, and that no frame feels its batch mates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.geometry.root import root_from_keypoints
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.lifters.wrapped import wrap
from poseda.stages.tto import TTO, TTOConfig
from tests.stages.tto.people import first_guess, in_double, misfit, observe, published, relative, rows_of, value

LATENTS = ("input", "feature", "output")


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("latent", ["input", "feature", "output"])
def test_a_perfect_pose_with_perfect_2d_does_not_move(make_clips, small_lifter, latent, precision):
    clips = make_clips(sequences=4, frames=12, cameras=load_rig("3dhp_test").cameras)
    clips = in_double(clips) if precision == torch.float64 else clips
    perfect = LiftedClips(relative(clips), torch.full_like(clips.confidence, 80.0))
    lifter = small_lifter().to(precision).eval()
    refined = TTO(published(latent=latent)).refine(lifter, clips.unlabelled(), perfect)
    assert float((refined.poses - perfect.poses).norm(dim=-1).max()) < 0.05


@pytest.mark.parametrize("latent", LATENTS)
def test_refined_poses_fit_the_2d_better_and_the_objective_falls(people, lifter, latent):
    guess = first_guess(people)
    config = published(latent=latent, root="oracle", steps=30, lr=3e-3)
    roots = people.poses[:, 0]
    refined = TTO(config, oracle_root=roots).refine(lifter, people.unlabelled(), guess)
    assert misfit(people, refined.poses, roots) < 0.95 * misfit(people, guess.poses, roots)
    seen = observe(people, guess, roots)
    before, after = (value(p, seen, config) for p in (guess.poses, refined.poses))
    assert bool((after < before).double().mean() > 0.9)
    assert torch.equal(refined.sigma, guess.sigma)
    assert float(refined.poses[:, 0].abs().max()) == 0.0


# --- independence, frozen weights ---


@pytest.mark.parametrize("latent", LATENTS)
def test_a_frame_is_refined_alone_as_in_a_batch_of_257(make_clips, lifter, latent):
    clips = in_double(make_clips(sequences=257, frames=1, cameras=load_rig("3dhp_test").cameras))
    clips = clips.with_keypoints(clips.keypoints + 4.0, clips.confidence, "made")
    guess = first_guess(clips)
    stage = TTO(published(latent=latent, steps=5))
    together = stage.refine(lifter, clips.unlabelled(), guess).poses
    assert float((together - guess.poses).norm(dim=-1).mean()) > 0.1
    for i in (0, 100, 256):
        one = clips._take(torch.arange(257) == i)
        alone = stage.refine(lifter, one.unlabelled(), rows_of(guess, slice(i, i + 1))).poses
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [5, 17])
def test_the_chunk_size_changes_nothing(people, lifter, chunk):
    guess = first_guess(people)
    whole, pieces = (
        TTO(published(chunk=size)).refine(lifter, people.unlabelled(), guess).poses for size in (8192, chunk)
    )
    torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-5)


@pytest.mark.parametrize("latent", LATENTS)
def test_the_lifter_comes_back_unchanged_with_its_modes(people, small_lifter, latent):
    lifter = small_lifter(dropout=0.5).double().train()
    lifter.w1.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in lifter.state_dict().items()}
    TTO(published(latent=latent)).refine(lifter, people.unlabelled(), first_guess(people))
    assert all(torch.equal(value, before[name]) for name, value in lifter.state_dict().items())
    assert lifter.training
    wanted = {name: name != "w1.weight" for name, _ in lifter.named_parameters()}
    assert {name: p.requires_grad for name, p in lifter.named_parameters()} == wanted
    assert all(p.grad is None for p in lifter.parameters())


def test_weights_are_free_again_after_an_error_inside(people, lifter):
    stage = TTO(published(root="oracle"))
    with pytest.raises(ConfigError, match="needs the true roots"):
        stage.refine(lifter, people.unlabelled(), lift_clips(lifter, people))
    assert all(p.requires_grad for p in lifter.parameters())


def test_no_step_gives_the_first_prediction(people, lifter):
    guess = first_guess(people)
    refined = TTO(published(steps=0)).refine(lifter, people.unlabelled(), guess)
    torch.testing.assert_close(refined.poses, guess.poses)
    assert refined.poses is not guess.poses


# --- missing joints, hopeless frames ---


@pytest.mark.parametrize("latent", LATENTS)
def test_missing_joints_do_not_pull_whatever_number_stands_there(people, lifter, latent):
    confidence = people.confidence.clone()
    confidence[:, [3, 13]] = 0
    confidence[5, 1:] = 0  # a single visible joint
    confidence[6] = 0  # none
    guess = first_guess(people)
    stage, results = TTO(published(latent=latent)), []
    for number in (0.0, 12_345.0):
        keypoints = people.keypoints.masked_fill((confidence == 0).unsqueeze(-1), number)
        clips = people.with_keypoints(keypoints, confidence, "made").unlabelled()
        results.append(stage.refine(lifter, clips, guess).poses)
        assert bool(results[-1].isfinite().all())
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)
    assert torch.equal(results[0][6], guess.poses[6])


def test_frames_whose_root_lies_behind_the_camera_stay_finite_and_in_place(people, lifter):
    """2D that is upside down and mirrored asks for a root behind the camera."""
    middle = people.keypoints[:, :1]
    clips = people.with_keypoints(2 * middle - people.keypoints, people.confidence, "made")
    guess = LiftedClips(relative(people), torch.full_like(people.confidence, 80.0))
    refined = TTO(published(latent="output")).refine(lifter, clips.unlabelled(), guess)
    assert bool(refined.poses.isfinite().all())
    _, valid = root_from_keypoints(guess.poses, observe(clips, guess).rays, clips.confidence)
    assert int((~valid).sum()) > 10
    torch.testing.assert_close(refined.poses[~valid], guess.poses[~valid])


# --- sigma ---


def test_a_larger_sigma_lets_a_joint_move_further(people, lifter):
    """Both are exact penalties: a joint is held where weight_anchor / sigma > weight_reprojection f / Z."""
    guess = first_guess(people)
    sigma = torch.full_like(guess.sigma, 2.0)
    sigma[:, 8:] = 2000.0
    config = published(latent="output", root="oracle", steps=60, lr=2e-3, weight_anchor=0.01)
    stage = TTO(config, oracle_root=people.poses[:, 0])
    refined = stage.refine(lifter, people.unlabelled(), LiftedClips(guess.poses, sigma))
    moved = (refined.poses - guess.poses).norm(dim=-1).mean(0)
    assert float(moved[8:].min()) > 5 * float(moved[1:8].max())


def test_a_temporal_lifters_error_is_measured_in_windows_of_neighbours(make_clips, monkeypatch):
    clips = make_clips(sequences=8, frames=12)
    lifter = create_lifter("videopose3d", seed=0, frames=9, channels=8, sigma=False).eval()
    monkeypatch.setattr("poseda.stages.tto.stage.CALIBRATION_FRAMES", 40)
    stage = TTO()
    stage.calibrate(lifter, clips)
    errors = (lift_clips(lifter, clips).poses - relative(clips)).norm(dim=-1).view(8, 12, -1)[[0, 3, 6]]
    torch.testing.assert_close(stage.joint_sigma, errors.mean((0, 1)).clamp_min(1.0))


def test_without_a_scale_head_sigma_is_each_joints_mean_error_on_the_source(people, small_lifter):
    lifter = small_lifter(sigma=False).double().eval()
    stage = TTO()
    with pytest.raises(ConfigError, match=r"give tto\.sigma_mm"):
        stage.refine(lifter, people.unlabelled(), lift_clips(lifter, people))
    stage.calibrate(lifter, people)
    errors = np.linalg.norm((lift_clips(lifter, people).poses - relative(people)).numpy(), axis=-1)
    np.testing.assert_allclose(stage.joint_sigma.numpy()[1:], errors.mean(0)[1:])
    refined = stage.refine(lifter, people.unlabelled(), lift_clips(lifter, people))
    assert refined.sigma is None
    assert bool(refined.poses.isfinite().all())


class OwnModule(nn.Module):
    """A user's lifter: metres, no scale head, a named hidden layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(34, 16), nn.Linear(16, 51)

    def forward(self, keypoints):
        return self.last(torch.relu(self.first(keypoints.flatten(2)))).unflatten(-1, (17, 3))


def all_lifters():
    torch.manual_seed(0)
    return {
        "simplebaseline": create_lifter("simplebaseline", seed=0, hidden=16),
        "videopose3d 27": create_lifter("videopose3d", seed=0, frames=27, channels=8),
        "wrapped": wrap(OwnModule()),
        "wrapped, named latent": wrap(OwnModule(), latent="first"),
    }


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("name", list(all_lifters()))
def test_every_kind_of_lifter_can_be_refined(people, name, latent):
    lifter = all_lifters()[name].double().eval()
    stage = TTO(published(latent=latent, steps=4))
    stage.calibrate(lifter, people)
    # random weights give poses that no root fits: refinement starts from poses nearer to the truth
    start = LiftedClips(first_guess(people).poses, lift_clips(lifter, people).sigma)
    refined = stage.refine(lifter, people.unlabelled(), start)
    assert refined.poses.shape == (people.num_frames, 17, 3)
    assert bool(refined.poses.isfinite().all())
    assert float((refined.poses - start.poses).norm(dim=-1).mean()) > 1e-3
    assert float(refined.poses[:, 0].abs().max()) == 0.0


def test_sequences_of_a_temporal_lifter_are_refined_apart(people):
    lifter = all_lifters()["videopose3d 27"].double().eval()
    stage = TTO(published(latent="feature", steps=4))
    guess = first_guess(people)
    together = stage.refine(lifter, people.unlabelled(), guess).poses
    one = people.select(lambda sequence: sequence.name == "clip2")
    alone = stage.refine(lifter, one.unlabelled(), rows_of(guess, slice(24, 36))).poses
    torch.testing.assert_close(together[24:36], alone, rtol=0, atol=1e-5)


# --- oracle, options ---


def test_the_true_root_is_flagged_and_must_be_handed_for_the_clips(people, lifter):
    assert TTO().label == "TTO"
    assert TTO(published(root="oracle")).label == "TTO (oracle root)"
    for roots in (None, people.poses[:5, 0]):
        with pytest.raises(ConfigError, match="true roots of these clips"):
            TTO(published(root="oracle"), oracle_root=roots).refine(
                lifter, people.unlabelled(), lift_clips(lifter, people)
            )


def test_mixed_cameras_are_refined_as_each_alone(people, lifter):
    guess = first_guess(people)
    together = TTO().refine(lifter, people.unlabelled(), guess).poses
    for name, rows in (("clip1", slice(12, 24)), ("clip3", slice(36, 48))):
        one = people.select(lambda sequence, name=name: sequence.name == name)
        only = replace(one, cameras=Camera.cat([one.cameras[i] for i in range(len(one.cameras))]))
        alone = TTO().refine(lifter, only.unlabelled(), rows_of(guess, rows)).poses
        torch.testing.assert_close(together[rows], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": "features"}, "Did you mean 'feature'"),
        ({"root": "truth"}, "oracle"),
        ({"lr": 0.0}, "lr"),
        ({"steps": -1}, "steps"),
        ({"chunk": 0}, "chunk"),
        ({"weight_anchor": -0.1}, "weight_anchor"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TTOConfig(**options)
    assert "\n" not in str(caught.value)
