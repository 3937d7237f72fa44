"""PoseAug, AdaptPose, DH-AUG and DAF-DG as stages: they learn, resume to the bit, and leave the target's 3D alone."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from poseda.engine.checkpoint import load_state, save_state
from poseda.engine.loop import LoopConfig
from poseda.errors import ConfigError, PosedaError
from poseda.skeleton import get_skeleton
from poseda.stages import create_stage, pipeline
from poseda.stages.pipeline import AdaptConfig, AdaptTask, adapt_lifter

NAMES = ("poseaug", "adaptpose", "dh_aug", "daf_dg")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def make_task(clips, lifter, name, *, seed=0, beside=(), batch_size=16, **options):
    source, target = clips
    stages = [create_stage(name, **options), *(create_stage(other) for other in beside)]
    config = AdaptConfig(steps=10, batch_size=batch_size)
    return AdaptTask(lifter.train(), source, target.unlabelled(), stages, config, seed=seed)


def networks(stage):
    augmentors = [stage.weak, stage.strong] if stage.name == "daf_dg" else [getattr(stage, "augmentor", stage)]
    return [n for a in augmentors for n in (a.generator, a.adversaries.of_3d.network, a.adversaries.of_2d.network)]


def weights(*modules):
    return [value.detach().clone() for module in modules for value in module.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("beside", [(), ("gpa", "ema")])
@pytest.mark.parametrize("name", NAMES)
def test_every_network_learns_and_every_number_is_finite(tiny_clips, small_lifter, name, beside):
    lifter = small_lifter()
    task = make_task(tiny_clips, lifter, name, beside=beside, watch_every=1)
    stage, lifted = task.stages[0], weights(lifter)
    before = [weights(network) for network in networks(stage)]
    for index in range(3):
        scalars = task.step(index)
        assert all(bool(value.isfinite()) and not value.requires_grad for value in scalars.values())
    assert all(not same(old, weights(network)) for old, network in zip(before, networks(stage), strict=True))
    assert not same(lifted, weights(lifter))
    assert all(bool(value.isfinite().all()) for value in weights(lifter, *networks(stage)))


@pytest.mark.parametrize("name", NAMES)
def test_temporal_lifters_get_whole_windows_with_constant_bone_lengths(tiny_clips, name):
    from poseda.lifters import create_lifter

    lifter = create_lifter("videopose3d", seed=0, frames=9, channels=8)
    task = make_task(tiny_clips, lifter, name)
    stage, batch = task.stages[0], task.sources.draw(8, draws())
    stage.augment(batch, draws(3))
    made = {"dh_aug": lambda: stage.made, "daf_dg": lambda: stage.chains["strong"].placed}
    poses = made.get(name, lambda: stage.chain.placed)().detach()
    assert poses.shape == batch.poses.shape
    bones = poses[:, :, [c for _, c in lifter.skeleton.bones]] - poses[:, :, [p for p, _ in lifter.skeleton.bones]]
    lengths = bones.norm(dim=-1)
    torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths), rtol=2e-3, atol=0.05)
    assert all(bool(value.isfinite()) for value in task.step(0).values())


class Killed(Exception):
    """Stands for a process that ends."""


def test_a_killed_run_of_each_ends_with_the_weights_of_an_unbroken_one(
    tiny_clips, small_lifter, tmp_path, monkeypatch
):
    monkeypatch.setattr(pipeline, "LoopConfig", partial(LoopConfig, checkpoint_seconds=0.0))
    config = AdaptConfig(steps=4, batch_size=8, log_every=2)
    source, target = tiny_clips
    for name in NAMES:

        def run(folder, after=0, name=name):
            stage, seen = create_stage(name), []

            def end(lifter):
                seen.append(1)
                if len(seen) == after:
                    raise Killed

            stage.after_step = end
            lifter = small_lifter()
            return adapt_lifter(lifter, source, target.unlabelled(), [stage], config, folder=tmp_path / name / folder)

        whole = run("a")
        with pytest.raises(Killed):
            run("b", 4)
        assert same(weights(whole), weights(run("b"))), name
        assert (tmp_path / name / "a/metrics.jsonl").read_text() == (tmp_path / name / "b/metrics.jsonl").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_goes_on_as_the_saved_one(tiny_clips, small_lifter, tmp_path, name):
    first = make_task(tiny_clips, small_lifter(dropout=0.0), name)
    for index in range(3):
        first.step(index)
    save_state(tmp_path / "state.pt", first.state_dict())
    second = make_task(tiny_clips, small_lifter(dropout=0.0), name, seed=1)
    assert not same(weights(*networks(first.stages[0])), weights(*networks(second.stages[0])))
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    for index in range(3, 5):
        a, b = first.step(index), second.step(index)
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["poseaug", "adaptpose", "dh_aug"])
def test_what_the_camera_does_not_see_is_replaced_and_weighs_nothing(tiny_clips, small_lifter, name):
    task = make_task(tiny_clips, small_lifter(), name)
    stage = task.stages[0]
    head = stage.generator.network[-1] if name == "dh_aug" else stage.augmentor.generator.place_head[-1]
    with torch.no_grad():
        head.bias[-3] += 40.0  # far to the right
    batch = task.sources.draw(8, draws())
    made = stage.augment(batch, draws(1))
    assert not bool(made.weight.any())
    near = (made.poses - batch.poses)[:, :, 0].detach().norm(dim=-1)
    assert float(near.max()) < 1.0
    assert all(bool(value.isfinite()) for value in task.step(0).values())


@pytest.mark.parametrize("name", ["poseaug", "adaptpose"])
def test_during_the_warm_up_the_lifter_sees_recorded_windows_alone(tiny_clips, small_lifter, name):
    options = {"hardness": (0.0, float("inf"))} if name == "adaptpose" else {}
    task = make_task(tiny_clips, small_lifter(), name, warmup=0.2, **options)
    dropped = [float(task.step(index)["dropped"]) for index in range(4)]
    assert dropped[:2] == [0.5, 0.5]
    assert max(dropped[2:]) < 0.5


def test_adaptpose_keeps_windows_of_the_wanted_hardness_alone(tiny_clips, small_lifter):
    every = make_task(tiny_clips, small_lifter(), "adaptpose", warmup=0.0, hardness=(0.0, float("inf")))
    none = make_task(tiny_clips, small_lifter(), "adaptpose", warmup=0.0, hardness=(1e6, 1e7))
    assert float(every.step(0)["adaptpose_kept"]) > 0
    assert float(none.step(0)["adaptpose_kept"]) == 0


def test_poseaug_looks_at_no_target_and_adaptpose_at_its_2d(tiny_clips, small_lifter):
    """The same draws with another target: PoseAug's networks end alike, AdaptPose's 2D discriminator does not."""
    source, target = tiny_clips
    shifted = target.with_keypoints(target.keypoints * 0.5, target.confidence, "made")
    for name, alike in (("poseaug", True), ("dh_aug", True), ("adaptpose", False)):
        ends = []
        for clips in ((source, target), (source, shifted)):
            task = make_task(clips, small_lifter(), name)
            task.step(0)
            ends.append(weights(*networks(task.stages[0])))
        assert same(*ends) == alike, name


def gradient_nodes(value):
    """Names of all nodes of the autograd graph behind a tensor."""
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_is_summed_by_threads_in_random_order(tiny_clips, small_lifter, monkeypatch, name):
    # x[:, indices] adds its gradients atomically on several CPU threads: runs of one seed then differ in the last bits
    nodes, backward = set(), torch.Tensor.backward

    def noted(loss, *arguments, **options):
        nodes.update(gradient_nodes(loss))
        backward(loss, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", noted)
    make_task(tiny_clips, small_lifter(), name).step(0)
    assert "IndexSelectBackward0" in nodes and "IndexBackward0" not in nodes


def test_windows_that_daf_dg_cannot_show_weigh_nothing_and_look_as_recorded(tiny_clips, small_lifter):
    """BatchNorm sees them all the same."""
    task = make_task(tiny_clips, small_lifter(), "daf_dg")
    stage, batch = task.stages[0], task.sources.draw(8, draws())
    moved = batch.poses.clone()
    moved[:5, ..., 2] = -1000.0  # behind the camera
    step = SimpleNamespace(lifter=task.lifter, generator=draws(3))
    shown = stage._windows(step, moved, batch.poses, batch.cameras)
    step = SimpleNamespace(lifter=task.lifter, generator=draws(3))
    recorded = stage._windows(step, batch.poses, batch.poses, batch.cameras)
    torch.testing.assert_close(shown.keypoints, recorded.keypoints)
    assert shown.weight.tolist() == [0.0] * 5 + recorded.weight.tolist()[5:]


@pytest.mark.parametrize("name", ["poseaug", "adaptpose", "daf_dg"])
def test_skeletons_without_a_trunk_of_two_bones_can_be_augmented(tiny_clips, name):
    from poseda.lifters import create_lifter

    source, target = (clips.convert(get_skeleton("lsp14")) for clips in tiny_clips)
    lifter = create_lifter("simplebaseline", seed=0, hidden=16, blocks=1, skeleton="lsp14")
    task = make_task((source, target), lifter, name)
    assert all(bool(value.isfinite()) for value in task.step(0).values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("poseaug", {"warmup": 1.0}, r"poseaug\.warmup"),
        ("poseaug", {"discriminator_every": 0}, r"poseaug\.discriminator_every"),
        ("adaptpose", {"hardness": (5.0, 1.0)}, r"adaptpose\.hardness"),
        ("adaptpose", {"pool": -1}, r"adaptpose\.pool"),
        ("dh_aug", {"generator_every": 0}, r"dh_aug\.generator_every"),
        ("dh_aug", {"length_change": 1.0}, r"dh_aug\.length_change"),
        ("daf_dg", {"inner_lr": -1.0}, r"daf_dg\.inner_lr"),
        ("daf_dg", {"discriminator_every": 0}, r"daf_dg\.discriminator_every"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_stage(name, **options)
    assert "\n" not in str(caught.value)


def test_a_skeleton_without_joint_limits_is_refused(tiny_clips):
    from poseda.lifters import create_lifter

    source, target = (clips.convert(get_skeleton("lsp14")) for clips in tiny_clips)
    lifter = create_lifter("simplebaseline", seed=0, hidden=16, blocks=1, skeleton="lsp14")
    with pytest.raises(ConfigError, match="dh_aug has no joint limits for the joints of lsp14"):
        make_task((source, target), lifter, "dh_aug")


def test_a_generator_that_nobody_sees_ends_the_run(tiny_clips, small_lifter):
    task = make_task(tiny_clips, small_lifter(), "poseaug", watch_every=1, batch_size=256)
    with torch.no_grad():
        task.stages[0].augmentor.generator.place_head[-1].bias[0] += 40.0
    with pytest.raises(PosedaError, match=r"poseaug has collapsed at step 1: the camera sees 0\.0 %"):
        task.step(0)
