"""Preparing: units to archives, resumed after a crash, split by subject, nothing half written."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from poseda.data import prepare as module
from poseda.data.archive import load_archive, open_archive, save_archive
from poseda.data.clips import concatenate
from poseda.data.domains import DomainConfig, load_domain, load_target, load_test
from poseda.data.prepare import list_raw_datasets, open_raw_dataset, prepare_dataset, sha256_of
from poseda.data.raw_root import place_by_keypoints
from poseda.data.recordings import RawDataset, RawOptions, Recording, Unit, WorldTake
from poseda.data.resample import resample
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")


def poses_of(seed, frames=8):
    return np.random.default_rng(seed).normal(0, 300, (frames, 17, 3)).astype(np.float32) + np.float32([0, 0, 4000])


def recording(name, subject, seed, focal=1000.0, frames=8):
    camera = Camera.create(fx=focal, fy=focal, cx=500.0, cy=500.0, width=1000, height=1000)
    poses = poses_of(seed, frames)
    return Recording(name, subject, "walk", camera, 50.0, poses[..., :2] / poses[..., 2:] * focal + 500, poses=poses)


@pytest.fixture
def raw(tmp_path):
    """A data set of four units, each a file; counts how often each is read."""
    reads = []

    def unit(number, split):
        file = tmp_path / f"raw{number}.bin"
        file.write_bytes(bytes([number]) * 10)

        def read():
            reads.append(number)
            subject = f"S{number}"
            found = [recording(f"{subject}/walk{k}/cam{k}", subject, 10 * number + k, 1000.0 + k) for k in range(2)]
            if file.read_bytes()[:1] == b"x":
                raise DataError(f"{file}: key walk: broken; get it again.")
            return found

        return Unit(f"S{number}", split, (file,), read)

    def make(splits=(None,) * 4, **changes):
        facts = {"name": "mine", "recognised": "made", "skeleton": SKELETON, "fps": 50.0, "licence": "ours",
                 "label_scale": "metric", "keypoints": "gt"}  # fmt: skip
        return RawDataset(units=tuple(unit(n, s) for n, s in enumerate(splits)), **{**facts, **changes})

    return SimpleNamespace(make=make, reads=reads, folder=tmp_path)


def test_archives_hold_the_poses_split_by_subject_with_the_record_of_their_making(raw, tmp_path):
    out = tmp_path / "out"
    prepared = prepare_dataset(raw.make(), out)
    assert prepared.frames == {"train": 32, "test": 32} and prepared.read == 64 and not prepared.dropped
    train, test = (load_archive(out / f"{split}.safetensors") for split in ("train", "test"))
    assert train.subjects == ("S0", "S1") and test.subjects == ("S2", "S3")
    torch.testing.assert_close(test.poses[8:16], torch.from_numpy(poses_of(21)), rtol=0, atol=0)
    assert len(train.cameras) == 2 and [s.camera for s in train.sequences] == [0, 1, 0, 1]  # equal ones are stored once
    record = open_archive(out / "train.safetensors").record
    assert record["files"][0] == {"name": "raw0.bin", "bytes": 10, "sha256": sha256_of(raw.folder / "raw0.bin")}
    assert record["read"] == 64 and record["split"] == "train" and record["recognised"] == "made"
    assert not (out / ".parts").exists()


def test_archives_of_others_are_not_replaced(raw, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(raw.make(), out)
    prepare_dataset(raw.make(), out)  # its own it may
    content = (out / "test.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"train.safetensors is there, and was not prepared from other: .*output="):
        prepare_dataset(raw.make(name="other"), out)
    save_archive(out / "test.safetensors", load_archive(out / "test.safetensors"))  # the user's own
    with pytest.raises(ConfigError, match=r"test\.safetensors is there"):
        prepare_dataset(raw.make(), out)
    (out / "test.safetensors").unlink()
    (out / "train.safetensors").write_bytes(content[:100])
    with pytest.raises(ConfigError, match=r"train\.safetensors is there"):
        prepare_dataset(raw.make(), out)
    assert (out / "train.safetensors").read_bytes() == content[:100] and not (out / ".parts").exists()


def test_a_broken_file_stops_with_one_line_and_what_was_read_is_not_read_again(raw, tmp_path):
    out = tmp_path / "out"
    dataset = raw.make()
    (raw.folder / "raw2.bin").write_bytes(b"x" * 10)
    with pytest.raises(DataError, match=r"raw2\.bin: key walk: broken"):
        prepare_dataset(dataset, out)
    assert raw.reads == [0, 1, 2] and not (out / "train.safetensors").exists()
    (raw.folder / "raw2.bin").write_bytes(b"y" * 10)
    (raw.folder / "raw0.bin").write_bytes(b"z" * 11)  # a changed file is read again
    prepare_dataset(dataset, out)
    assert raw.reads == [0, 1, 2, 0, 2, 3]


def test_other_options_read_everything_again_and_a_cut_part_is_made_anew(raw, tmp_path):
    out = tmp_path / "out"
    dataset = raw.make()
    for number in range(2):
        module._part(dataset, dataset.units[number], RawOptions(), _part_path(out, number), sha256_of)
    _part_path(out, 1).with_suffix(".json").write_text('{"state": {')
    prepare_dataset(dataset, out)
    assert raw.reads == [0, 1, 1, 2, 3]
    module._part(dataset, dataset.units[0], RawOptions(), _part_path(out, 0), sha256_of)
    raw.reads.clear()
    prepare_dataset(dataset, out, RawOptions(seed=1))
    assert raw.reads == [0, 1, 2, 3]


def _part_path(out, number):
    (out / ".parts").mkdir(parents=True, exist_ok=True)
    return out / ".parts" / f"{number:05d}.safetensors"


def test_a_data_set_s_own_split_is_kept_and_a_test_set_alone_is_evaluated_or_adapted_to_transductively(raw, tmp_path):
    out = tmp_path / "out"
    prepared = prepare_dataset(raw.make(("train", "train", "test", "test"), expected={"test": 33}), out)
    assert prepared.remarks == ("test has 32 frames, and the whole mine gives 33: files may be missing.",)
    config = DomainConfig(name="archive", path=str(out))
    assert load_domain(config, root="").test.subjects == ("S2", "S3")
    prepare_dataset(raw.make(("test",) * 4), out)
    assert not (out / "train.safetensors").exists()  # the earlier one is not left beside it
    assert load_test(config, root="").num_frames == 64
    with pytest.raises(DataError, match=r"test\.safetensors: is a test set alone; .*target.transductive=true"):
        load_target(config, root="")
    target = load_target(DomainConfig(name="archive", path=str(out), transductive=True), root="")
    assert not hasattr(target.train, "poses") and target.train.num_frames == target.test.num_frames == 64


def test_frames_that_are_not_scored_stay_as_context(tmp_path):
    scored = np.zeros(8, bool)
    scored[[2, 3]] = True
    given = {"S0/a": scored, "S1/b": None}

    def read(name):
        one = recording(name, name[:2], 7)
        return [Recording(**{**one.__dict__, "scored": given[name]})]

    units = tuple(Unit(name, None, (), lambda name=name: read(name)) for name in given)
    dataset = RawDataset("mine", "made", SKELETON, 50.0, "ours", "metric", "gt", units, expected={"train": 2})
    prepared = prepare_dataset(dataset, tmp_path / "out")
    train, test = (load_archive(tmp_path / "out" / f"{split}.safetensors") for split in ("train", "test"))
    assert train.num_frames == 8 and train.scored.tolist() == scored.tolist() and prepared.frames["train"] == 2
    assert test.scored is None and prepared.frames["test"] == 8 and not prepared.remarks
    both = concatenate([train, test])
    assert both.num_scored == 10 and both.select(lambda s: s.subject == "S0").num_scored == 2
    assert both.convert(get_skeleton("h36m16")).subsample(2).scored.tolist()[:4] == [False, True, False, False]


def test_subjects_of_the_test_archive_can_be_named(raw, tmp_path):
    prepare_dataset(raw.make(), tmp_path / "out", RawOptions(test_subjects=("S1",)))
    assert load_archive(tmp_path / "out" / "test.safetensors").subjects == ("S1",)
    with pytest.raises(ConfigError, match=r"subject in mine, 'S9'"):
        prepare_dataset(raw.make(), tmp_path / "out", RawOptions(test_subjects=("S9",)))


def test_motion_is_seen_through_a_rig_and_a_take_s_place_depends_on_nothing_but_itself(tmp_path):
    random = np.random.default_rng(0)
    joints = np.array([0, 0, 900.0]) + random.normal(0, 200, (1, 17, 3)) + random.normal(0, 5, (60, 17, 3))
    joints = joints.astype(np.float32)

    def dataset(names):
        units = tuple(
            Unit(name, None, (), lambda name=name: [WorldTake(name, name.split("/")[0], "walk", 100.0, joints)]) for
            name in names
        )
        return RawDataset("mocap", "made", SKELETON, 50.0, "ours", "metric", "gt", units, kind="motion")

    prepare_dataset(dataset(["01/a", "02/b"]), tmp_path / "two")
    prepare_dataset(dataset(["02/b"]), tmp_path / "one")
    two, one = load_archive(tmp_path / "two" / "test.safetensors"), load_archive(tmp_path / "one" / "test.safetensors")
    torch.testing.assert_close(one.poses, two.poses, rtol=0, atol=0)
    assert one.fps == 50 and one.provenance.kind == "motion" and "cameras of h36m" in one.provenance.notes
    camera = one.cameras[one.sequences[0].camera]
    world = camera.to(dtype=torch.float64).camera_to_world(one.poses[:1].double())[0]
    height = torch.from_numpy(joints[0, :, 2].astype(np.float64))
    torch.testing.assert_close(world[:, 2], height, rtol=0, atol=0.01)  # stands on the rig's floor as it did on its own
    assert len(load_rig("h36m").cameras) >= len({s.camera for s in one.sequences}) > 1


def test_resampling_keeps_shared_frames_and_follows_a_smooth_path():
    time = np.arange(121) / 120
    joints = np.sin(2 * np.pi * time)[:, None, None] * np.ones((1, 17, 3)) * 100
    fifty = resample(joints, 120.0, 50.0)
    assert len(fifty) == 51
    np.testing.assert_allclose(fifty[:, 3, 1], 100 * np.sin(2 * np.pi * np.arange(51) / 50), atol=1e-2)
    np.testing.assert_allclose(fifty[::5], joints[::12], atol=1e-4)


def test_relative_poses_are_placed_where_their_keypoints_say():
    one = recording("a", "S1", 5)
    relative = one.poses - one.poses[:, :1]
    placed = place_by_keypoints(relative, one.keypoints, one.camera)
    np.testing.assert_allclose(placed, one.poses, atol=0.05)
    with pytest.raises(DataError, match=r"no frame's 3D fits its 2D"):
        place_by_keypoints(relative, np.full_like(one.keypoints, np.nan), one.camera)


def test_unknown_data_sets_options_and_files_are_named(tmp_path):
    assert {"h36m", "3dhp", "cmu", "bvh"} <= set(list_raw_datasets())
    with pytest.raises(ConfigError, match=r"dataset 'h36n'. Did you mean 'h36m'"):
        open_raw_dataset("h36n", tmp_path)
    with pytest.raises(MissingDataError, match=r"raw=.*nowhere: there is no such file or folder\. .*Human3\.6M"):
        open_raw_dataset("h36m", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"body_model has no meaning for dataset=h36m"):
        open_raw_dataset("h36m", tmp_path, RawOptions(body_model="smpl.pkl"))


def test_the_record_of_its_making_is_plain_json(raw, tmp_path):
    prepare_dataset(raw.make(), tmp_path / "out")
    record = open_archive(tmp_path / "out" / "test.safetensors").record
    assert json.loads(json.dumps(record)) == record
