"""Local pose augmentation: what the generator may change, and the game against hand-written formulas."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from poseda.engine.checkpoint import load_state, save_state
from poseda.errors import ConfigError
from poseda.skeleton import get_skeleton
from poseda.stages.base import Setting
from poseda.stages.gpa import GPA
from poseda.stages.lpa import LPA, LPAConfig
from poseda.stages.lpa.adversarial import (
    Adversary,
    ReplayPool,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from poseda.stages.lpa.crossover import LIMBS, Crossover
from poseda.stages.lpa.discriminator import (
    KCS,
    PARTS,
    KeypointDiscriminator,
    PairDiscriminator,
    PartLinear,
    PoseDiscriminator,
    keypoint_features,
    swap_bone_lengths,
)
from poseda.stages.lpa.generator import FROZEN_ANGLES, Head, PoseGenerator
from poseda.stages.lpa.stage import band_penalty
from poseda.stages.pipeline import AdaptConfig, AdaptTask

SKELETON = get_skeleton("h36m17")
FREE = {"angle": (1.0, 0.4), "length": (0.3, 0.2), "tilt": (1.0, 0.5), "yaw": (3.0, 1.0)}
STILL = {name: (0.0, 0.3) for name in FREE}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def make_generator(**changes):
    torch.manual_seed(3)
    return PoseGenerator(SKELETON, **{**FREE, **changes}, hidden=16, noise=8).double()


@pytest.fixture(scope="module")
def windows(random_people):
    """(6, 5, 17, 3) float64 windows with motion, in the camera frame."""
    people = torch.stack([random_people(6, seed=s, bend=0.3) for s in range(5)], 1)
    people = people * torch.linspace(0.85, 1.15, 6, dtype=torch.float64).view(6, 1, 1, 1)
    drift = 40.0 * torch.arange(5, dtype=torch.float64).view(1, 5, 1, 1) * torch.tensor([1.0, 0.2, -0.6])
    return people + torch.tensor([200.0, -100.0, 4000.0], dtype=torch.float64) + drift


def bones_of(poses):
    """Bone vectors by a loop over the tree, NumPy: (..., 16, 3), ordered by child."""
    poses = poses.detach().numpy()
    return np.stack([poses[..., c, :] - poses[..., p, :] for c, p in enumerate(SKELETON.parents) if p >= 0], -2)


def change_windows(windows, seed=0, **limits):
    generator = make_generator(**limits)
    middle = windows[:, 2] - windows[:, 2, :1]
    change = generator(middle, draws(seed))
    return generator.apply_to(windows, change), change


# --- generator ---


def test_a_change_is_bone_turns_then_lengths_then_a_turn_about_the_middle_root(windows):
    """Against a loop over windows, frames and bones with SciPy's rotations."""
    made, change = change_windows(windows)
    group_of = {bone: g for g, members in enumerate(SKELETON.bone_groups.values()) for bone in members}
    place = {name: bone for bone, name in enumerate(SKELETON.bone_names)}
    angles, lengths, rotation = (part.detach().numpy() for part in (change.angles, change.lengths, change.rotation))
    expected = np.zeros(windows.shape)
    for b in range(6):
        turn = Rotation.from_rotvec(rotation[b])
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
    assert min(abs(part).max() for part in (angles, lengths, rotation)) > 0.05


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
    frozen = [name in FROZEN_ANGLES for name in SKELETON.bone_names]
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


# --- crossover ---


def girdle_cosines(pose, limb):
    """Cosines of a limb's two bones with the line across its girdle and with the spine, by NumPy: (2, 2)."""
    at = {name: pose[i].numpy() for i, name in enumerate(SKELETON.joints)}
    leg = limb[0].endswith("knee")
    across = at["lhip"] - at["rhip"] if leg else at["lshoulder"] - at["rshoulder"]
    spine = at["thorax"] - at["pelvis"]
    side = limb[0][0]
    start = at[side + ("hip" if leg else "shoulder")]
    bones = [at[limb[0]] - start, at[limb[1]] - at[limb[0]]]
    across = across / np.linalg.norm(across)
    up = spine - (spine @ across) * across
    axes = [across, up / np.linalg.norm(up)]
    return np.array([[bone @ axis / np.linalg.norm(bone) for axis in axes] for bone in bones])


def test_exchanged_limbs_keep_their_angles_to_the_girdle_and_take_the_lengths_of_the_new_body(windows):
    swap = Crossover(SKELETON).double()
    made = swap(windows, 1.0, draws())
    before, after = (np.linalg.norm(bones_of(p), axis=-1) for p in (windows, made))
    np.testing.assert_allclose(after, before, rtol=1e-9)
    for b in range(6):
        for t in (0, 3):
            for limb in LIMBS:
                expected = girdle_cosines(windows[(b - 1) % 6, t], limb)
                np.testing.assert_allclose(girdle_cosines(made[b, t], limb), expected, atol=1e-9)
    limbs = [SKELETON.index(joint) for limb in LIMBS for joint in limb]
    trunk = [joint for joint in range(17) if joint not in limbs]
    torch.testing.assert_close(made[:, :, trunk], windows[:, :, trunk])
    assert float((made - windows)[:, :, limbs].norm(dim=-1).mean()) > 50


def test_a_limb_of_the_same_pose_turned_elsewhere_fits_as_it_is(windows):
    """Window b is window 0, turned as a whole: each takes over the limbs that it has already."""
    turns = torch.from_numpy(Rotation.from_rotvec(np.random.default_rng(0).normal(0, 1, (6, 3))).as_matrix())
    same_pose = (windows[:1] - windows[:1, 2:3, :1]) @ turns.mT.unsqueeze(1)
    torch.testing.assert_close(Crossover(SKELETON).double()(same_pose, 1.0, draws()), same_pose, rtol=0, atol=1e-6)


def test_limbs_are_exchanged_with_the_given_probability_by_the_generator_passed(random_people):
    poses = random_people(400, seed=5)[:, None]
    swap = Crossover(SKELETON).double()
    torch.testing.assert_close(swap(poses, 0.0, draws()), poses, rtol=0, atol=1e-6)
    made = swap(poses, 0.3, draws(1))
    changed = (made - poses).norm(dim=-1)[:, 0] > 1.0
    for limb in LIMBS:
        assert 0.2 < float(changed[:, SKELETON.index(limb[1])].double().mean()) < 0.4
    torch.manual_seed(9)
    assert torch.equal(swap(poses, 0.3, draws(1)), made)
    assert not torch.equal(swap(poses, 0.3, draws(2)), made)


# --- discriminators ---


def test_kcs_features_are_the_cosines_of_a_double_loop(random_people):
    poses = random_people(4, seed=8)
    bones = bones_of(poses)
    unit = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
    place = {name: bone for bone, name in enumerate(SKELETON.bone_names)}
    features = KCS(SKELETON).double()(poses).numpy()
    assert features.shape[:2] == (4, len(PARTS))
    for p, part in enumerate(PARTS):
        pairs = list(combinations([place[name] for name in part], 2))
        for k in range(features.shape[-1]):
            if k < len(pairs):
                a, b = pairs[k]
                np.testing.assert_allclose(features[:, p, k], (unit[:, a] * unit[:, b]).sum(-1), atol=1e-12)
            else:
                assert (features[:, p, k] == 0).all()


@pytest.mark.parametrize("name", ["h36m16", "lsp14", "coco17"])
def test_kcs_works_for_skeletons_that_lack_some_bones_of_the_parts(name):
    skeleton = get_skeleton(name)
    score = PoseDiscriminator(skeleton, hidden=4)(torch.randn(3, skeleton.num_joints, 3, generator=draws()) * 300)
    assert score.shape[0] == 3
    assert bool(score.isfinite().all())


def test_pose_scores_do_not_change_when_the_body_turns_moves_or_grows(random_people):
    pose = random_people(3, seed=9).float()
    judge = PoseDiscriminator(SKELETON, hidden=8)
    turn = torch.from_numpy(Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()).float()
    torch.testing.assert_close(judge(1.3 * pose @ turn.T + 500.0), judge(pose), rtol=1e-3, atol=1e-4)


def test_part_linear_is_one_linear_layer_a_part():
    layer, features = PartLinear(3, 5, 2), torch.randn(7, 3, 5, generator=draws())
    with torch.no_grad():
        layer.bias.normal_(generator=draws(1))
    out = layer(features).detach().numpy()
    for p in range(3):
        expected = features[:, p].numpy() @ layer.weight[p].detach().numpy() + layer.bias[p].detach().numpy()
        np.testing.assert_allclose(out[:, p], expected, rtol=1e-5, atol=1e-6)


def test_swapped_poses_have_their_own_directions_and_the_other_lengths(random_people):
    pose, other = random_people(4, seed=1), random_people(4, seed=2, size=1.2)
    swapped = swap_bone_lengths(pose, other, SKELETON)
    mine, theirs, made = (bones_of(p) for p in (pose, other, swapped))
    lengths = np.linalg.norm(theirs, axis=-1, keepdims=True)
    np.testing.assert_allclose(made, mine / np.linalg.norm(mine, axis=-1, keepdims=True) * lengths, atol=1e-6)


def test_keypoint_features_know_neither_place_nor_size_nor_missing_joints():
    points = torch.randn(5, 17, 2, generator=draws())
    visible = torch.rand(5, 17, generator=draws(1)) > 0.2
    visible[:, 0], visible[4, 0] = True, False
    features = keypoint_features(points, visible, 0)
    moved = 0.3 * points + torch.tensor([0.5, -0.2])
    torch.testing.assert_close(keypoint_features(moved, visible, 0), features)
    broken = points.masked_fill(~visible.unsqueeze(-1), 77.0)
    torch.testing.assert_close(keypoint_features(broken, visible, 0)[:4], features[:4])
    assert bool((features[~visible] == 0).all())
    assert bool((features[4] == 0).all())  # without a root there is nothing to be relative to
    side = np.ptp(points[0, visible[0]].numpy(), axis=0).mean()
    np.testing.assert_allclose(features[0, 9], (points[0, 9] - points[0, 0]) / side * visible[0, 9], rtol=1e-5)


# --- losses, penalty, pool ---


def test_adversarial_losses_are_the_published_formulas():
    real, fake = torch.tensor([[0.9], [0.4]]), torch.tensor([[0.2], [-0.5]])
    assert float(discriminator_loss(real, fake, "lsgan")) == pytest.approx(
        0.5 * ((0.1**2 + 0.6**2) / 2 + (0.2**2 + 0.5**2) / 2)
    )
    assert float(generator_loss(fake, "lsgan")) == pytest.approx((0.8**2 + 1.5**2) / 2)
    assert float(discriminator_loss(real, fake, "wgan-gp")) == pytest.approx(-0.15 - 0.65)
    assert float(generator_loss(fake, "wgan-gp")) == pytest.approx(0.15)


def test_gradient_penalty_of_a_linear_critic_is_in_closed_form():
    critic = nn.Linear(12, 1)
    real, fake = torch.randn(6, 4, 3, generator=draws()), torch.randn(6, 4, 3, generator=draws(1))
    penalty = gradient_penalty(nn.Sequential(nn.Flatten(), critic), real, fake, draws())
    norm = float(critic.weight.detach().norm())
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (norm - 1) / norm * critic.weight.detach())


def test_gradient_penalty_agrees_with_finite_differences_between_real_and_fake():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    share = torch.rand(4, generator=draws(7), dtype=torch.float64)[:, None]
    mixed = share * real + (1 - share) * fake
    norms = []
    for point in mixed:
        slopes = [(critic(point + 1e-6 * e) - critic(point - 1e-6 * e)).item() / 2e-6 for e in torch.eye(3).double()]
        norms.append(np.linalg.norm(slopes))
    expected = np.mean((np.array(norms) - 1) ** 2)
    penalty = gradient_penalty(critic, real, fake, draws(7)).detach()
    assert float(penalty) == pytest.approx(expected, rel=1e-6)


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1)


def test_the_pool_gives_back_half_fresh_and_half_earlier_samples():
    pool, generator = ReplayPool(100), draws()
    given = set()
    for step in range(20):
        fresh = numbered(*range(10 * step, 10 * step + 10))
        given |= set(fresh.flatten().tolist())
        out = pool.exchange(fresh, generator)
        assert out.shape == fresh.shape
        assert torch.equal(out[:5], fresh[5:])
        assert set(out.flatten().tolist()) <= given
    earlier = [value for value in out[5:].flatten().tolist() if value < 190]
    assert earlier, "nothing came back from earlier steps"


def test_the_pool_is_a_ring_that_forgets_the_oldest():
    pool, generator = ReplayPool(6), draws()
    for step in range(5):
        pool.exchange(numbered(*range(4 * step, 4 * step + 4)), generator)
    assert sorted(pool.samples.flatten().tolist()) == [14.0, 15.0, 16.0, 17.0, 18.0, 19.0]
    pool.exchange(numbered(*range(100, 110)), generator)  # more than it holds
    assert len(pool.samples) == 6
    assert bool((pool.samples >= 100).all())


def test_a_pool_of_size_0_gives_back_what_it_is_given():
    fresh = numbered(1, 2, 3)
    assert ReplayPool(0).exchange(fresh, draws()) is fresh


def make_adversary(kind="lsgan", pool=8):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
    return Adversary(network, kind=kind, penalty=10.0, lr=1e-2, betas=(0.5, 0.9), pool=pool)


def test_a_verdict_reaches_the_samples_and_not_the_discriminator():
    adversary = make_adversary()
    fake = torch.randn(5, 6, generator=draws()).requires_grad_(True)
    adversary.judge(fake).backward()
    assert float(fake.grad.abs().sum()) > 0
    assert all(p.grad is None and p.requires_grad for p in adversary.network.parameters())


@pytest.mark.parametrize("kind", ["lsgan", "wgan-gp"])
def test_a_discriminator_learns_to_tell_real_from_fake(kind):
    adversary, generator = make_adversary(kind), draws()
    real, fake = (torch.randn(64, 6, generator=generator) + shift for shift in (1.0, -1.0))
    fake.requires_grad_(True)
    for _ in range(60):
        learned = adversary.learn(real, fake, generator)
    assert float(learned["accuracy"]) > 0.9
    assert not learned["loss"].requires_grad
    assert fake.grad is None  # the samples are detached


def test_an_adversary_goes_on_from_a_saved_state_as_if_nothing_had_happened(tmp_path):
    first, second, generator = make_adversary(), make_adversary(), draws()
    batches = [torch.randn(2, 4, 6, generator=generator) for _ in range(6)]
    for real, fake in batches[:3]:
        first.learn(real, fake, draws(5))
    save_state(tmp_path / "state.pt", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    for real, fake in batches[3:]:
        a, b = (adversary.learn(real, fake, draws(6)) for adversary in (first, second))
        assert torch.equal(a["loss"], b["loss"])
    assert torch.equal(first.pool.samples, second.pool.samples)


def test_the_band_penalty_is_what_leaves_the_bands():
    angles = torch.zeros(3, 4, 3)
    angles[0, :, 1] = 1.0  # 1 - cos = 0.4597 for all bones: above the band
    angles[1, :2, 0] = 0.8  # mean 0.1516: inside
    lengths = torch.tensor([[0.05, -0.3], [0.0, 0.1], [0.25, 0.0]])
    change = SimpleNamespace(angles=angles, lengths=lengths)
    turn = np.array([1 - np.cos(1.0), (1 - np.cos(0.8)) / 2, 0.0])
    outside = np.mean([(turn[0] - 0.37) ** 2, 0.0, (0.04 - turn[2]) ** 2])
    longer = (0.2**2 + 0.15**2) / 6
    assert float(band_penalty(change, (0.04, 0.37), 0.1)) == pytest.approx(outside + longer, rel=1e-5)


# --- the stage ---


def prepared(clips, seed=0, **options):
    stage = LPA(LPAConfig(**options))
    source, target = clips
    stage.prepare(Setting(None, source, target.unlabelled(), 10, seed, draws(seed)))
    return stage


def weights(stage):
    networks = (stage.generator, stage.adversary_3d.network, stage.adversary_2d.network)
    return [p.detach().clone() for network in networks for p in network.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_first_weights_depend_on_the_seed_of_the_run_alone(tiny_clips):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(prepared(tiny_clips, seed=4))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, weights(prepared(tiny_clips, seed=4)))
    assert not same(first, weights(prepared(tiny_clips, seed=5)))


def make_task(clips, lifter, seed=0, **options):
    source, target = clips
    stages = [LPA(LPAConfig(**options)), GPA()]
    return AdaptTask(
        lifter.train(), source, target.unlabelled(), stages, AdaptConfig(steps=10, batch_size=16), seed=seed
    )


@pytest.mark.parametrize("loss", ["lsgan", "wgan-gp"])
@pytest.mark.parametrize("discriminator", ["sets", "pair"])
def test_both_discriminators_learn_with_both_losses(tiny_clips, small_lifter, discriminator, loss):
    task = make_task(tiny_clips, small_lifter(), discriminator=discriminator, loss=loss, pool=32)
    stage = task.stages[0]
    wanted = PoseDiscriminator if discriminator == "sets" else PairDiscriminator
    assert isinstance(stage.adversary_3d.network, wanted)
    assert isinstance(stage.adversary_2d.network, KeypointDiscriminator)
    before = weights(stage)
    for index in range(4):
        scalars = task.step(index)
        assert all(bool(value.isfinite()) and not value.requires_grad for value in scalars.values())
    networks = (stage.generator, stage.adversary_3d.network, stage.adversary_2d.network)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(stage), strict=True)]
    counts = np.cumsum([0] + [len(network.state_dict()) for network in networks])
    assert all(any(moved[a:b]) for a, b in pairwise(counts))
    assert all(bool(p.isfinite().all()) for p in weights(stage))


def test_a_stage_with_a_loaded_state_augments_and_learns_as_the_saved_one(tiny_clips, small_lifter, tmp_path):
    first = make_task(tiny_clips, small_lifter(dropout=0.0), pool=32)
    for index in range(3):
        first.step(index)
    save_state(tmp_path / "state.pt", first.state_dict())
    second = make_task(tiny_clips, small_lifter(dropout=0.0), seed=1, pool=32)
    assert not same(weights(first.stages[0]), weights(second.stages[0]))
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    for index in range(3, 6):
        a, b = first.step(index), second.step(index)
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert same(weights(first.stages[0]), weights(second.stages[0]))


def test_augmented_windows_keep_cameras_weights_and_place(tiny_clips, small_lifter):
    task = make_task(tiny_clips, small_lifter())
    batch = task.sources.draw(8, draws())
    batch = replace(batch, weight=torch.tensor([1.0, 0, 1, 1, 1, 1, 1, 0]))
    made = task.stages[0].augment(batch, draws(3))
    assert made.cameras is batch.cameras
    assert made.weight is batch.weight
    torch.testing.assert_close(made.poses[:, 0, 0], batch.poses[:, 0, 0])
    assert made.poses.requires_grad
    assert torch.equal(made.poses, task.stages[0].augment(batch, draws(3)).poses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": "set"}, "Did you mean 'sets'"),
        ({"loss": "wgan"}, "wgan-gp"),
        ({"discriminator_every": 0}, "discriminator_every"),
        ({"angle_band": (0.3, 0.1)}, "angle_band"),
        ({"angle_limit": -1.0}, "angle_limit"),
        ({"crossover": 1.5}, "crossover"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        LPAConfig(**options)
    assert "\n" not in str(caught.value)
