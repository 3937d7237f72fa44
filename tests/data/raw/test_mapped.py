"""Data of one's own by a mapping file: known poses come back from every file format, and each wrong field is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from poseda.data.prepare import open_raw_dataset, prepare_dataset
from poseda.data.recordings import RawOptions, Recording, WorldTake
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

JOINTS = get_skeleton("h36m17").joints
R = [[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]  # a world with z up, seen from -y
CAMERA = {"fx": 1145.0, "fy": 1143.0, "cx": 512.0, "cy": 515.0, "width": 1000, "height": 1002,
          "radial": [-0.2, 0.24, 0],
          "tangential": [0.001, -0.002], "R": R, "t": [100.0, 1200.0, 4500.0]}  # fmt: skip


def world(frames=6, seed=0):
    """(T, 17, 3) mm, z up."""
    random = np.random.default_rng(seed)
    return np.add(random.normal(0, 300, (frames, 17, 3)), (0, 0, 900))


def camera(**changes):
    return Camera.create(**{**CAMERA, **changes}, dtype=torch.float64)


def in_camera(points):
    return points @ np.array(R).T + CAMERA["t"]


def pixels(points):
    return camera().project(torch.from_numpy(points)[None])[0].numpy()


@pytest.fixture
def prepare(tmp_path):
    """Write a mapping, and read everything it describes under tmp_path/raw."""
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)

    def run(recordings, path=raw, **fields):
        text = {"fps": 50, "cameras": {"left": CAMERA}, "recordings": recordings, **fields}
        (tmp_path / "map.json").write_text(
            json.dumps({name: value for name, value in text.items() if value is not None})
        )
        dataset = open_raw_dataset("mapped", path, RawOptions(mapping=str(tmp_path / "map.json")))
        return dataset, [item for unit in dataset.units for item in unit.read()]

    run.raw = raw
    return run


def test_world_metres_of_many_files_by_one_entry(prepare):
    for seed, name in enumerate(("S1/walk", "S1/sit", "S2/walk")):
        (prepare.raw / name).parent.mkdir(exist_ok=True)
        points = world(seed=seed)
        np.savez(prepare.raw / f"{name}.npz", joints3d=points / 1000, joints2d=pixels(in_camera(points)))
    entry = {"files": "{subject}/{action}.npz", "subject": "{subject}", "action": "{action}",
             "poses": {"key": "joints3d"},
             "keypoints": "joints2d", "camera": "left"}  # fmt: skip
    dataset, found = prepare([entry], frame="world", units="m", name="lab", licence="ours", detector="cpn",
                             cameras={"left": {**CAMERA, "t": [0.1, 1.2, 4.5]}})  # fmt: skip
    assert (dataset.name, dataset.licence, dataset.keypoints, dataset.kind) == ("lab", "ours", "cpn", "real")
    assert [(item.name, item.subject, item.action) for item in found] == [
        ("S1/sit", "S1", "sit"), ("S1/walk", "S1", "walk"), ("S2/walk", "S2", "walk")]  # fmt: skip
    for item, seed in zip(found, (1, 0, 2), strict=True):
        assert np.allclose(item.poses, in_camera(world(seed=seed)), atol=1e-9)
        assert np.allclose(item.keypoints, pixels(in_camera(world(seed=seed))))
        assert item.camera.dtype == torch.float32 and item.fps == 50


def test_missing_keypoints_are_projected_with_the_lens(prepare):
    np.save(prepare.raw / "a.npy", in_camera(world()))
    _, (item,) = prepare([{"files": "a.npy", "poses": {}, "camera": "left"}])
    assert np.allclose(item.poses, in_camera(world())) and np.allclose(item.keypoints, pixels(in_camera(world())))


def save_npz(path, values):
    np.savez(path.with_suffix(".npz"), data=values)


def save_npy(path, values):
    np.save(path.with_suffix(".npy"), values)


def save_json(path, values):
    path.with_suffix(".json").write_text(json.dumps({"people": [{"data": values.tolist()}]}))


def save_hdf5(path, values):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["group/data"] = values


@pytest.mark.parametrize(
    ("save", "ending", "key"),
    [
        (save_npz, "npz", "data"),
        (save_npy, "npy", ""),
        (save_json, "json", "people.0.data"),
        (save_hdf5, "h5", "group/data"),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
def test_every_format_flat_or_not(prepare, save, ending, key, flat):
    points = in_camera(world())
    save(prepare.raw / "a", points.reshape(6, 51) if flat else points)
    _, (item,) = prepare([{"files": f"a.{ending}", "poses": {"key": key}, "camera": CAMERA}])
    assert np.allclose(item.poses, points, atol=1e-9)


def test_joints_by_name_and_leading_dimensions(prepare):
    points = in_camera(world())
    names = [*JOINTS[::-1], "ltoe", "tail"]
    shuffled = np.concatenate([points[:, ::-1], np.full((6, 2, 3), 7.0)], 1)
    np.savez(prepare.raw / "a.npz", p=np.stack([shuffled * 0, shuffled]), k=np.stack([[shuffled[..., :2]]] * 3) * 1.0)
    entry = {
        "files": "a.npz",
        "poses": {"key": "p", "index": 1},
        "keypoints": {"key": "k", "index": [2, 0]},
        "camera": "left",
    }
    _, (item,) = prepare([entry], joints=names)
    assert np.array_equal(item.poses, points) and np.array_equal(item.keypoints, points[..., :2])


def test_keypoints_alone_with_confidence_in_either_place(prepare):
    found, sure = np.random.default_rng(1).random((2, 4, 17, 1)) * [[[[900]]], [[[1]]]]
    points = np.concatenate([found, found + 1, sure], -1)
    np.savez(prepare.raw / "a.npz", three=points, two=points[..., :2], sure=sure[..., 0])
    _, items = prepare([
        {"files": "a.npz", "name": "three", "keypoints": "three", "camera": "left"},
        {"files": "a.npz", "name": "two", "keypoints": "two", "confidence": "sure", "camera": "left", "fps": 25},
    ])  # fmt: skip
    for item in items:
        assert item.poses is None
        assert np.array_equal(item.keypoints, points[..., :2]) and np.array_equal(item.confidence, sure[..., 0])
    assert [item.fps for item in items] == [50, 25]


def test_missing_numbers_in_json_are_nan(prepare):
    values = np.ones((2, 17, 2)).tolist()
    values[1][3] = [None, None]
    (prepare.raw / "a.json").write_text(json.dumps(values))
    _, (item,) = prepare([{"files": "a.json", "keypoints": {}, "camera": "left"}])
    assert np.isnan(item.keypoints[1, 3]).all() and np.isfinite(item.keypoints[0]).all()


def test_arrays_of_other_files_cameras_and_splits_by_placeholder(prepare):
    for split, view in (("train", "c1"), ("test", "c2")):
        (prepare.raw / split).mkdir()
        np.save(prepare.raw / split / f"S1.{view}.npy", world(seed=len(split)))
        np.savez(prepare.raw / f"S1_{view}.npz", **{f"k_{view}": np.full((6, 17, 2), float(len(split)))})
    entry = {"files": "{split}/{who}.{view}.npy", "split": "{split}", "subject": "{who}", "poses": {},
             "camera": "{view}",
             "keypoints": {"file": "{who}_{view}.npz", "key": "k_{view}"}}  # fmt: skip
    dataset, items = prepare([entry], frame="world", cameras={"c1": CAMERA, "c2": {**CAMERA, "t": [0, 0, 9000.0]}})
    assert [unit.split for unit in dataset.units] == ["test", "train"]
    assert [item.keypoints[0, 0, 0] for item in items] == [4, 5]
    assert np.allclose(items[0].poses, world(seed=4) @ np.array(R).T + [0, 0, 9000])
    assert {path.name for path in dataset.units[0].files} == {"S1.c2.npy", "S1_c2.npz", "map.json"}


def test_a_world_without_cameras_is_motion(prepare):
    np.save(prepare.raw / "a.npy", world()[..., [0, 2, 1]] * [1, 1, -1])  # y up
    dataset, (item,) = prepare([{"files": "a.npy", "poses": {}}], frame="world", up="y", cameras=None)
    assert isinstance(item, WorldTake) and dataset.kind == "motion"
    assert np.allclose(item.joints, world())


def test_a_skeleton_of_ones_own_and_one_file_as_raw(prepare):
    np.save(prepare.raw / "a.npy", in_camera(world())[:, :3])
    skeleton = {"name": "leg", "joints": ["hip", "knee", "ankle"], "parents": [-1, 0, 1]}
    dataset, (item,) = prepare([{"poses": {}, "camera": "left"}], path=prepare.raw / "a.npy", skeleton=skeleton)
    assert dataset.skeleton.joints == ("hip", "knee", "ankle") and item.name == "a" and isinstance(item, Recording)


def test_from_raw_to_an_archive(prepare, tmp_path):
    for subject in ("A", "B", "C", "D", "E"):
        np.save(prepare.raw / f"{subject}.npy", in_camera(world(frames=20, seed=ord(subject)) * 0.4))
    dataset, _ = prepare([{"files": "{s}.npy", "poses": {}, "camera": "left"}])
    assert prepare_dataset(dataset, tmp_path / "out").frames == {"train": 60, "test": 40}


GOOD = {"files": "a.npz", "poses": {"key": "p"}, "camera": "left"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pose": "p"}, r"recordings\[0\].pose: There is no field 'pose'. Did you mean 'poses'"),
        ({"poses": {"keys": "p"}}, r"recordings\[0\].poses.keys: There is no field 'keys'. Did you mean 'key'"),
        ({"poses": {"key": "q"}}, r"recordings\[0\].poses.key: 'q' is not in .*a.npz; it has p"),
        ({"poses": {}}, r"recordings\[0\].poses.key: .*a.npz needs a key; it has p"),
        ({"poses": 3}, r"recordings\[0\].poses: is int '3'; expected a dictionary"),
        ({"poses": {"key": "p", "index": "x"}}, r"recordings\[0\].poses.index: is str 'x'; expected a list"),
        ({"poses": {"key": "p", "index": [1.5]}}, r"recordings\[0\].poses.index: is \[1.5\]; expected a whole number"),
        ({"poses": {"key": "p", "index": 6}}, r"recordings\[0\].poses.index: 6 is outside 'p' of shape \(6, 17, 3\)"),
        ({"poses": {"key": "p", "index": 0}}, r"recordings\[0\].poses: .*shape \(17, 3\); expected \(T, 17, 3\)"),
        (
            {"poses": {"key": "p", "file": "../../etc/x.npz"}},
            r"recordings\[0\].poses.file: '../../etc/x.npz' leads out of raw",
        ),
        ({"poses": {"key": "p", "file": "b.npz"}}, r"recordings\[0\].poses.file: there is no .*b.npz"),
        ({"files": "/etc/*.npz"}, r"recordings\[0\].files: '/etc/\*.npz' leads out of raw"),
        ({"files": "{x}.npy"}, r"recordings\[0\].files: no file under .*raw matches '{x}.npy'"),
        ({"files": ""}, r"recordings\[0\].files: is missing, and raw is a folder"),
        ({"subject": "{who}"}, r"recordings\[0\].subject: there is no {who} in files; it has none"),
        ({"split": "val"}, r"recordings\[0\].split: is 'val'; expected train or test"),
        ({"fps": 0}, r"recordings\[0\].fps: is 0; expected frames a second above 0"),
        ({"camera": "right"}, r"recordings\[0\].camera: There is no name 'right'. .*Known: left"),
        ({"camera": None}, r"recordings\[0\].camera: is missing; only poses in a world"),
        ({"camera": {"fx": 1}}, r"recordings\[0\].camera.fy: is missing; a camera needs"),
        ({"camera": {**CAMERA, "f": 1}}, r"recordings\[0\].camera.f: There is no field 'f'"),
        ({"camera": {**CAMERA, "fx": -1}}, r"recordings\[0\].camera.fx: is -1; expected pixels above 0"),
        ({"camera": {**CAMERA, "fx": "a"}}, r"recordings\[0\].camera.fx: is str 'a'; expected a number"),
        ({"camera": {**CAMERA, "t": [1, 2]}}, r"recordings\[0\].camera.t: .*\(2,\); expected .*\(3,\)"),
        ({"camera": {**CAMERA, "R": np.diag([1, 1, -1]).tolist()}}, r"recordings\[0\].camera.R: is no rotation"),
        ({"confidence": "c"}, r"recordings\[0\].confidence: is given without keypoints"),
        ({"keypoints": "k"}, r"recordings\[0\].poses: has 6 frames, the keypoints 5"),
        ({"keypoints": "words"}, r"recordings\[0\].keypoints|a.npz: key '?words"),
    ],
)
def test_a_wrong_recording_is_named(prepare, change, said):
    extra = {"k": np.ones((5, 17, 2))} if change.get("keypoints") == "k" else {}
    extra |= {"words": np.array(["a"])} if change.get("keypoints") == "words" else {}
    np.savez(prepare.raw / "a.npz", p=in_camera(world()), **extra)
    entry = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises((DataError, MissingDataError), match=said) as error:
        prepare([entry])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit": "m"}, "unit: There is no field 'unit'. Did you mean 'units'"),
        ({"units": "cm"}, "units: There is no name 'cm'. .*Known: m, mm"),
        ({"frame": "image"}, "frame: There is no name 'image'"),
        ({"label_scale": "univ"}, "label_scale: .*Did you mean 'universal'"),
        ({"fps": None}, r"recordings\[0\].fps: is missing, and so is fps of the whole file"),
        ({"fps": "fast"}, "fps: is str 'fast'; expected a number"),
        ({"skeleton": "h36m18"}, "skeleton: There is no skeleton 'h36m18'"),
        ({"skeleton": {"joints": ["a", "b"], "parents": [0, 0]}}, "skeleton: Skeleton 'mapped': needs distinct joints"),
        ({"skeleton": {"joints": ["a", "b"], "parents": [0]}}, r"skeleton.parents: .*expected"),
        ({"joints": list(JOINTS[1:])}, "joints: 'pelvis' is there 0 times; it must be there once"),
        ({"recordings": []}, "recordings: is empty"),
        ({"recordings": None}, "recordings: is NoneType|recordings: is .*expected a list"),
        ({"recordings": [{"files": "a.npz", "camera": "left"}]}, r"recordings\[0\]: has neither poses nor keypoints"),
        ({"recordings": [GOOD, GOOD]}, "recordings: two are named 'a'"),
        (
            {"recordings": [GOOD, {**GOOD, "name": "b", "split": "test"}]},
            "recordings: 'a' has no split where others have",
        ),
        ({"cameras": {"left": 3}}, "cameras.left: is int '3'; expected a dictionary"),
    ],
)
def test_a_wrong_field_of_the_whole_is_named(prepare, change, said):
    np.savez(prepare.raw / "a.npz", p=in_camera(world()))
    with pytest.raises(DataError, match=f"map.json: {said}") as error:
        prepare(**{"recordings": [GOOD], **change})
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(prepare, tmp_path):
    (prepare.raw / "a.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"only .npz, .npy, .json, .h5 and .hdf5 files can be read"):
        prepare([{**GOOD, "files": "a.txt"}])
    (prepare.raw / "a.json").write_text('{"p": [[1, 2], [3]], "q": {"r": 1}}')
    with pytest.raises(DataError, match=r"'p' is no regular array of numbers"):
        prepare([{**GOOD, "files": "a.json"}])
    with pytest.raises(DataError, match=r"recordings\[0\].poses.key: 'q.s' is not in .*a.json: no 's'"):
        prepare([{**GOOD, "files": "a.json", "poses": "q.s"}])
    with pytest.raises(ConfigError, match=r"dataset=mapped needs mapping=<JSON file>"):
        open_raw_dataset("mapped", prepare.raw)
    (tmp_path / "map.json").write_text("[1")
    with pytest.raises(DataError, match=r"map.json"):
        open_raw_dataset("mapped", prepare.raw, RawOptions(mapping=str(tmp_path / "map.json")))
