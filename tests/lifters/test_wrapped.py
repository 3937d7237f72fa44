"""wrap() makes a lifter of any module, and refuses what is none with one clear line."""

import pytest
import torch
from torch import nn

from poseda.errors import ConfigError, ShapeError
from poseda.lifters.wrapped import wrap


class Plain(nn.Module):
    """(B, T, J, 2) -> (B, T, J, 3) through a body and a head."""

    def __init__(self, skip: bool = False, centre: bool = False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(34, 12), nn.BatchNorm1d(12), nn.ReLU())
        self.head = nn.Linear(12, 51)
        self.around = nn.Linear(34, 51) if skip else None
        self.centre = centre
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        flat = x.flatten(2).flatten(0, 1)
        y = self.head(self.body(flat))
        if self.around is not None:
            y = y + self.around(flat)
        y = y.view(*x.shape[:2], 17, 3)
        return y[:, x.shape[1] // 2, None] if self.centre else y


def centred(pose):
    return pose - pose[..., :1, :]


@pytest.mark.parametrize(("units", "scale"), [("m", 1000.0), ("mm", 1.0)])
def test_output_is_centred_on_the_root_and_in_mm(units, scale):
    module, keypoints = Plain().eval(), torch.rand(3, 1, 17, 2)
    pose = wrap(module, units=units)(keypoints).pose
    torch.testing.assert_close(pose, scale * centred(module(keypoints)))
    assert (pose[:, :, 0] == 0).all()


def test_output_form_is_read_off_the_module():
    assert wrap(Plain(), frames=5).output == "seq2seq"
    assert wrap(Plain(centre=True), frames=5).output == "seq2frame"
    assert wrap(Plain(), frames=1).output == "seq2seq"


def test_wrapping_changes_neither_modes_nor_statistics_nor_the_generator():
    module = Plain().train()
    module.head.eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    random = torch.get_rng_state()
    lifter = wrap(module, latent="body")
    assert lifter.training
    assert module.body.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("latent", [None, "body", "body.0"])
def test_decode_of_encode_is_forward(latent, frames):
    lifter = wrap(Plain().eval(), frames=frames, latent=latent)
    keypoints = torch.rand(3, frames, 17, 2)
    encoded = lifter.encode(keypoints)
    assert encoded.shape == (keypoints.shape if latent is None else (3 * frames, 12))
    torch.testing.assert_close(lifter.decode(encoded).pose, lifter(keypoints).pose)


def test_gradient_of_a_pose_reaches_the_latent():
    lifter = wrap(Plain().eval(), latent="body")
    latent = lifter.encode(torch.rand(2, 1, 17, 2)).detach().requires_grad_()
    lifter.decode(latent).pose[0, 0, 5, 2].backward()
    weight = 1000 * (lifter.module.head.weight[17] - lifter.module.head.weight[2])
    torch.testing.assert_close(latent.grad, torch.stack([weight, torch.zeros(12)]))


def test_no_hook_stays_on_the_module():
    module = Plain().eval()
    lifter = wrap(module, latent="body")
    lifter.decode(lifter.encode(torch.rand(1, 1, 17, 2)))
    assert not any(part._forward_hooks for part in module.modules())


def test_latent_that_something_goes_around_is_refused():
    with pytest.raises(ConfigError, match="do not follow from the output of 'body' alone"):
        wrap(Plain(skip=True).eval(), latent="body")


@pytest.mark.parametrize(("latent", "message"), [("bodi", "Did you mean 'body'"), ("unused", "does not run")])
def test_latent_that_is_not_there_is_refused(latent, message):
    with pytest.raises(ConfigError, match=message):
        wrap(Plain().eval(), latent=latent)


def test_decode_from_a_named_latent_needs_eval_mode():
    lifter = wrap(Plain(), latent="body").train()
    with pytest.raises(ConfigError, match="needs eval"):
        lifter.decode(torch.zeros(2, 12))


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, 17, 3), r"must return a tensor \(B, 1, 17, 3\); with B = 2 it returned \(2, 17, 3\)"),
        (torch.zeros(2, 1, 16, 3), r"returned \(2, 1, 16, 3\)"),
        (torch.full((2, 1, 17, 3), torch.nan), "not finite"),
        ((torch.zeros(2, 1, 17, 3), None), "not a tuple"),
    ],
)
def test_module_with_another_output_is_refused(value, message):
    with pytest.raises(ShapeError, match=message):
        wrap(Returns(value))


def test_module_that_fails_on_keypoints_is_refused_with_its_own_reason():
    with pytest.raises(ShapeError, match=r"Linear fails on keypoints \(2, 1, 17, 2\): RuntimeError"):
        wrap(nn.Linear(5, 3))


def test_unknown_unit_is_refused():
    with pytest.raises(ConfigError, match="no unit 'cm'"):
        wrap(Plain(), units="cm")


def test_what_is_no_module_is_told():
    with pytest.raises(ConfigError, match=r"wrap takes a torch\.nn\.Module; got int\."):
        wrap(3)
