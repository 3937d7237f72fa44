"""Motion through a rig: against plain loops in float64, with every flaw of a file named."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from poseda.data.motion import load_motion, motion_keys, read_motion
from poseda.data.views import Take, see_takes
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.rigs import load_rig

STANDING = np.array(
    [[0, 0, .9], [0, -.1, .9], [0, -.1, .5], [0, -.1, .1], [0, .1, .9], [0, .1, .5], [0, .1, .1],
     [0, 0, 1.15], [0, 0, 1.4], [0, 0, 1.5], [0, 0, 1.65], [0, .2, 1.4], [0, .2, 1.1], [0, .2, .85],
     [0, -.2, 1.4], [0, -.2, 1.1], [0, -.2, .85]], dtype=np.float32)  # fmt: skip


@pytest.fixture
def motion_file(tmp_path):
    """Three people with four trials of a swaying stand, and the file that describes them."""
    generator = np.random.default_rng(0)
    trials = {}
    for key, frames in (("a/1", 30), ("a/2", 12), ("b/1", 20), ("c/1", 15)):
        sway = generator.normal(0, 0.02, (frames, 17, 3)).astype(np.float32)
        walk = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None] * np.array([0.3, 0.1, 0], np.float32)
        trials[key] = STANDING + sway + walk + np.float32(7)  # far from the world's origin
        trials[key][..., 2] -= 7
    np.savez_compressed(tmp_path / "people.npz", **trials)
    about = {"fps": 25, "licence": "ours", "trials": {"a/1": {"action": "sway"}}}
    (tmp_path / "people.json").write_text(json.dumps(about))
    return tmp_path / "people.npz", trials


def rewrite(path, trials, **changes):
    np.savez(path, **{key: value for key, value in {**trials, **changes}.items() if value is not None})


def test_poses_keep_their_shape_and_heights(motion_file):
    path, trials = motion_file
    clips = read_motion(path, "h36m")
    assert clips.fps == 25.0 and clips.provenance.licence == "ours" and clips.provenance.kind == "motion"
    assert {s.action for s in clips.sequences if s.name.startswith("a/1/")} == {"sway"}
    for number, sequence in enumerate(clips.sequences):
        low, high = int(clips.bounds[number]), int(clips.bounds[number + 1])
        trial = trials["/".join(sequence.name.split("/")[:2])].astype(np.float64) * 1000
        assert high - low == len(trial)
        camera = clips.cameras[sequence.camera]
        pose = clips.poses[low:high].double().numpy()
        world = (pose - camera.t[0].numpy()) @ camera.R[0].double().numpy()
        distances = np.linalg.norm(pose[:, :, None] - pose[:, None], axis=-1)
        expected = np.linalg.norm(trial[:, :, None] - trial[:, None], axis=-1)
        assert np.abs(distances - expected).max() < 0.05
        assert np.abs(world[..., 2] - trial[..., 2]).max() < 0.05
        assert np.abs(np.diff(world[:, 0], axis=0)).max() < 100  # the walk stays a walk


def test_keypoints_are_the_projections_of_the_poses(motion_file):
    clips = read_motion(motion_file[0], "3dhp_vnect8")
    for frame in range(0, clips.num_frames, 37):
        camera = clips.cameras_at(torch.tensor([frame]))
        x, y, z = clips.poses[frame].double().unbind(-1)
        u = camera.fx.double() * x / z + camera.cx.double()
        v = camera.fy.double() * y / z + camera.cy.double()
        assert torch.allclose(clips.keypoints[frame].double(), torch.stack([u, v], -1), atol=0.01)


def test_trials_lie_within_the_spread_of_the_rigs_centre(motion_file):
    rig = load_rig("h36m")
    for spread in (0.0, 300.0):
        clips = read_motion(motion_file[0], rig, spread_mm=spread)
        for number, sequence in enumerate(clips.sequences):
            low, high = int(clips.bounds[number]), int(clips.bounds[number + 1])
            root = clips.cameras[sequence.camera].camera_to_world(clips.poses[None, low:high, 0])[0].mean(0)
            assert ((root - rig.centre_mm)[:2].abs() <= spread + 0.5).all()


def test_each_subject_is_seen_by_the_cameras_of_its_group(motion_file):
    rig = load_rig("h36m")
    clips = read_motion(motion_file[0], rig)
    groups = list(rig.groups.values())
    for subject, cameras in zip("abc", groups, strict=False):
        assert {s.camera for s in clips.sequences if s.subject == subject} == set(cameras)


def test_a_trials_place_does_not_depend_on_who_else_is_read(motion_file):
    every = read_motion(motion_file[0], "3dhp_vnect8").select(lambda s: s.subject == "b")
    alone = read_motion(motion_file[0], "3dhp_vnect8", subjects=["b"])
    assert torch.equal(every.poses, alone.poses)
    other = read_motion(motion_file[0], "3dhp_vnect8", subjects=["b"], seed=1)
    assert other.poses.shape != alone.poses.shape or not torch.equal(other.poses, alone.poses)


def test_frames_out_of_sight_cut_the_sequence_and_are_counted():
    rig = load_rig("3dhp_ts1-4")
    world = torch.from_numpy(STANDING).repeat(60, 1, 1) * 1000
    world[..., :2] += rig.centre_mm[:2]
    world[20:23] += torch.tensor([0.0, 0.0, 20000.0])  # up in the air: cut, 20 frames before it
    world[28] += torch.tensor([0.0, 0.0, 20000.0])  # 5 frames between the two cuts are too few
    away = rig.cameras.centre()[0]
    world[40] += away - world[40, 8]  # in the camera itself
    take = Take("t", "s", "a", (0,))
    from poseda.data.clips import Provenance
    from poseda.skeleton import get_skeleton

    clips = see_takes(
        world, torch.tensor([0, 60]), [take], rig.cameras, get_skeleton("h36m17"), 50.0,
        Provenance("x", "motion", "", "metric", "gt"),
    )  # fmt: skip
    assert clips.bounds.diff().tolist() == [20, 11, 19]
    assert [s.name for s in clips.sequences] == [f"t/camera0/piece{i}" for i in range(3)]
    assert "dropped 10 of 60 frames" in clips.provenance.notes
    with pytest.raises(DataError, match=r"x: no frame has the whole person inside an image"):
        see_takes(
            world + 50000, torch.tensor([0, 60]), [take], rig.cameras, get_skeleton("h36m17"), 50.0,
            Provenance("x", "motion", "", "metric", "gt"),
        )  # fmt: skip


def test_a_point_that_the_lens_formula_folds_back_is_outside():
    from poseda.data.views import body_in_image
    from poseda.geometry.camera import Camera

    camera = Camera.create(
        fx=1000.0, fy=1000.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0, radial=(-0.28, 0.0, 0.0)
    )
    far = torch.tensor([[[[1.9 * 4000, 0.0, 4000.0]] * 2]])
    pixels = camera.project(far)
    assert (pixels >= 0).all() and (pixels < 1000).all()
    assert not body_in_image(camera, far, pixels).any()


def test_missing_and_unknown_are_errors(motion_file, tmp_path):
    with pytest.raises(MissingDataError, match=r"no motion file"):
        load_motion(tmp_path / "none.npz")
    with pytest.raises(ConfigError, match=r"no subject z\. Known: a, b, c"):
        load_motion(motion_file[0], ["a", "z"])
    with pytest.raises(ConfigError, match=r"no camera rig 'h37m'.*'h36m'"):
        read_motion(motion_file[0], "h37m")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((5, 16, 3), np.float32), r"key 'b/1': is float32 \(5, 16, 3\)"),
        (np.zeros((0, 17, 3), np.float32), "T at least 1"),
        (np.zeros((5, 17, 3), np.int32), "key 'b/1': is int32"),
        (np.array([{}], dtype=object), "key 'b/1': is object"),
    ],
)
def test_a_wrong_trial_is_named(motion_file, value, message):
    path, trials = motion_file
    rewrite(path, trials, **{"b/1": value})
    with pytest.raises(DataError, match=message):
        load_motion(path)


def test_a_joint_that_is_not_finite_is_named_with_its_frame(motion_file):
    path, trials = motion_file
    broken = trials["b/1"].copy()
    broken[13, 4, 1] = np.nan
    rewrite(path, trials, **{"b/1": broken})
    with pytest.raises(DataError, match=r"key 'b/1', frame 13 has a joint that is not finite"):
        load_motion(path)


def test_wrong_units_and_keys_are_named(motion_file):
    path, trials = motion_file
    rewrite(path, {key: value * 1000 for key, value in trials.items()})
    with pytest.raises(DataError, match=r"must be in metres"):
        load_motion(path)
    rewrite(path, trials, walk=trials["a/1"])
    with pytest.raises(DataError, match=r"key 'walk' found; expected keys of the form 'subject/trial'"):
        motion_keys(path)


def test_a_broken_or_hostile_file_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"not a readable npz"):
        load_motion(path)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 17, 3), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/1.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"1234")
    with pytest.raises(DataError, match=r"key 'a/1': claims float32"):
        load_motion(path)


@pytest.mark.parametrize(
    ("about", "message"),
    [("{", "not readable as JSON"), ('{"up": "y"}', "up is 'y'"), ("[]", "expected an object"),
     ('{"fps": "fast"}', "fps is 'fast'")],
)  # fmt: skip
def test_a_wrong_description_is_refused(motion_file, about, message):
    path = motion_file[0]
    path.with_suffix(".json").write_text(about)
    with pytest.raises(DataError, match=message):
        load_motion(path)


def test_real_motion_is_seen_upright_by_every_camera(motion_folder):
    clips = read_motion(motion_folder / "hdm05_17.npz", "h36m", subjects=["bd"])
    assert clips.provenance.kind == "motion" and "ShareAlike" in clips.provenance.licence
    head, ankles = clips.keypoints[:, 10, 1], clips.keypoints[:, [3, 6], 1].amax(-1)
    assert (head < ankles).float().mean() > 0.95
    assert len(set(clips.camera_index.tolist())) == 4
