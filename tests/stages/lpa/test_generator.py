"""What the generator of LPA may change, against loops with SciPy's rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.errors import ConfigError
from poseda.stages.lpa.generator import Head, PoseGenerator, turn_matrix
from tests.stages.lpa.people import SKELETON, bones_of, draws, walking

FREE = {"angle": (1.0, 0.4), "length": (0.3, 0.2), "tilt": (1.0, 0.5), "yaw": (3.0, 1.0)}
STILL = {name: (0.0, 0.3) for name in FREE}


@pytest.fixture(scope="module")
def windows(random_people):
    return walking(random_people)


def make_generator(**changes):
    torch.manual_seed(3)
    return PoseGenerator(SKELETON, **{**FREE, **changes}, hidden=16, noise=8).double()


def change_windows(windows, seed=0, **options):
    generator = make_generator(**options)
    middle = windows[:, 2] - windows[:, 2, :1]
    change = generator(middle, draws(seed))
    return generator.apply_to(windows, change), change


def test_a_change_is_bone_turns_then_lengths_then_a_turn_about_the_middle_root(windows):
    """Against a loop over windows, frames and bones with SciPy's rotations."""
    made, change = change_windows(windows)
    group_of = {bone: g for g, members in enumerate(SKELETON.bone_groups.values()) for bone in members}
    place = {name: bone for bone, name in enumerate(SKELETON.bone_names)}
    angles, lengths, rotation = (part.detach().numpy() for part in (change.angles, change.lengths, change.rotation))
    expected = np.zeros(windows.shape)
    for b in range(6):
        turn = Rotation.from_matrix(rotation[b])
        pivot = windows[b, 2, 0].numpy()
        for t in range(5):
            joints, old = np.zeros((17, 3)), bones_of(windows[b, t])
            for child, parent in enumerate(SKELETON.parents):
                if parent >= 0:
                    e = place[SKELETON.joints[child]]
                    bone = Rotation.from_rotvec(angles[b, e]).apply(old[e]) * (1 + lengths[b, group_of[e]])
                    joints[child] = joints[parent] + bone
            expected[b, t] = turn.apply(joints + windows[b, t, 0].numpy() - pivot) + pivot
    np.testing.assert_allclose(made.detach().numpy(), expected, atol=1e-6)
    assert min(abs(part).max() for part in (angles, lengths, rotation - np.eye(3))) > 0.05


def test_bone_lengths_stay_where_their_limit_is_0(windows):
    made, _ = change_windows(windows, length=(0.0, 0.2))
    before, after = (np.linalg.norm(bones_of(p), axis=-1) for p in (windows, made))
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_symmetric_bones_change_their_length_alike_and_within_the_limit(windows):
    made, _ = change_windows(windows)
    before, after = (np.linalg.norm(bones_of(p), axis=-1) for p in (windows, made))
    ratio = after / before
    for members in SKELETON.bone_groups.values():
        for bone in members[1:]:
            np.testing.assert_allclose(ratio[..., bone], ratio[..., members[0]])
    for left, right in SKELETON.bone_pairs:
        np.testing.assert_allclose(ratio[..., left], ratio[..., right])
    assert 0.03 < abs(ratio - 1).max() <= 0.3


def test_without_bone_changes_the_clip_turns_by_a_proper_rotation(windows):
    made, _ = change_windows(windows, angle=(0.0, 0.3), length=(0.0, 0.3))
    for b in range(6):
        before, after = (p[b] - p[b, 2, 0] for p in (windows, made.detach()))
        turn = np.linalg.lstsq(before.reshape(-1, 3).numpy(), after.reshape(-1, 3).numpy(), rcond=None)[0].T
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1.0)
        np.testing.assert_allclose(before.numpy() @ turn.T, after.numpy(), atol=1e-6)
        assert not np.allclose(turn, np.eye(3), atol=1e-2)


def test_frozen_bones_keep_their_direction_and_others_do_not(windows):
    made, _ = change_windows(windows, tilt=(0.0, 0.5), yaw=(0.0, 0.5))
    before, after = (bones_of(p) for p in (windows, made))
    cosine = (before * after).sum(-1) / np.linalg.norm(before, axis=-1) / np.linalg.norm(after, axis=-1)
    frozen = [name in ("spine", "thorax") for name in SKELETON.bone_names]
    np.testing.assert_allclose(cosine[..., frozen], 1.0, rtol=1e-12)
    assert cosine[..., np.invert(frozen)].mean() < 0.99


def test_all_frames_of_a_clip_change_alike(windows):
    made, change = change_windows(windows)
    generator = make_generator()
    for t in range(5):  # each frame alone, with the same change, has the same shape as inside its clip
        alone = generator.apply_to(windows[:, t : t + 1], change)[:, 0]
        inside = made[:, t]
        torch.testing.assert_close(alone - alone[:, :1], inside - inside[:, :1])


def test_the_middle_root_stays_where_it_is(windows):
    made, _ = change_windows(windows)
    torch.testing.assert_close(made[:, 2, 0], windows[:, 2, 0])
    assert float((made[:, 0, 0] - windows[:, 0, 0]).detach().norm(dim=-1).max()) > 1.0


def test_nothing_changes_where_all_limits_are_0(windows):
    made, _ = change_windows(windows, **STILL)
    torch.testing.assert_close(made, windows)


def test_draws_come_from_the_generator_that_is_passed_and_from_nowhere_else(windows):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    model, pose = make_generator(), windows[:, 2] - windows[:, 2, :1]
    torch.set_rng_state(before)
    first = model(pose, draws(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, other = model(pose, draws(1)), model(pose, draws(2))
    assert torch.equal(first.angles, again.angles)
    assert torch.equal(first.rotation, again.rotation)
    assert not torch.equal(first.angles, other.angles)


def test_gradients_reach_all_three_heads(windows):
    generator = make_generator()
    change = generator(windows[:, 2] - windows[:, 2, :1], draws())
    generator.apply_to(windows, change)[..., 1:, :].square().mean().backward()
    for head in (generator.angle_head, generator.length_head, generator.rotation_head):
        assert all(float(p.grad.abs().sum()) > 0 for p in head.parameters() if p.ndim > 1)


def test_the_divergence_is_that_of_the_normal_distributions_drawn_from():
    torch.manual_seed(0)
    limit, start = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.3, 0.2, 0.5])
    head = Head(5, limit, start, hidden=8)
    with torch.no_grad():
        head.body[-1].bias.add_(torch.randn(6) * 0.2)
    features = torch.randn(7, 5)
    head.eval()
    _, divergence = head(features, torch.randn(7, 3))
    mean, log_spread = head.body(features).chunk(2, -1)
    drawn, first = torch.distributions.Normal(mean, log_spread.exp()), torch.distributions.Normal(0.0, start)
    expected = torch.distributions.kl_divergence(drawn, first)[:, [0, 2]].sum(-1)  # what has limit 0 cannot move
    torch.testing.assert_close(divergence, expected)


# --- forms of angles and rotations ---


@pytest.mark.parametrize("rotation", ["yaw_tilt", "axis_angle", "sixd"])
def test_every_form_of_rotation_gives_proper_ones_and_the_identity_for_no_change(windows, rotation):
    _, change = change_windows(windows, rotation=rotation)
    matrices = change.rotation.detach()
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).double().expand(6, 3, 3), atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(6).double())
    assert float((matrices - torch.eye(3)).abs().amax()) > 0.1
    none = torch.zeros(2, {"yaw_tilt": 3, "axis_angle": 4, "sixd": 6}[rotation], requires_grad=True)
    still = turn_matrix(rotation, none)
    torch.testing.assert_close(still, torch.eye(3).expand(2, 3, 3))
    still.sum().backward()
    assert bool(none.grad.isfinite().all())


@pytest.mark.parametrize("rotation", ["yaw_tilt", "axis_angle", "sixd"])
def test_without_tilt_the_body_turns_about_the_cameras_vertical_alone(windows, rotation):
    _, change = change_windows(windows, rotation=rotation, tilt=(0.0, 0.5))
    down = torch.tensor([0.0, 1.0, 0.0]).double()
    torch.testing.assert_close(change.rotation @ down, down.expand(6, 3), atol=1e-6, rtol=0)
    assert float((change.rotation.detach() - torch.eye(3)).abs().amax()) > 0.1


def test_an_axis_and_an_angle_turn_no_further_than_the_limit(windows):
    _, change = change_windows(windows, rotation="axis_angle", tilt=(0.3, 2.0), yaw=(0.5, 2.0))
    angles = Rotation.from_matrix(change.rotation.detach().numpy()).magnitude()
    assert 0.1 < angles.max() <= 0.5 + 1e-9


@pytest.mark.parametrize("angles", ["axis_angle", "additive"])
@pytest.mark.parametrize("clip", ["constant", "ramp"])
def test_lengths_are_constant_and_angles_smooth_over_a_clip(windows, angles, clip):
    """A person who stands still while the camera runs: what changes along the clip is the augmentation alone."""
    still = windows[:, :1].expand(6, 9, 17, 3)
    generator = make_generator(angles=angles, clip=clip, angle=(0.5, 0.3), tilt=(0.0, 0.5), yaw=(0.0, 0.5))
    change = generator(still[:, 4] - still[:, 4, :1], draws())
    bones = bones_of(generator.apply_to(still, change))
    lengths = np.linalg.norm(bones, axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:, :1], lengths.shape), rtol=1e-9)
    unit = bones / lengths[..., None]
    steps = np.arccos(np.clip((unit[:, 1:] * unit[:, :-1]).sum(-1), -1, 1))
    if clip == "constant":
        np.testing.assert_allclose(steps, 0, atol=1e-6)
    else:
        assert steps.max() > 0.05
        jumps = np.abs(np.diff(steps, axis=1))
        assert jumps.max() < 0.5 * steps.max()
        middle = bones_of(make_generator(angles=angles, tilt=(0.0, 0.5), yaw=(0.0, 0.5)).apply_to(still[:, :1], change))
        np.testing.assert_allclose(bones[:, 4], middle[:, 0], atol=1e-9)


def test_bone_groups_are_held_by_name(windows):
    held = {"frozen_angles": ("forearm",), "frozen_lengths": ("torso", "thigh")}
    made, _ = change_windows(windows, tilt=(0.0, 0.5), yaw=(0.0, 0.5), **held)
    before, after = (bones_of(p) for p in (windows, made))
    lengths = [np.linalg.norm(bones, axis=-1) for bones in (before, after)]
    same_length = np.isclose(lengths[0], lengths[1], rtol=1e-9).all((0, 1))
    same_direction = np.isclose(before / lengths[0][..., None], after / lengths[1][..., None]).all((0, 1, 3))
    groups = SKELETON.bone_groups
    assert np.flatnonzero(same_length).tolist() == sorted(groups["torso"] + groups["thigh"])
    assert np.flatnonzero(same_direction).tolist() == sorted(groups["forearm"])
    with pytest.raises(ConfigError, match="frozen_lengths 'torsoo'"):
        make_generator(frozen_lengths=("torsoo",))


def test_signs_of_a_collapse_are_measured(windows):
    _, usual = change_windows(windows)
    assert float(usual.at_limit) < 0.3
    assert 0.3 < float(usual.variety) < 2
    _, pressed = change_windows(windows, angle=(1e-3, 10.0), length=(1e-3, 10.0), tilt=(1e-3, 9.0), yaw=(1e-3, 9.0))
    assert float(pressed.at_limit) > 0.95
    generator = make_generator()
    with torch.no_grad():
        for head in (generator.angle_head, generator.length_head, generator.rotation_head):
            head.body[-1].weight.zero_()
            head.body[-1].bias.fill_(-20.0)
    alike = generator(windows[:, 2] - windows[:, 2, :1], draws())
    assert float(alike.variety) < 1e-3
    _, still = change_windows(windows, **STILL)
    assert float(still.variety) == 1.0 and float(still.at_limit) == 0.0
