"""KTPFormer's priors before other transformers: what they compute, what they add, and that nothing else changes."""

import pytest
import torch

from poseda.engine.export import _traced
from poseda.errors import ConfigError
from poseda.lifters import create_lifter, list_lifters
from poseda.lifters.base import gather_frames
from poseda.lifters.priors import TokenKinematics, token_priors
from poseda.skeleton import get_skeleton
from tests.lifters.published import check_lifter, shapes, stirred
from tests.lifters.test_every_lifter import SMALL

TAKERS = ("hot", "hot_motionagformer", "hot_motionbert", "mixste", "motionagformer", "motionbert", "poseformer")


def test_the_lifters_that_take_a_prior_are_these():
    takers = [name for name in list_lifters() if "prior" in create_lifter(name, **SMALL[name]).options]
    assert tuple(takers) == TAKERS


@pytest.mark.parametrize("name", TAKERS)
def test_a_lifter_with_a_prior_lifts_windows_and_has_all_the_weights_it_has_without(name):
    lifter = stirred(name, **SMALL[name], prior="ktp")
    for norm in (part for part in lifter.modules() if isinstance(part, torch.nn.BatchNorm1d)):
        norm.running_mean.zero_()  # stirred, it would silence each ReLU behind the small tokens of fresh networks
    check_lifter(lifter)
    plain = shapes(create_lifter(name, **SMALL[name]))
    assert not any("prior" in key for key in plain)
    assert {key: shape for key, shape in shapes(lifter).items() if "prior" not in key} == plain


def test_the_prior_joins_all_frames_and_joints_of_a_window_and_no_other_window():
    skeleton = get_skeleton("h36m17")
    prior = token_priors("ktp", 8, 2, 2.0, skeleton, 5).eval()
    x = torch.randn(2, 5, 17, 8, requires_grad=True)
    prior(x)[0, 2, 3].sum().backward()
    assert (x.grad[0].abs().sum(-1) > 0).all() and (x.grad[1] == 0).all()


def test_the_kinematic_prior_is_graph_layer_then_attention_by_loops():
    skeleton = get_skeleton("h36m17")
    layer = TokenKinematics(8, 2, skeleton).double().eval()
    x = torch.randn(1, 2, 17, 8, dtype=torch.float64)
    with torch.no_grad():
        graphed = x + layer.kpa(x)
        q, k, v = layer.qkv(layer.norm1(graphed)).unflatten(-1, (3, 2, 4)).unbind(-3)
        heard = torch.zeros_like(q)
        for frame in range(2):
            for head in range(2):
                for joint in range(17):
                    scores = [float(q[0, frame, joint, head] @ k[0, frame, other, head]) / 2 for other in range(17)]
                    weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
                    heard[0, frame, joint, head] = sum(weights[o] * v[0, frame, o, head] for o in range(17))
        expected = graphed + layer.proj(heard.flatten(-2))
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_a_prior_leaves_the_first_weights_of_a_seed_as_they_are():
    with_prior = create_lifter("motionbert", seed=3, **SMALL["motionbert"], prior="ktp").state_dict()
    without = create_lifter("motionbert", seed=3, **SMALL["motionbert"]).state_dict()
    assert all(torch.equal(with_prior[key], value) for key, value in without.items() if "sigma" not in key)


def test_poseformer_with_a_prior_still_shares_frames_between_windows():
    lifter = stirred("poseformer", **SMALL["poseformer"], prior="ktp").double()
    frames = torch.rand(20, 17, 2, dtype=torch.float64) * 2 - 1
    windows = (torch.arange(20)[:, None] + torch.arange(-4, 5)).clamp(0, 19)
    with torch.no_grad():
        shared, alone = lifter.lift_windows(frames, windows), lifter(gather_frames(frames, windows))
    torch.testing.assert_close(shared.pose, alone.pose, rtol=1e-10, atol=1e-8)


@torch.no_grad()
def test_a_lifter_with_a_prior_can_be_traced():
    lifter = stirred("mixste", **SMALL["mixste"] | {"depth": 1}, prior="ktp")
    keypoints = torch.rand(5, 9, 17, 2)
    poses, _ = _traced(lifter)[0].module()(keypoints)
    torch.testing.assert_close(poses, lifter(keypoints).pose, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", TAKERS)
def test_an_unknown_prior_is_refused(name):
    with pytest.raises(ConfigError, match="prior"):
        create_lifter(name, **SMALL[name], prior="kpt")
