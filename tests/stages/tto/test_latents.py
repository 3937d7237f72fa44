"""What moves: latents at named modules, where only what follows is run, main directions, and both branches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips, mirror_keypoints, mirror_poses, screen_keypoints
from poseda.lifters.wrapped import wrap
from poseda.stages.tto import TTO
from poseda.stages.tto.latents import feature_directions, make_latent
from poseda.stages.tto.replay import Replay
from tests.stages.tto.people import first_guess, published, rows_of

# lifter, options, a module inside, modules that must not run again when it is the tail
LIFTERS = {
    "simplebaseline": ({"hidden": 16}, "linear_stages.1", {"w1", "linear_stages.0"}),
    "gumlp": ({"channels": 8, "blocks": 2}, "GCN_MLP.blocks.1", {"encoder", "GCN_MLP.blocks.0"}),
    "semgcn": ({}, "gconv_output", set()),
    "videopose3d": ({"frames": 27, "channels": 8}, "shrink", {"expand_conv"}),
    "mixste": ({"frames": 9, "dim": 16, "depth": 2}, "TTEblocks.1", {"STEblocks.0", "TTEblocks.0"}),
}


def made(name):
    options, module, before = LIFTERS[name]
    try:
        lifter = create_lifter(name, seed=0, **options).double().eval()
    except ConfigError:
        lifter = create_lifter(name, seed=0).double().eval()
    return lifter, module, before


class Counter:
    """Which modules' own forward runs."""

    def __init__(self, lifter):
        self.ran = []
        for name, module in lifter.named_modules():
            if name:
                self._watch(name, module)

    def _watch(self, name, module):
        forward = module.forward

        def call(*inputs, **named):
            self.ran.append(name)
            return forward(*inputs, **named)

        module.forward = call


@pytest.mark.parametrize("side", ["output", "input"])
@pytest.mark.parametrize("name", list(LIFTERS))
def test_a_replay_gives_what_the_lifter_gives_and_runs_only_what_follows(name, side):
    lifter, module, before = made(name)
    keypoints = torch.rand(3, lifter.frames, 17, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keypoints = keypoints[:, :, : lifter.skeleton.num_joints]
    expected = lifter(keypoints).pose
    counter = Counter(lifter)
    replay = Replay(lifter, module, keypoints, at_input=side == "input")
    torch.testing.assert_close(replay.output.pose, expected)
    counter.ran.clear()
    torch.testing.assert_close(replay(replay.start).pose, expected)
    torch.testing.assert_close(replay(replay.start).pose, expected)
    assert not any(ran.startswith(tuple(before)) for ran in counter.ran if before)
    assert any(ran.startswith(module) for ran in counter.ran) == (side == "input")
    moved = replay.start.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(replay(moved).pose.sum(), moved)
    assert float(gradient.abs().max()) > 0


def test_the_tails_gradient_is_that_of_the_whole_network():
    """Adding a constant to a block's input by a hook, in the whole network, is what the replay does."""
    lifter, module, _ = made("gumlp")
    keypoints = torch.rand(2, 1, 17, 2, dtype=torch.float64)
    replay = Replay(lifter, module, keypoints, at_input=True)
    shift = 0.1 * torch.randn(replay.start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    handle = lifter.get_submodule(module).register_forward_pre_hook(lambda _, inputs: (inputs[0] + shift,))
    expected = lifter(keypoints).pose
    handle.remove()
    torch.testing.assert_close(replay(replay.start + shift).pose, expected)
    torch.testing.assert_close(lifter(keypoints).pose, replay.output.pose)  # and the lifter is left as it was


class Twice(nn.Module):
    """Runs one layer twice, and writes into what another gave."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(34, 16), nn.Linear(16, 16), nn.Linear(16, 51)

    def forward(self, keypoints):
        x = self.first(keypoints.flatten(2))
        x += 1.0
        return self.last(self.shared(torch.tanh(self.shared(x)))).unflatten(-1, (17, 3))


def test_modules_that_run_twice_or_are_written_into_are_handled():
    lifter = wrap(Twice()).double().eval()
    keypoints = torch.rand(3, 1, 17, 2, dtype=torch.float64)
    replay = Replay(lifter, "module.last", keypoints, at_input=True)
    for _ in range(3):
        torch.testing.assert_close(replay(replay.start).pose, replay.output.pose)
    with pytest.raises(ConfigError, match="runs 2 times"):
        Replay(lifter, "module.shared", keypoints, at_input=True)
    with pytest.raises(ConfigError, match=r"Did you mean 'module\.last'"):
        Replay(lifter, "module.lasst", keypoints, at_input=True)


@pytest.mark.parametrize("latent", ["feature", "tail"])
@pytest.mark.parametrize("name", ["simplebaseline", "videopose3d"])
def test_a_latent_at_a_module_refines(people, name, latent):
    lifter, module, _ = made(name)
    guess = first_guess(people)
    stage = TTO(published(latent=latent, module=module, steps=3))
    refined = stage.refine(lifter, people.unlabelled(), guess)
    assert float((refined.poses - guess.poses).norm(dim=-1).mean()) > 0.05
    assert f"{module} is run again" in stage.remark()


def test_at_the_encoders_end_a_module_is_the_feature(people):
    """The module whose output is the encoder's own: both run the same part, and move alike."""
    lifter, _, _ = made("simplebaseline")
    last = next(name for name, m in reversed(list(lifter.named_modules())) if name.count(".") == 1)
    keypoints = screen_keypoints(people)[:4, None]
    latent = make_latent(lifter, keypoints, published(latent="feature", module="linear_stages.1"), None)
    assert last.startswith("linear_stages")
    torch.testing.assert_close(latent.start.flatten(), lifter.encode(keypoints).flatten())
    torch.testing.assert_close(latent.decode(latent.start).pose, lifter(keypoints).pose)


def test_directions_are_the_main_ones_of_the_feature(people):
    lifter, _, _ = made("simplebaseline")
    found = feature_directions(lifter, people, 5)
    features = lifter.encode(screen_keypoints(people)[:, None]).detach().flatten(1).numpy()
    _, values, vectors = np.linalg.svd(features - features.mean(0), full_matrices=False)
    np.testing.assert_allclose(found.norm(dim=-1).numpy(), values[:5] / np.sqrt(47))
    overlap = np.abs((found / found.norm(dim=-1, keepdim=True)).numpy() @ vectors[:5].T)
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-6)
    with pytest.raises(ConfigError, match="at most 47"):
        feature_directions(lifter, people, 48)


@pytest.mark.parametrize("name", ["simplebaseline", "videopose3d", "mixste"])
def test_lowrank_moves_in_its_directions_alone(people, name):
    lifter, _, _ = made(name)
    stage = TTO(published(latent="lowrank", directions=3, lr=0.1, steps=3))
    with pytest.raises(ConfigError, match="calibrate"):
        stage.refine(lifter, people.unlabelled(), first_guess(people))
    stage.calibrate(lifter, people)
    guess = first_guess(people)
    refined = stage.refine(lifter, people.unlabelled(), guess)
    assert refined.poses.shape == guess.poses.shape
    assert float((refined.poses - guess.poses).norm(dim=-1).mean()) > 1e-3
    one = people.select(lambda sequence: sequence.name == "clip1")
    alone = stage.refine(lifter, one.unlabelled(), rows_of(guess, slice(12, 24))).poses
    torch.testing.assert_close(refined.poses[12:24], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("latent", ["input", "feature"])
def test_both_branches_are_the_published_loop_step_by_step(people, small_lifter, latent):
    """Two separate passes, each with its own latent, Adam and anchor, and the mean of the two, by hand."""
    from tests.stages.tto.people import observe, value

    lifter = small_lifter().double().eval()
    lifted = lift_clips(lifter, people, flip=True)
    config = published(latent=latent, flip=True, steps=4, lr=1e-3, root="oracle")
    stage = TTO(config, oracle_root=people.poses[:, 0])
    refined = stage.refine(lifter, people.unlabelled(), lifted).poses
    screen, parts = screen_keypoints(people)[:, None], []
    for mirrored in (False, True):
        x = mirror_keypoints(screen, lifter.skeleton) if mirrored else screen
        run = lifter if latent == "input" else lifter.decode

        def pose_of(z, run=run, mirrored=mirrored):
            output = run(z)
            pose, sigma = output.pose[:, 0], output.log_sigma[:, 0].exp()
            if not mirrored:
                return pose, sigma
            return mirror_poses(pose, lifter.skeleton), sigma[:, list(lifter.skeleton.mirror)]

        z = (x if latent == "input" else lifter.encode(x)).detach().clone().requires_grad_(True)
        first = LiftedClips(*(part.detach() for part in pose_of(z)))
        first = LiftedClips(first.poses, first.sigma.clamp_min(1.0))
        optimizer = torch.optim.Adam([z], lr=1e-3)
        seen = observe(people, first, people.poses[:, 0])
        for _ in range(4):
            optimizer.zero_grad()
            value(pose_of(z)[0], seen, config).sum().backward()
            optimizer.step()
        parts.append(pose_of(z)[0].detach())
    torch.testing.assert_close(refined, sum(parts) / 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("latent", ["input", "feature", "tail"])
@pytest.mark.parametrize("name", ["videopose3d", "mixste"])
def test_clips_are_looked_at_through_a_temporal_lifter(people, name, latent):
    lifter, module, _ = made(name)
    config = published(
        latent=latent, module=module if latent == "tail" else "", weight_bones=0.1, weight_jerk=0.1, root="clip",
        steps=2, lr=1e-3, flip=True, chunk=20,
    )  # fmt: skip
    guess = first_guess(people)
    together = TTO(config).refine(lifter, people.unlabelled(), guess).poses
    one = people.select(lambda sequence: sequence.name == "clip2")
    alone = TTO(config).refine(lifter, one.unlabelled(), rows_of(guess, slice(24, 36))).poses
    torch.testing.assert_close(together[24:36], alone, rtol=0, atol=1e-5)
    assert float((together - guess.poses).norm(dim=-1).mean()) > 1e-3
