"""ISO: the cycle against known lifters and finite differences, independence of samples, resets, its command."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from poseda.data.clips import concatenate
from poseda.engine.streaming import PoseStream, StreamConfig, StreamFrame
from poseda.errors import ConfigError
from poseda.geometry.camera import normalise_screen
from poseda.geometry.rigs import load_rig
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips
from poseda.stages.hypotheses import Hypotheses, HypothesesConfig
from poseda.stages.iso import ISO, ISOConfig
from poseda.stages.iso.copies import Copies, moving_names
from poseda.stages.iso.critic import train_critic
from poseda.stages.iso.cycle import Seen, cycle_losses, draw_views, implausible
from poseda.stages.iso.learner import Learner
from poseda.stages.iso.pieces import cut_groups, look
from poseda.stages.iso.stream import StreamingISO

CYCLE = ISOConfig(mode="vanilla", steps=3, lr=1e-2)


@pytest.fixture(scope="module")
def people(make_clips):
    """5 sequences of 9 frames in float64 before the cameras of 3DHP's test set, with distortion."""
    clips = make_clips(sequences=5, frames=9, cameras=load_rig("3dhp_test").cameras)
    cameras, poses = clips.cameras.to(dtype=torch.float64), clips.poses.double()
    pixels = cameras[clips.camera_index].project(poses)
    return replace(clips, poses=poses, keypoints=pixels, confidence=clips.confidence.double(), cameras=cameras)


def standing(clips, name="simplebaseline", **options):
    """A lifter that gives about the mean pose, so that a root fits, and moves a little with its input."""
    lifter = create_lifter(name, seed=0, **options).double().eval()
    last = [part for part in lifter.modules() if isinstance(part, nn.Linear | nn.Conv1d)]
    mean = (clips.poses - clips.poses[:, :1]).mean(0).flatten() / 1000
    with torch.no_grad():
        for layer in last:
            if layer.bias is not None and len(layer.bias) in (48, 51):  # without and with the root
                layer.bias.copy_(mean[-len(layer.bias) :])
                layer.weight.mul_(0.3)
    return lifter


@pytest.fixture
def lifter(people):
    return standing(people, hidden=16, blocks=1)


def seen_of(clips):
    rows = torch.arange(clips.num_frames)
    return Seen(clips.keypoints[:, None], clips.confidence[:, None], clips.cameras_at(rows))


def views(count=3, seed=0, yaw=0.8):
    return draw_views(count, yaw, 0.2, torch.Generator().manual_seed(seed), torch.zeros(1, dtype=torch.float64))


# --- the cycle ---


def test_a_perfect_lifter_pays_nothing_and_another_one_does(people):
    """The known lifter answers with the pose whose turned 2D it is shown."""
    root = people.poses[:, :1]
    pose = people.poses - root
    turns = views()
    turned = torch.einsum("kab,njb->nkja", turns, pose)
    shown = []

    def lift(screen):
        shown.append(screen)
        return turned[:, :, None]

    losses = cycle_losses(pose[:, None], lift, seen_of(people), turns, None, 0)
    assert float(losses.three_d.max()) < 1e-12 and float(losses.two_d.max()) < 1e-8
    cameras = people.cameras_at(torch.arange(people.num_frames))
    expected = normalise_screen(cameras.project(turned + root[:, None]), cameras.width, cameras.height)
    torch.testing.assert_close(shown[0][:, :, 0], expected, rtol=0, atol=1e-4)  # the root was solved for
    wrong = cycle_losses(pose[:, None], lambda _: turned[:, :, None].roll(9, 0), seen_of(people), turns, None, 0)
    assert float(wrong.three_d.min()) > 1e-3 and float(wrong.two_d.min()) > 1e-5


def test_losses_are_shares_of_the_persons_size(people):
    """A lifter that is off by the same share at half the size and half the distance pays the same."""
    noise = 0.1 * torch.randn(45, 3, 1, 17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    turns, values = views(), []
    for scale in (1.0, 0.5):
        pose = scale * (people.poses - people.poses[:, :1])
        back = torch.einsum("kab,njb->nkja", turns, pose)[:, :, None] + scale * 300 * noise
        losses = cycle_losses(pose[:, None], lambda _, back=back: back, seen_of(people), turns, None, 0)
        values.append(torch.stack([losses.three_d, losses.two_d]))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-9)


def test_gradients_of_all_three_losses_agree_with_finite_differences(people, lifter):
    """With the root given: it is a constant of each step."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(34, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    clips = people._take(torch.arange(45) % 20 == 0)
    recipe = ISOConfig(weight_3d=0.7, weight_2d=1.3, weight_adversarial=0.5).recipe
    learner, copies = Learner(lifter, recipe, critic), Copies(lifter, moving_names(lifter, "norm"), 3, 1e-3)
    wide, seen = look(clips, cut_groups(clips.bounds, lifter, 1))
    names = list(copies.weights)

    def total(*values):
        weights = dict(zip(names, values, strict=True))
        return learner.loss(copies, weights, wide, seen, views(2), clips.poses[:, None, 0])

    leaves = [copies.weights[name].clone().requires_grad_(True) for name in names]
    assert torch.autograd.gradcheck(total, leaves, eps=1e-6, atol=1e-6)


def test_views_are_rotations_spread_evenly_and_drawn_from_the_generator_alone():
    turns = views(4, yaw=torch.pi)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    yaws = torch.atan2(turns[:, 0, 2], turns[:, 2, 2])
    assert float(yaws.sort().values.diff().max()) < 2.2  # a quarter turn, blurred by tilts
    torch.manual_seed(5)
    assert torch.equal(turns, views(4, yaw=torch.pi)) and not torch.equal(turns, views(4, 1, torch.pi))


def test_the_discriminator_tells_source_2d_from_views_of_a_poor_lifter(people, lifter):
    critic = train_critic(lifter, people, steps=80, yaw=0.8, tilt=0.2, seed=0)
    again = train_critic(lifter, people, steps=80, yaw=0.8, tilt=0.2, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(critic.parameters(), again.parameters(), strict=True))
    real = seen_of(people).screen()[:, None]
    fake = real + 0.05 * torch.randn(real.shape, dtype=real.dtype, generator=torch.Generator().manual_seed(0))
    assert float(implausible(critic, real, 0).mean()) < 0.5 * float(implausible(critic, fake, 0).mean())


# --- which weights ---


def test_norm_head_and_all_are_what_they_say(lifter):
    assert {name.rpartition(".")[0].split(".")[-1] for name in moving_names(lifter, "norm")} == {
        "batch_norm1", "batch_norm2"
    }  # fmt: skip
    assert moving_names(lifter, "head") == ("w2.weight", "w2.bias")  # sigma's head has no say in poses
    everything = {name for name, _ in lifter.named_parameters()}
    assert set(moving_names(lifter, "all")) == {name for name in everything if not name.startswith("w_sigma")}


def test_copies_step_as_torchs_adam_does(people, lifter):
    names = moving_names(lifter, "head")
    copies = Copies(lifter, names, 1, 1e-3)
    keypoints = seen_of(people).screen()[None]
    for _ in range(3):
        weights = copies.taken(1)
        copies.step(weights, copies.lift(weights, keypoints, 1).square().mean())
    optimizer = torch.optim.Adam([dict(lifter.named_parameters())[name] for name in names], lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        lifter(keypoints[0]).pose.square().mean().backward()
        optimizer.step()
    for name in names:
        torch.testing.assert_close(copies.weights[name][0], dict(lifter.named_parameters())[name].detach())


# --- the stage ---


def change(stage, lifter, clips):
    lifted = lift_clips(lifter, clips)
    return stage.refine(lifter, clips.unlabelled(), lifted).poses - lifted.poses


@pytest.mark.parametrize("weights", ["norm", "head", "all"])
@pytest.mark.parametrize("mode", ["vanilla", "online"])
def test_learning_lowers_its_loss_and_leaves_the_lifter_as_it_was(people, lifter, mode, weights):
    config = replace(CYCLE, mode=mode, weights=weights, lr=1e-2 if weights == "norm" else 1e-4)
    before = {name: value.clone() for name, value in lifter.state_dict().items()}
    moved = change(ISO(config), lifter.train(), people)
    assert lifter.training
    assert all(torch.equal(value, before[name]) for name, value in lifter.state_dict().items())
    assert bool(moved.isfinite().all()) and float(moved.norm(dim=-1).mean()) > 0.1
    assert float(moved[:, 0].abs().max()) == 0


def test_the_loss_falls_on_what_was_learned_from(people, lifter):
    learner = Learner(lifter.eval(), replace(CYCLE, steps=20, lr=3e-3).recipe, None)
    copies = Copies(lifter, moving_names(lifter, "norm"), 45, 3e-3)
    wide, seen = look(people, cut_groups(people.bounds, lifter, 1))
    before = learner.loss(copies, copies.taken(45), wide, seen, views(4))
    real = torch.ones(45, 1, dtype=torch.float64)
    learner.learn(copies, wide, seen, real, torch.Generator().manual_seed(0))
    after = learner.loss(copies, copies.taken(45), wide, seen, views(4))
    assert bool((after < before).double().mean() > 0.9)


@pytest.mark.parametrize(("weights", "group"), [("norm", 1), ("head", 1), ("all", 3)])
def test_a_vanilla_result_depends_on_its_group_alone(people, lifter, weights, group):
    stage = ISO(replace(CYCLE, weights=weights, group=group, lr=1e-3, chunk=1024))
    together = change(stage, lifter, people)
    assert torch.equal(together, change(stage, lifter, people))
    small = ISO(replace(stage.config, chunk=2 * group))
    torch.testing.assert_close(change(small, lifter, people), together, rtol=0, atol=1e-6)
    for rows in (slice(12, 12 + group), slice(36, 36 + group)):  # whole groups of their sequences
        keep = torch.zeros(45, dtype=torch.bool)
        keep[rows] = True
        torch.testing.assert_close(change(stage, lifter, people._take(keep)), together[rows], rtol=0, atol=1e-6)


def test_online_weights_are_kept_inside_a_sequence_and_go_at_its_end(people, lifter):
    stage = ISO(replace(CYCLE, mode="online"))
    together = change(stage, lifter, people)
    alone = [people.select(lambda sequence, n=n: sequence.name == f"clip{n}") for n in range(5)]
    torch.testing.assert_close(together, torch.cat([change(stage, lifter, clips) for clips in alone]))
    shorter = concatenate([alone[1], alone[0]._take(torch.arange(9) < 4)])  # of other lengths, in another order
    torch.testing.assert_close(change(stage, lifter, shorter), torch.cat([together[9:18], together[:4]]))
    vanilla = change(ISO(replace(CYCLE)), lifter, people)
    torch.testing.assert_close(vanilla[::9], together[::9])  # first frames: nothing was kept yet
    assert float((vanilla - together)[1::9].norm(dim=-1).mean()) > 0.1


def test_a_full_soft_reset_forgets_all_but_adams_memory_and_none_keeps_all(people, lifter):
    sizes = [
        float(change(ISO(replace(CYCLE, mode="online", soft_reset=share)), lifter, people)[8::9].norm(dim=-1).mean())
        for share in (0.0, 0.5, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_a_stream_learns_as_the_stage_does(people, lifter):
    one = people.select(lambda sequence: sequence.name == "clip2")
    config = replace(CYCLE, mode="online")
    expected = lift_clips(lifter, one).poses + change(ISO(config), lifter, one)
    camera = one.cameras_at(torch.tensor([0]))
    stream = PoseStream(
        lifter, camera, StreamConfig(jump=0, scale_jump=0), adapter=StreamingISO(lifter, camera, config)
    )
    for _ in range(2):  # after a reset as at the start
        frames = [StreamFrame(n, one.keypoints[n], one.confidence[n]) for n in range(9)]
        found = [pose.pose for frame in frames for pose in stream.push(frame)]
        torch.testing.assert_close(torch.stack(found), expected, rtol=0, atol=1e-6)
        assert stream.reset() == []


TEMPORAL = {
    "videopose3d": {"frames": 9, "channels": 8},
    "poseformer": {"frames": 3, "dim": 4, "depth": 1, "heads": 2},
    "mixste": {"frames": 4, "dim": 8, "depth": 1, "heads": 2},
}


@pytest.mark.parametrize("mode", ["vanilla", "online"])
@pytest.mark.parametrize("name", list(TEMPORAL))
def test_temporal_lifters_learn_in_windows_and_their_poses_are_of_every_frame(people, name, mode):
    lifter = standing(people, name, **TEMPORAL[name])
    still = change(ISO(replace(CYCLE, steps=0, mode=mode)), lifter, people)
    assert float(still.abs().max()) == 0
    moved = change(ISO(replace(CYCLE, mode=mode)), lifter, people)
    assert bool(moved.isfinite().all())
    assert bool((moved.norm(dim=-1).mean(-1) > 0).double().mean() > 0.3)  # where the mean pose has a root


@pytest.mark.parametrize("name", list(TEMPORAL))
def test_a_temporal_lifter_sees_what_lift_clips_shows_it(people, name):
    lifter = standing(people, name, **TEMPORAL[name])
    groups = cut_groups(people.bounds, lifter, 2)
    assert int(groups.kept.sum()) == 45 and groups.frames[groups.kept].sort().values.tolist() == list(range(45))
    wide, _ = look(people, groups)
    copies = Copies(lifter, moving_names(lifter, "norm"), len(wide), 1e-3)
    poses = torch.zeros(45, 17, 3, dtype=torch.float64)
    poses[groups.frames[groups.kept]] = copies.lift(copies.weights, wide, groups.frames.shape[2])[groups.kept]
    torch.testing.assert_close(poses, lift_clips(lifter, people).poses, rtol=1e-6, atol=1e-6)


def test_missing_joints_pull_at_nothing_whatever_number_stands_there(people, lifter):
    confidence = people.confidence.clone()
    confidence[:, [3, 13]] = 0
    confidence[6] = 0
    found = []
    for number in (0.0, 12_345.0):
        keypoints = people.keypoints.masked_fill((confidence == 0).unsqueeze(-1), number)
        found.append(change(ISO(CYCLE), lifter, people.with_keypoints(keypoints, confidence, "made")))
    torch.testing.assert_close(*found, rtol=0, atol=1e-9)
    assert bool(found[0].isfinite().all())


def test_uncertainty_stays_and_a_missing_discriminator_is_said(people, lifter):
    lifted = replace(lift_clips(lifter, people), sigma=torch.ones(people.num_frames, 17))
    lifted = replace(lifted, radius90=2 * lifted.sigma)
    for stage in (ISO(CYCLE), Hypotheses(HypothesesConfig(draws=1))):
        refined = stage.refine(lifter, people.unlabelled(), lifted)
        assert refined.sigma is lifted.sigma and refined.radius90 is lifted.radius90
    with pytest.raises(ConfigError, match="no discriminator yet"):
        ISO(ISOConfig(weight_adversarial=0.1)).refine(lifter, people.unlabelled(), lifted)


def test_a_lifter_without_such_weights_is_refused_in_one_line():
    from poseda.lifters.wrapped import wrap

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(34, 51)

        def forward(self, keypoints):
            return self.layer(keypoints.flatten(2)).unflatten(-1, (17, 3))

    with pytest.raises(ConfigError, match="has no such weights; take head, all") as caught:
        moving_names(wrap(Plain()), "norm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "onlin"}, "Did you mean 'online'"),
        ({"weights": "some"}, "norm"),
        ({"steps": -1}, "steps"),
        ({"views": 0}, "views"),
        ({"chunk": 0}, "chunk"),
        ({"lr": 0.0}, "lr"),
        ({"soft_reset": 1.5}, "soft_reset"),
        ({"tilt": -0.1}, "tilt"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ISOConfig(**options)
    assert "\n" not in str(caught.value)


SMALL = ["experiment=quick", "lifter=simplebaseline_small", "adapt.steps=3", "adapt.batch_size=32", "threads=1"]
SMALL += ["source.max_frames=500", "target.max_frames=300", "iso.steps=1", "iso.critic_steps=5"]


def test_the_command_runs_iso_alone_and_after_gpa(tmp_path, monkeypatch, capsys):
    from poseda import adapt

    monkeypatch.chdir(tmp_path)
    assert adapt.main([*SMALL, "stages=[gpa,iso]"]) == 0
    assert "\n+ ISO (online) " in capsys.readouterr().out
    assert adapt.main([*SMALL, "experiment=iso", "iso.mode=vanilla"]) == 0
    assert "\n+ ISO (vanilla) " in capsys.readouterr().out
