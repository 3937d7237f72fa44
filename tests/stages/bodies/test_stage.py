"""Source clips in the target's build: lengths, heights, 2D, and what the other stages see of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.anthropometry.height import standing_share
from poseda.errors import ConfigError
from poseda.geometry.rigs import load_rig
from poseda.skeleton import get_skeleton
from poseda.stages.base import Stage
from poseda.stages.bodies import Bodies, BodiesConfig
from poseda.stages.pipeline import AdaptConfig, adapt_lifter


@pytest.fixture(scope="module")
def source(make_clips):
    return make_clips(sequences=150, frames=4, cameras=load_rig("h36m").cameras, seed=1)


@pytest.fixture(scope="module")
def target(make_clips):
    """Other people, whose arms are a fifth longer and whose hips are half as wide."""
    clips = make_clips(sequences=150, frames=4, cameras=load_rig("3dhp_test").cameras, seed=2)
    skeleton, poses = clips.skeleton, clips.poses.double().numpy().copy()
    for child, parent in enumerate(skeleton.parents):  # parents come before their children
        name = skeleton.joints[child][1:]
        factor = {"elbow": 1.2, "wrist": 1.2, "hip": 0.5}.get(name, 1.0)
        if parent >= 0:
            poses[:, child] = poses[:, parent] + factor * (clips.poses[:, child] - clips.poses[:, parent]).numpy()
    made = torch.from_numpy(poses).float()
    return replace(clips, poses=made, keypoints=clips.cameras[clips.camera_index].project(made))


def lengths(clips):
    """{joint: (F,) mm} of the bone that ends there, NumPy float64."""
    poses, skeleton = clips.poses.double().numpy(), clips.skeleton
    pairs = ((child, parent) for child, parent in enumerate(skeleton.parents) if parent >= 0)
    return {skeleton.joints[c]: np.linalg.norm(poses[:, c] - poses[:, p], axis=-1) for c, p in pairs}


def height(clips):
    """Mean (F,) mm from ankle to head along the bones."""
    bones = lengths(clips)
    legs = (bones["lknee"] + bones["lankle"] + bones["rknee"] + bones["rankle"]) / 2
    return (legs + bones["spine"] + bones["thorax"] + bones["nose"] + bones["head"]).mean()


def test_bones_take_the_targets_proportions_and_people_keep_their_height(source, target):
    made, remark = Bodies(BodiesConfig(size="source")).recast(source, target.unlabelled())
    ratio = {name: after / lengths(source)[name] for name, after in lengths(made).items()}
    arm = ratio["lwrist"] / ratio["lknee"]
    assert arm.mean() == pytest.approx(1.2, abs=0.05)
    assert (ratio["lhip"] / ratio["lknee"]).mean() < 0.75
    assert arm.std() < 1e-4  # everybody by the same factor: people stay as different as they were
    assert height(made) == pytest.approx(height(source), rel=1e-5)
    assert "hips 0.53" in remark


def test_feet_stand_on_the_floor_as_before_and_limbs_keep_their_directions(source, target):
    made, _ = Bodies(BodiesConfig(size="source")).recast(source, target.unlabelled())
    ankles = [source.skeleton.index(name) for name in ("lankle", "rankle")]
    cameras = source.cameras[source.camera_index]
    before, after = (cameras.camera_to_world(clips.poses) for clips in (source, made))
    lower = [points[:, ankles, 2].amin(-1) for points in (before, after)]
    torch.testing.assert_close(lower[0], lower[1], atol=0.05, rtol=0)
    torch.testing.assert_close(before[:, 0, :2], after[:, 0, :2], atol=0.05, rtol=0)  # they move upright alone
    for child, parent in enumerate(source.skeleton.parents):
        if source.skeleton.joints[child][1:] in ("knee", "ankle", "elbow", "wrist"):
            before, after = (clips.poses[:, child] - clips.poses[:, parent] for clips in (source, made))
            cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1)
            assert float(cosine.min()) > 1 - 1e-5


def test_a_detectors_errors_stay_in_pixels_and_what_it_missed_stays_missing(source, target):
    draws = torch.Generator().manual_seed(0)
    noise = 5 * torch.randn(source.keypoints.shape, generator=draws)
    seen = torch.rand(source.confidence.shape, generator=draws) > 0.1
    detected = source.with_keypoints((source.keypoints + noise) * seen.unsqueeze(-1), seen.float(), "made")
    made, _ = Bodies().recast(detected, target.unlabelled())
    exact = made.cameras[made.camera_index].project(made.poses)
    torch.testing.assert_close((made.keypoints - exact)[seen], noise[seen], atol=5e-3, rtol=0)
    assert bool((made.keypoints[~seen] == 0).all())


def test_a_target_of_a_few_frames_leaves_proportions_as_they_are_and_the_log_says_so(source, target):
    few = target._take(torch.arange(target.num_frames) < 20).unlabelled()
    made, remark = Bodies(BodiesConfig(size="source")).recast(source, few)
    assert remark == "proportions stay as recorded: measuring takes 500 frames with hips and shoulders"
    torch.testing.assert_close(made.poses, source.poses, atol=1e-2, rtol=0)


def test_a_skeleton_without_ankles_keeps_the_sum_of_its_bones():
    assert standing_share(get_skeleton("h36m17")).sum() == 6
    cut = replace(
        get_skeleton("h36m17"),
        name="seated",
        joints=("pelvis", "lhip", "rhip", "thorax"),
        parents=(-1, 0, 0, 0),
    )
    assert standing_share(cut).tolist() == [0.5, 0.5, 1.0]


class Watching(Stage):
    """Keeps what it is shown."""

    name, label = "watching", "watching"

    def prepare(self, setting):
        self.prepared = setting.source
        return ""

    def augment(self, batch, generator):
        return batch

    def update(self, step):
        self.drawn = step.original
        return {}

    def calibrate(self, lifter, source):
        self.calibrated = source


def test_all_other_stages_work_with_the_new_bodies(source, target, small_lifter):
    watching = Watching()
    config = AdaptConfig(steps=1, batch_size=64)
    remarks = []
    adapt_lifter(small_lifter(), source, target.unlabelled(), [watching, Bodies()], config, report=remarks.append)
    made, remark = Bodies().recast(source, target.unlabelled())
    assert remarks == [f"bodies: {remark}"]
    torch.testing.assert_close(watching.prepared.poses, made.poses)
    torch.testing.assert_close(watching.calibrated.keypoints, made.keypoints)
    middle = watching.drawn.poses.shape[1] // 2
    drawn = watching.drawn.poses[:, middle].double().flatten(1)
    assert float(torch.cdist(drawn, made.poses.double().flatten(1)).amin(1).max()) < 0.1


def test_options_that_change_nothing_are_refused():
    with pytest.raises(ConfigError, match="leave bodies out of stages"):
        BodiesConfig(proportions="source", size="source")
    with pytest.raises(ConfigError, match="Did you mean 'floor'"):
        BodiesConfig(size="flor")
