"""Stand-ins: bodies and motion stay human, the gap is the published one, and nothing passes for real."""

from __future__ import annotations

import time
from importlib import resources

import pytest
import torch

from poseda.data.domains import DomainConfig, load_domain
from poseda.data.standin.floor import bend_leg, hold_feet, put_on_floor
from poseda.data.standin.generate import generate_motion, interpolate, keep_knees, soften
from poseda.data.standin.statistics import load_statistics
from poseda.geometry.bones import bone_lengths, bone_vectors
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import normalise_screen
from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")


@pytest.fixture(scope="module")
def domains():
    """Both stand-ins, whole."""
    start = time.perf_counter()
    made = {name: load_domain(DomainConfig(name=name), root="/nowhere") for name in ("h36m", "3dhp")}
    made["seconds"] = time.perf_counter() - start
    return made


def placement(clips):
    """Mean 2D scale, root u and root v, as in PoseDA's figure."""
    cameras = clips.cameras_at(torch.arange(clips.num_frames))
    points = normalise_screen(clips.keypoints, cameras.width, cameras.height)
    values = (box_scale(points, clips.visible), points[:, 0, 0], points[:, 0, 1])
    return {name: (float(v.mean()), float(v.std())) for name, v in zip(("scale", "u", "v"), values, strict=True)}


def test_both_are_made_in_seconds_and_have_their_size(domains):
    assert domains["seconds"] < 10
    assert 40_000 < domains["h36m"].train.num_frames < 60_000
    assert 15_000 < domains["3dhp"].train.num_frames < 25_000
    assert all(5_000 < domains[name].test.num_frames < 8_000 for name in ("h36m", "3dhp"))


def test_subjects_are_those_of_the_data_sets(domains):
    assert domains["h36m"].train.subjects == ("S1", "S5", "S6", "S7", "S8")
    assert domains["h36m"].test.subjects == ("S11", "S9")
    assert domains["3dhp"].train.subjects == tuple(f"S{n}" for n in range(1, 9))
    assert domains["3dhp"].test.subjects == tuple(f"TS{n}" for n in range(1, 7))


def test_the_gap_is_the_published_one(domains):
    """PoseDA's figure: H36M scale 0.43 u 0.06 v -0.16, 3DHP scale 0.51 u -0.02 v 0.00."""
    source = placement(domains["h36m"].train)
    for part in (domains["3dhp"].train, domains["3dhp"].test):
        target = placement(part)
        assert target["scale"][0] > source["scale"][0] + 0.02 and target["v"][0] > source["v"][0] + 0.1
        assert target["scale"][0] == pytest.approx(0.51, abs=0.05) and target["v"][0] == pytest.approx(0, abs=0.15)
        assert target["scale"][1] == pytest.approx(0.13, abs=0.03) and target["u"][1] == pytest.approx(0.24, abs=0.06)
    assert source["scale"][0] == pytest.approx(0.43, abs=0.05) and source["v"][0] == pytest.approx(-0.16, abs=0.05)
    assert source["u"][1] == pytest.approx(0.22, abs=0.05) and source["v"][1] == pytest.approx(0.13, abs=0.05)


def test_hips_are_wide_in_one_and_narrow_in_the_other(domains):
    hip = {name: bone_lengths(domains[name].train.poses, SKELETON)[:, 0].mean() for name in ("h36m", "3dhp")}
    assert hip["h36m"] == pytest.approx(133, rel=0.08) and hip["3dhp"] == pytest.approx(86, rel=0.08)


def test_a_persons_bones_keep_their_length_and_match_left_to_right(domains):
    for name in ("h36m", "3dhp"):
        clips = domains[name].train
        lengths = bone_lengths(clips.poses, SKELETON)
        for subject in clips.subjects:
            mine = [i for i, sequence in enumerate(clips.sequences) if sequence.subject == subject]
            own = lengths[torch.isin(clips.sequence_index, torch.tensor(mine))]
            assert (own.amax(0) - own.amin(0)).max() < 0.1
            for left, right in SKELETON.bone_pairs:
                assert abs(own[0, left] - own[0, right]) < 0.1


@pytest.fixture(scope="module")
def world():
    """All classes, 8 clips each, with reach 1.2: (N, T, 17, 3) mm, and the class of each clip."""
    statistics = load_statistics()
    classes = torch.arange(len(statistics.classes)).repeat_interleave(8)
    lengths = torch.full((len(classes), 16), 300.0)
    motion = generate_motion(statistics, classes, 150, lengths, 1.2, torch.Generator().manual_seed(2))
    return motion, classes


def test_feet_or_whatever_is_lowest_stay_on_the_floor(world):
    lowest = world[0][..., 2].amin(-1)
    assert lowest.min() > 0 and lowest.max() < 900 and lowest.median() == pytest.approx(95, abs=15)
    standing = world[0][world[1] == load_statistics().index("drink")][..., 2].amin(-1)
    assert (standing - 85).abs().median() < 10 and standing.max() < 200


def test_feet_on_the_floor_hardly_slide(world):
    """Measured as on real motion, where the median is about 0.05 m/s and two thirds are below 0.2 m/s."""
    motion, classes = world
    grounded = load_statistics().grounded[classes] > 0
    ankles = motion[grounded][:, :, [3, 6]]
    low = ankles[..., 2] - ankles[..., 2].amin(2).quantile(0.05, dim=1)[:, None, None] < 40
    speed = (ankles[:, 2:, :, :2] - ankles[:, :-2, :, :2]).norm(dim=-1) * 25 / 1000
    sliding = speed[low[:, 1:-1]]
    assert sliding.median() < 0.1 and (sliding < 0.2).float().mean() > 0.6


def test_people_who_jump_leave_the_floor(world):
    jumps = world[0][world[1] == load_statistics().index("jump")]
    assert jumps[..., 2].amin(-1).max() > 250


def test_motion_is_smooth(world):
    velocity = world[0].diff(dim=1).norm(dim=-1) * 50 / 1000  # m/s
    assert velocity.max() < 15 and (velocity > 8).float().mean() < 1e-3 and velocity.median() < 1
    jerkiness = world[0].diff(n=2, dim=1).norm(dim=-1).median() / world[0].diff(dim=1).norm(dim=-1).median()
    assert jerkiness < 0.3


def test_walkers_walk_forward_within_the_capture_area(world):
    motion, classes = world
    walk = motion[classes == load_statistics().index("walk")]
    left = walk[:, :, 4] - walk[:, :, 1]
    forward = torch.stack([left[..., 1], -left[..., 0]], -1)
    forward = forward / forward.norm(dim=-1, keepdim=True)
    step = walk[:, 1:, 0, :2] - walk[:, :-1, 0, :2]
    speed = (step * forward[:, :-1]).sum(-1) * 50 / 1000
    assert 0.5 < speed.mean() < 1.4  # on legs of 0.6 m
    assert walk[:, :, 0, :2].norm(dim=-1).max() < 2500
    assert motion[..., :2].abs().max() < 4000


def test_legs_alternate_in_walking(world):
    motion, classes = world
    walk = motion[classes == load_statistics().index("walk")]
    left = walk[:, :, 4] - walk[:, :, 1]
    forward = torch.stack([left[..., 1], -left[..., 0], 0 * left[..., 0]], -1)
    right_leg = ((walk[:, :, 3] - walk[:, :, 1]) * forward).sum(-1).flatten()
    left_leg = ((walk[:, :, 6] - walk[:, :, 4]) * forward).sum(-1).flatten()
    assert torch.corrcoef(torch.stack([right_leg, left_leg]))[0, 1] < -0.4


def test_joint_angles_stay_in_the_measured_range(world):
    bones = torch.nn.functional.normalize(bone_vectors(world[0], SKELETON), dim=-1)
    place = {child: i for i, (_, child) in enumerate(SKELETON.bones)}
    for bone, (parent, _) in enumerate(SKELETON.bones):
        if parent not in place or SKELETON.bone_names[bone] in ("rankle", "lankle"):
            continue
        angle = (bones[..., bone, :] * bones[..., place[parent], :]).sum(-1).clamp(-1, 1).arccos()
        low, high = load_statistics().bend[bone]
        assert ((angle > low - 0.05) & (angle < high + 0.05)).float().mean() > 0.997


def test_no_knee_bends_forward(world):
    motion = world[0].double()
    left = torch.nn.functional.normalize(motion[..., 4, :] - motion[..., 1, :], dim=-1)
    for hip, knee, ankle in ((1, 2, 3), (4, 5, 6)):
        thigh = torch.nn.functional.normalize(motion[..., knee, :] - motion[..., hip, :], dim=-1)
        shank = torch.nn.functional.normalize(motion[..., ankle, :] - motion[..., knee, :], dim=-1)
        forward = torch.nn.functional.normalize(torch.linalg.cross(thigh, left), dim=-1)
        bend = (shank * forward).sum(-1)
        assert (bend < 0.12).double().mean() > 0.999 and bend.max() < 0.3  # 7 degrees, and 17


def test_a_forward_knee_is_straightened_and_a_bent_one_left():
    names = SKELETON.bone_names
    bones = torch.zeros(2, 16, 3)
    bones[:, names.index("lhip"), 1], bones[:, names.index("rhip"), 1] = 1.0, -1.0
    for name in ("rknee", "lknee", "rankle", "lankle"):
        bones[:, names.index(name), 2] = -1.0
    half = 0.5**0.5
    bones[0, names.index("rankle")] = torch.tensor([half, 0.0, -half])  # 45 degrees the wrong way
    bones[1, names.index("rankle")] = torch.tensor([-half, 0.0, -half])  # as a knee bends
    kept = keep_knees(bones, SKELETON)
    assert kept[0, names.index("rankle"), 0] < 0.1
    assert torch.allclose(kept[1], bones[1])


def test_interpolation_passes_through_the_states_and_keeps_lines():
    states = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    whole = torch.arange(1.0, 7.0).repeat(2, 1)
    assert torch.allclose(interpolate(states, whole), states[:, 1:7], atol=1e-6)
    line, times = torch.arange(9.0).view(1, 9, 1), torch.tensor([[1.0, 1.3, 1.35, 4.9, 7.0]])
    assert torch.allclose(interpolate(line, times)[..., 0], times, atol=1e-5)


def test_soft_bones_stay_unit_and_still_ones_stay():
    bones = torch.nn.functional.normalize(torch.randn(2, 30, 16, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    soft = soften(bones)
    assert torch.allclose(soft.norm(dim=-1), torch.ones(2, 30, 16), atol=1e-5)
    assert soft.diff(dim=1).norm(dim=-1).mean() < bones.diff(dim=1).norm(dim=-1).mean() / 2
    still = bones[:, :1].expand(-1, 30, -1, -1)
    assert torch.allclose(soften(still), still, atol=1e-5)


@pytest.fixture
def stander():
    """One clip of a person who stands with bent knees, root-relative, heading frame: (1, 40, 17, 3) mm."""
    place = {"pelvis": (0, 0, 0), "hip": (0, 100, 0), "knee": (120, 100, -400), "ankle": (0, 100, -800),
             "spine": (0, 0, 200), "thorax": (0, 0, 450), "nose": (0, 0, 560), "head": (0, 0, 680),
             "shoulder": (0, 150, 430), "elbow": (0, 200, 150), "wrist": (0, 200, -100)}  # fmt: skip
    rows = []
    for i, name in enumerate(SKELETON.joints):
        x, y, z = place[name if SKELETON.mirror[i] == i else name[1:]]
        rows.append((x, -y if SKELETON.mirror[i] != i and name[0] == "r" else y, z))
    return torch.tensor(rows, dtype=torch.float32).expand(1, 40, 17, 3).clone()


def test_a_swinging_body_is_carried_by_its_standing_foot(stander):
    """Feet that go back under the body at 1 m/s, one of them lifted, push it forward at 1 m/s, whatever moves say."""
    shift = torch.arange(40.0)[:, None, None] * torch.tensor([-20.0, 0.0, 0.0])
    stander[0, :, [2, 3]] += shift / 4  # the right leg stands
    stander[0, :, [2, 3]] += 3 * shift / 4
    stander[0, :, [5, 6], 2] += 200  # the left one is lifted
    moves = torch.tensor([0.8, 0.0, 0.0]).expand(1, 40, 3)
    grounded = torch.ones(1, dtype=torch.bool)
    world = put_on_floor(stander, moves, torch.zeros(1, 40), grounded, torch.Generator().manual_seed(0))
    foot = world[0, :, 3]
    assert (foot[:, 2] - 85).abs().max() < 1 and (foot[1:, :2] - foot[:1, :2]).norm(dim=-1).max() < 30
    step = world[0, :, 0, :2].diff(dim=0).norm(dim=-1).mean()
    assert step == pytest.approx(20, rel=0.2)  # the root is farther out on the circle than the foot
    free = put_on_floor(stander, moves, torch.zeros(1, 40), ~grounded, torch.Generator().manual_seed(0))
    assert free[0, :, 0, :2].diff(dim=0).norm(dim=-1).mean() == pytest.approx(16, rel=0.02)


def test_held_feet_stay_and_legs_keep_their_lengths(stander):
    drift = torch.arange(40.0)[:, None] * torch.tensor([2.0, 0.0, 0.0])
    moving = stander + drift[None, :, None]
    held = hold_feet(moving, torch.tensor([1.0, 0.0]).expand(1, 40, 2))
    assert (held[0, :, 3] - held[0, :1, 3]).norm(dim=-1).max() < 1.0
    assert torch.allclose(held[:, :, 6], moving[:, :, 6], atol=0.05)
    assert torch.allclose(held[:, :, [0, 1, 7, 13]], moving[:, :, [0, 1, 7, 13]])
    assert torch.allclose(bone_lengths(held, SKELETON), bone_lengths(moving, SKELETON), atol=0.05)


def test_a_leg_bends_to_its_goal_and_to_its_own_side():
    hip, knee, ankle = torch.zeros(3), torch.tensor([20.0, 0.0, -400.0]), torch.tensor([0.0, 0.0, -800.0])
    moved, foot = bend_leg(hip, knee, ankle, torch.tensor([100.0, 0.0, -750.0]))
    assert torch.allclose(foot, torch.tensor([100.0, 0.0, -750.0]), atol=1e-3)
    assert torch.allclose(moved.norm(), knee.norm()) and torch.allclose((moved - foot).norm(), (ankle - knee).norm())
    assert moved[0] > 100 * moved[2] / -750  # still before the line from hip to ankle
    _, foot = bend_leg(hip, knee, ankle, torch.tensor([0.0, 0.0, -2000.0]))
    assert 799 < -foot[2] < 801.1 and foot[0] == 0  # no farther than the leg reaches


def test_the_autoregressions_are_stable():
    for first, second in load_statistics().regression.double():
        size = len(first)
        companion = torch.cat([torch.cat([first, second], 1), torch.eye(size, 2 * size, dtype=torch.float64)], 0)
        assert torch.linalg.eigvals(companion).abs().max() < 0.99


def test_generated_clips_have_the_speed_and_the_lift_that_were_fitted():
    statistics = load_statistics()
    assert ((statistics.tempo > 0.39) & (statistics.tempo < 1.21)).all()
    assert (statistics.lift.diff(dim=1) >= 0).all() and (statistics.lift[statistics.grounded == 0] == 0).all()
    for number in range(len(statistics.classes)):
        assert statistics.share[statistics.of_class == number].sum() == pytest.approx(1, abs=1e-3)


def test_the_same_seed_makes_the_same_domain_and_another_seed_another(domains):
    again = load_domain(DomainConfig(name="3dhp"), root="/nowhere")
    assert torch.equal(again.train.poses, domains["3dhp"].train.poses)
    other = load_domain(DomainConfig(name="3dhp", seed=1), root="/nowhere")
    assert other.test.poses.shape != again.test.poses.shape or not torch.equal(other.test.poses, again.test.poses)


def test_a_stand_in_says_that_it_is_one_and_thanks_its_source(domains):
    for name in ("h36m", "3dhp"):
        for clips in (domains[name].train, domains[name].test):
            assert clips.provenance.kind == "stand-in" and clips.provenance.notes.startswith("stand-in for ")
            assert "mocap.cs.cmu.edu" in clips.provenance.licence and "EIA-0196217" in clips.provenance.licence


def test_the_statistics_are_a_small_file():
    file = resources.files("poseda.data.standin") / "motion_statistics.safetensors"
    assert len(file.read_bytes()) < 600_000
