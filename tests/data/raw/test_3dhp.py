"""MPI-INF-3DHP: each published layout, written from known poses, gives these poses back by joint name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from poseda.data.raw import _3dhp
from poseda.data.raw._3dhp import facts, official
from poseda.data.raw._3dhp.calibration import read_calibration
from poseda.data.recordings import RawDataset, RawOptions, Recording
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.skeleton import get_skeleton

METRIC, UNIVERSAL = RawOptions(), RawOptions(labels="universal")
S28 = get_skeleton("3dhp28").joints
RELEVANT = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
FROM_17_TO_H36M = [14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]
SPIN_JOINTS = [14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6]  # SPIN's places of ...
SPIN_FROM_17 = [14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]  # ... these of the 17 test joints
POSEAUG = [14, 2, 1, 0, 3, 4, 5, 16, 12, 18, 9, 10, 11, 8, 7, 6]
LEFT_FIRST = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]
EIGHT = ("0", "1", "2", "4", "5", "6", "7", "8")
VALID = (603, 540, 505, 553, 276, 452)
AT_25 = (6416, 6502, 6081, 6171, 6675, 6188, 6145, 6239, 6320, 6468, 6054)
TRAIN = sum(AT_25) + 6215 + 6244 + 6142 + 6410 + 6156  # and every second frame of those at 50


def people(frames: int, seed: int = 0) -> np.ndarray:
    """(F, 28, 3) mm in the camera frame, the pelvis some 4 m away."""
    generator = np.random.default_rng(seed)
    poses = generator.normal(size=(frames, 28, 3)) * (250, 400, 250)
    return poses + generator.normal(size=(frames, 1, 3)) * (300, 100, 300) + (0, 0, 4200)


def universal(poses: np.ndarray, pelvis: int = 4) -> np.ndarray:
    """A person of another size at the same place."""
    root = poses[:, pelvis : pelvis + 1]
    return root + (poses - root) * 1.2


def seen(poses: np.ndarray, camera: Camera) -> np.ndarray:
    return camera.project(torch.from_numpy(poses)[None])[0].numpy()


def rig_camera(name: str) -> Camera:
    rig = load_rig("3dhp_train", torch.float64)
    return rig.cameras[rig.camera_names.index(name)]


def ts_camera(name: str) -> Camera:
    return load_rig("3dhp_ts5-6" if name in ("TS5", "TS6") else "3dhp_ts1-4", torch.float64).cameras


def read(dataset: RawDataset, unit: str) -> dict[str, Recording]:
    found = next(u for u in dataset.units if u.name == unit)
    recordings = [recording for recording in found.read() if isinstance(recording, Recording)]
    return {recording.name: recording for recording in recordings}


def assert_same(dataset: RawDataset, recording: Recording, poses: np.ndarray, camera: Camera) -> None:
    """poses (F, 28, 3): the recording has them and their projection, joint by joint by name."""
    assert recording.poses is not None
    own = poses[:, [S28.index(joint) for joint in dataset.skeleton.joints]]
    np.testing.assert_allclose(recording.poses, own, atol=1e-6)
    np.testing.assert_allclose(recording.keypoints, seen(own, camera), atol=1e-6)
    for name in ("fx", "fy", "cx", "cy", "width", "height", "radial", "R", "t"):
        torch.testing.assert_close(getattr(recording.camera, name), getattr(camera, name), atol=1e-4, rtol=1e-6)


# As published


def calibration_text(cameras: tuple[str, ...] = facts.ALL_CAMERAS) -> str:
    """The data set's own format, its world with y up."""
    lines = ["Skeletool Camera Calibration File V1.0"]
    for name in cameras:
        camera = rig_camera(name)
        rotation = camera.R[0].numpy() @ [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
        extrinsic = np.vstack([np.c_[rotation, camera.t[0].numpy()], [0, 0, 0, 1]])
        intrinsic = np.eye(4)
        intrinsic[[0, 1], [0, 1]] = float(camera.fx), float(camera.fy)
        intrinsic[:2, 2] = float(camera.cx), float(camera.cy)
        rows = {"intrinsic": intrinsic, "extrinsic": extrinsic}
        lines += [f"name          {name}", "  sensor      10 10", "  size        2048 2048", "  animated    0"]
        lines += [f"  {key}   {' '.join(f'{x:.9g}' for x in matrix.ravel())} " for key, matrix in rows.items()]
        lines.append("  radial      0")
    return "\n".join(lines) + "\n"


def write_train(root: Path, name: str = "S1/Seq1", frames: int = 12, cameras: tuple[str, ...] = EIGHT) -> Path:
    """annot.mat with the cameras' seeds as people; cells of other cameras are empty."""
    folder = root / name
    folder.mkdir(parents=True)
    cells = {key: np.empty((14, 1), dtype=object) for key in ("annot2", "annot3", "univ_annot3")}
    for number in range(14):
        here = str(number) in cameras
        poses = people(frames if here else 0, seed=number)
        cells["annot2"][number, 0] = seen(poses, rig_camera(str(number))).reshape(-1, 56)
        cells["annot3"][number, 0] = poses.reshape(-1, 84)
        cells["univ_annot3"][number, 0] = universal(poses).reshape(-1, 84)
    scipy.io.savemat(folder / "annot.mat", {**cells, "cameras": np.arange(14), "frames": np.arange(frames)[:, None]})
    (folder / "camera.calibration").write_text(calibration_text())
    return folder


def write_test(root: Path, name: str = "TS1", frames: int = 12, matlab_order: bool = False, seed: int = 0) -> Path:
    """annot_data.mat as MATLAB v7.3 writes 2 x 17 x 1 x N, that is (N, 1, 17, 2) in HDF5; or in MATLAB's own order."""
    h5py = pytest.importorskip("h5py")
    folder = root / "mpi_inf_3dhp_test_set" / name
    folder.mkdir(parents=True)
    poses = people(frames, seed)
    arrays = {
        "annot2": seen(poses, ts_camera(name))[:, None, RELEVANT],
        "annot3": poses[:, None, RELEVANT],
        "univ_annot3": universal(poses)[:, None, RELEVANT],
        "valid_frame": (np.arange(frames) % 3 != 1).astype(float)[:, None],
        "activity_annotation": np.ones((frames, 1)),
    }
    with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:
        for key, array in arrays.items():
            file[key] = array.T if matlab_order else array
    return folder / "annot_data.mat"


def test_training_set_gives_poses_of_the_eight_cameras(tmp_path: Path) -> None:
    write_train(tmp_path, "S1/Seq1")
    write_train(tmp_path, "S1/Seq2", frames=7)
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert dataset.skeleton.name == "3dhp28" and dataset.label_scale == "metric"
    assert "annot3" in dataset.recognised and "non-commercial" in dataset.licence
    assert dataset.expected == {"train": 8 * TRAIN}
    assert [(unit.name, unit.split) for unit in dataset.units] == [("S1/Seq1", "train"), ("S1/Seq2", "train")]
    assert [file.name for file in dataset.units[0].files] == ["annot.mat", "camera.calibration"]
    recordings = read(dataset, "S1/Seq1")
    assert list(recordings) == [f"S1/Seq1/{camera}" for camera in EIGHT]
    for camera in EIGHT:
        assert_same(dataset, recordings[f"S1/Seq1/{camera}"], people(12, int(camera)), rig_camera(camera))
    assert {(r.subject, r.action, r.fps) for r in read(dataset, "S1/Seq2").values()} == {("S1", "Seq2", 50)}


def test_training_set_with_universal_labels_keeps_them_as_they_are(tmp_path: Path) -> None:
    write_train(tmp_path / "train")
    dataset = _3dhp.open_raw(tmp_path, UNIVERSAL)
    assert dataset.label_scale == "universal" and "do not meet the 2D" in dataset.notes
    recording = read(dataset, "S1/Seq1")["S1/Seq1/5"]
    np.testing.assert_allclose(recording.poses, universal(people(12, 5)), atol=1e-9)


def test_annotations_beyond_the_video_are_cut(tmp_path: Path) -> None:
    write_train(tmp_path, frames=6420, cameras=("12",))
    dataset = _3dhp.open_raw(tmp_path, RawOptions(cameras=("12",)))
    assert dataset.expected == {"train": TRAIN}
    (recording,) = read(dataset, "S1/Seq1").values()
    assert len(recording.keypoints) == 6416
    assert_same(dataset, recording, people(6420, 12)[:6416], rig_camera("12"))


def test_published_cameras_stand_in_for_a_missing_calibration(tmp_path: Path) -> None:
    (write_train(tmp_path) / "camera.calibration").unlink()
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert "No camera.calibration beside S1 Seq1" in dataset.notes
    assert_same(dataset, read(dataset, "S1/Seq1")["S1/Seq1/7"], people(12, 7), rig_camera("7"))


def test_calibration_is_turned_from_y_up_to_z_up(tmp_path: Path) -> None:
    numbers = """0.9650164 0.00488022 0.262144 -562.8666 -0.004488356 -0.9993728 0.0351275 1398.138
        0.262151 -0.03507521 -0.9643893 3852.623 0 0 0 1"""  # camera 0 as printed in the data set's file
    rows = calibration_text(("0",)).splitlines()
    rows[6] = f"  extrinsic  {' '.join(numbers.split())} "
    (tmp_path / "camera.calibration").write_text("\n".join(rows))
    camera = read_calibration(tmp_path / "camera.calibration")["0"]
    torch.testing.assert_close(camera.R, rig_camera("0").R, atol=1e-6, rtol=0)
    torch.testing.assert_close(camera.t, rig_camera("0").t)
    assert 800 < float(camera.centre()[0, 2]) < 1600  # a chest-high camera


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("Skeletool", "Other"), "line 1 is not 'Skeletool"),
        (lambda text: text.replace("radial      0", "radial      -0.1", 1), "camera 0: radial is not 0"),
        (lambda text: text.replace("  radial      0\n", "", 1), "camera 0: has no line 'radial'"),
        (lambda text: text.replace("2048 2048", "2048", 1), "camera 0: size: expected 2 finite numbers"),
        (lambda text: text.replace("2048 2048", "2048 x", 1), "camera 0: size: expected 2 finite numbers"),
        (lambda text: text.replace("  extrinsic   ", "  extrinsic   9", 1), "camera 0: extrinsic does not begin with"),
        (lambda text: text[: text.index("name          1\n")], "has no camera 1; the file is incomplete"),
        (lambda text: "", "the file is empty"),
    ],
)
def test_damaged_calibrations_are_refused(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    file = write_train(tmp_path, frames=2) / "camera.calibration"
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=message):
        read(_3dhp.open_raw(tmp_path, METRIC), "S1/Seq1")


def test_damaged_training_annotations_are_refused(tmp_path: Path) -> None:
    file = write_train(tmp_path, frames=3) / "annot.mat"
    whole, cells = file.read_bytes(), scipy.io.loadmat(file)

    def refuses(message: str, kind: type[Exception] = DataError, **changes: Any) -> None:
        scipy.io.savemat(file, {key: value for key, value in {**cells, **changes}.items() if value is not None})
        with pytest.raises(kind, match=message):
            read(_3dhp.open_raw(tmp_path, METRIC), "S1/Seq1")

    cells = {key: cells[key] for key in ("annot2", "annot3")}
    refuses("has no 'annot3'", annot3=None)
    refuses("key annot2: expected a cell array of 14 cameras", annot2=np.zeros((3, 56)))
    refuses("key annot2: expected a cell array of 14 cameras", annot2=cells["annot2"][:8])
    wrong = np.empty((14, 1), dtype=object)
    wrong[:, 0] = [np.zeros((3, 51))] * 14
    refuses(r"key annot3, camera 0: is float64 \(3, 51\)", annot3=wrong)
    wrong[:, 0] = [np.ones((2, 84))] * 14
    refuses("camera 0 has 3 2D and 2 3D frames", annot3=wrong)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"annot\.mat"):
        read(_3dhp.open_raw(tmp_path, METRIC), "S1/Seq1")


def test_cameras_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write_train(tmp_path, frames=2)
    with pytest.raises(ConfigError, match="no camera in this data '14'"):
        _3dhp.open_raw(tmp_path, RawOptions(cameras=("14",)))
    with pytest.raises(ConfigError, match="no frames of camera 3"):
        read(_3dhp.open_raw(tmp_path, RawOptions(cameras=("3",))), "S1/Seq1")
    with pytest.raises(ConfigError, match="true 2D alone"):
        _3dhp.open_raw(tmp_path, RawOptions(keypoints="cpn"))


@pytest.mark.parametrize("matlab_order", [False, True])
@pytest.mark.parametrize("name", ["TS1", "TS6"])
def test_test_set_gives_poses_and_valid_frames(tmp_path: Path, name: str, matlab_order: bool) -> None:
    write_test(tmp_path, name, matlab_order=matlab_order)
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert dataset.skeleton.name == "3dhp17" and dataset.units[0].split == "test"
    (recording,) = read(dataset, name).values()
    assert_same(dataset, recording, people(12), ts_camera(name))
    assert recording.scored is not None and recording.scored.tolist() == [True, False, True] * 4
    assert recording.subject == recording.name == name
    (recording,) = read(_3dhp.open_raw(tmp_path, UNIVERSAL), name).values()
    np.testing.assert_allclose(recording.poses, universal(people(12))[:, RELEVANT], atol=1e-9)


def test_test_set_saved_again_in_the_older_format_is_read(tmp_path: Path) -> None:
    file = write_test(tmp_path)
    arrays = official._test_arrays(file, ("annot2", "annot3", "valid_frame"))
    scipy.io.savemat(file, {key: array.T for key, array in arrays.items()})
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert_same(dataset, read(dataset, "TS1")["TS1"], people(12), ts_camera("TS1"))
    scipy.io.savemat(file, {"annot2": np.zeros((2, 17, 1, 5))})
    with pytest.raises(DataError, match="has no 'annot3'"):
        read(_3dhp.open_raw(tmp_path, METRIC), "TS1")


def test_whole_test_set_expects_2929_frames(tmp_path: Path) -> None:
    for number in range(1, 7):
        write_test(tmp_path, f"TS{number}", frames=2)
    assert _3dhp.open_raw(tmp_path, METRIC).expected == {"test": 2929}
    with pytest.raises(ConfigError, match="each 3DHP test sequence has one camera"):
        _3dhp.open_raw(tmp_path, RawOptions(cameras=("8",)))


def test_training_and_test_set_together_have_the_test_sets_joints(tmp_path: Path) -> None:
    write_train(tmp_path)
    write_test(tmp_path, "TS5")
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert dataset.skeleton.name == "3dhp17" and dataset.expected == {"train": 8 * TRAIN, "test": 2929}
    assert_same(dataset, read(dataset, "S1/Seq1")["S1/Seq1/4"], people(12, 4), rig_camera("4"))
    assert_same(dataset, read(dataset, "TS5")["TS5"], people(12), ts_camera("TS5"))


def test_damaged_test_annotations_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    file = write_test(tmp_path)
    whole = file.read_bytes()

    def refuses(message: str, key: str, value: np.ndarray | None) -> None:
        file.write_bytes(whole)
        with h5py.File(file, "r+") as data:
            del data[key]
            if value is not None:
                data[key] = value
        with pytest.raises(DataError, match=message):
            read(_3dhp.open_raw(tmp_path, METRIC), "TS1")

    refuses("annot3", "annot3", None)
    refuses(r"key annot2: is float64 \(12, 1, 16, 2\)", "annot2", np.zeros((12, 1, 16, 2)))
    refuses(r"key annot2: is float64 \(12, 17, 2\)", "annot2", np.zeros((12, 17, 2)))
    refuses("has 12 2D, 12 3D and 11 valid_frame entries", "valid_frame", np.ones((11, 1)))
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="annot_data"):
        read(_3dhp.open_raw(tmp_path, METRIC), "TS1")


def test_what_is_not_3dhp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"holds nothing of MPI-INF-3DHP .*Looked for: training set"):
        _3dhp.open_raw(tmp_path, METRIC)
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    with pytest.raises(MissingDataError, match="holds nothing of"):
        _3dhp.open_raw(tmp_path / "other.npz", METRIC)
    file = write_train(tmp_path / "a", frames=2) / "annot.mat"
    with pytest.raises(DataError, match="give the folder that S1 or TS1 lies in"):
        _3dhp.open_raw(file, METRIC)
    shutil.copytree(tmp_path / "a", tmp_path / "both" / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "both" / "b")
    with pytest.raises(DataError, match="S1 Seq1 is there twice"):
        _3dhp.open_raw(tmp_path / "both", METRIC)


# P-STMO and PoSynDA


def write_stmo(path: Path, labels: str, split: str, cameras: tuple[str, ...] = EIGHT, **changes: Any) -> Path:
    """data_train_3dhp.npz or data_test_3dhp.npz, a pickled dictionary in a 0-d object array."""
    change = universal if labels == "universal" else np.asarray
    data: dict[str, Any] = {}
    for number, name in enumerate(("S1 Seq1", "S8 Seq2") if split == "train" else ("TS1", "TS6")):
        if split == "train":
            views = {}
            for camera in cameras:
                poses = people(9, seed=10 * number + int(camera))
                pixels = seen(poses, rig_camera(camera))
                views[camera] = {"data_2d": pixels[:, RELEVANT], "data_3d": change(poses)[:, RELEVANT]}
            data[name] = [views, 25]
        else:
            poses = people(9, seed=number)
            pixels = seen(poses, ts_camera(name))[:, RELEVANT]
            valid = (np.arange(9) != 3).astype(np.uint8)
            data[name] = {"data_2d": pixels, "data_3d": change(poses)[:, RELEVANT], "valid": valid}
    data.update(changes)
    np.savez_compressed(path, data=np.array(data, dtype=object))
    return path


@pytest.mark.parametrize("options", [METRIC, UNIVERSAL], ids=["posynda", "pstmo"])
def test_pstmo_layout_gives_poses_and_finds_the_labels(tmp_path: Path, options: RawOptions) -> None:
    for split in ("train", "test"):
        write_stmo(tmp_path / f"data_{split}_3dhp.npz", options.labels, split)
    dataset = _3dhp.open_raw(tmp_path, options)
    assert dataset.label_scale == options.labels and dataset.expected == {"train": 8 * TRAIN, "test": 2929}
    assert "meets 2D to 0.0 px" in dataset.recognised if options is METRIC else "misses 2D by" in dataset.recognised
    change = universal if options is UNIVERSAL else np.asarray
    assert {unit.name: unit.split for unit in dataset.units} == {
        "S1/Seq1": "train", "S8/Seq2": "train", "TS1": "test", "TS6": "test"
    }  # fmt: skip
    recordings = read(dataset, "S8/Seq2")
    assert list(recordings) == [f"S8/Seq2/{camera}" for camera in EIGHT]
    poses = people(9, 16)
    recording = recordings["S8/Seq2/6"]
    np.testing.assert_allclose(recording.poses, change(poses)[:, RELEVANT], atol=1e-9)
    np.testing.assert_allclose(recording.keypoints, seen(poses[:, RELEVANT], rig_camera("6")), atol=1e-9)
    (recording,) = read(dataset, "TS6").values()
    np.testing.assert_allclose(recording.poses, change(people(9, 1))[:, RELEVANT], atol=1e-9)
    assert recording.scored is not None and np.flatnonzero(~recording.scored).tolist() == [3]


def test_pstmo_files_with_both_labels_are_told_apart(tmp_path: Path) -> None:
    write_stmo(tmp_path / "data_test_3dhp.npz", "universal", "test")
    own = write_stmo(tmp_path / "data_test_3dhp_ori.npz", "metric", "test")
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert {unit.files for unit in dataset.units} == {(own,)}
    assert_same(dataset, read(dataset, "TS1")["TS1"], people(9, 0), ts_camera("TS1"))
    with pytest.raises(ConfigError, match="holds metric labels, asked for were universal ones; write labels=metric"):
        _3dhp.open_raw(own, UNIVERSAL)
    with pytest.raises(ConfigError, match=r"misses 2D by \d+ px\): holds universal labels"):
        _3dhp.open_raw(tmp_path / "data_test_3dhp.npz", METRIC)
    shutil.copy(own, tmp_path / "again.npz")
    with pytest.raises(DataError, match=r"TS1 is in .*again.npz and in .*with the same labels"):
        _3dhp.open_raw(tmp_path, METRIC)


def test_pstmo_cameras_can_be_chosen_of_those_there(tmp_path: Path) -> None:
    path = write_stmo(tmp_path / "train.npz", "metric", "train", ("0", "3"))
    assert list(read(_3dhp.open_raw(path, RawOptions(cameras=("3",))), "S1/Seq1")) == ["S1/Seq1/3"]
    with pytest.raises(ConfigError, match=r"no camera in this data '8'.*Known: 0, 3"):
        _3dhp.open_raw(path, RawOptions(cameras=("8",)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"S9 Seq1": 3}, r"S9 Seq1: is no 3DHP sequence"),
        ({"TS1": [1]}, "TS1: is a list of 1; expected a dictionary"),
        ({"TS1": {"data_2d": np.zeros((3, 17, 2))}}, "TS1: has no 'data_3d'"),
        ({"TS1": {"data_2d": np.zeros((3, 16, 2)), "data_3d": 0}}, r"TS1, data_2d: is float64 \(3, 16, 2\)"),
        ({"TS1": {"data_2d": np.zeros((3, 17, 2)), "data_3d": np.ones((4, 17, 3))}}, "TS1: has 3 2D and 4 3D frames"),
        ({"S1 Seq1": [{}]}, "S1 Seq1: has 1 parts; expected the cameras and the frame rate"),
        ({"S1 Seq1": [{}, 25]}, "S1 Seq1: has no cameras"),
        ({"S1 Seq1": [{"14": {}}, 25]}, "camera 14: 3DHP has the cameras 0 to 13"),
        ({"TS6": {"data_2d": seen(people(9, 1), ts_camera("TS6"))[:, RELEVANT], "data_3d": people(9, 1)[:, RELEVANT]}},
         "TS6: has no 'valid'"),
    ],
)  # fmt: skip
def test_other_dictionaries_than_pstmos_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_stmo(tmp_path / "test.npz", "metric", "test", **changes)
    with pytest.raises(DataError, match=message):
        read(_3dhp.open_raw(path, METRIC), "TS6")


def test_3d_that_fits_its_2d_in_no_way_is_refused(tmp_path: Path) -> None:
    with np.load(write_stmo(tmp_path / "test.npz", "metric", "test"), allow_pickle=True) as npz:
        data = npz["data"].item()
    for entry in data.values():
        entry["data_3d"] = entry["data_3d"][:, ::-1]
    np.savez(tmp_path / "test.npz", data=np.array(data, dtype=object))
    with pytest.raises(DataError, match="the 3D does not fit the 2D"):
        _3dhp.open_raw(tmp_path / "test.npz", METRIC)


# SPIN and PoseAug


def spin_rows(names: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """imgname, part and S of the given frames; a frame's person has the frame's number in a long recording."""
    images, parts, labels = [], [], []
    for name, frames in names.items():
        poses = people(40)[frames]
        part, label = np.zeros((len(frames), 24, 3)), np.zeros((len(frames), 24, 4))
        relevant = poses[:, RELEVANT][:, SPIN_FROM_17]
        part[:, SPIN_JOINTS, :2] = seen(relevant, ts_camera(name))
        part[:, SPIN_JOINTS, 2] = 1
        label[:, SPIN_JOINTS, :3] = (relevant - relevant[:, :1]) / 1000
        label[:, SPIN_JOINTS, 3] = 1
        images += [f"mpi_inf_3dhp_test_set/{name}/imageSequence/img_{frame + 1:06d}.jpg" for frame in frames]
        parts.append(part)
        labels.append(label)
    return {"imgname": np.array(images), "part": np.concatenate(parts), "S": np.concatenate(labels)}


def test_spin_gives_poses_cut_at_jumps(tmp_path: Path) -> None:
    path = tmp_path / "mpi_inf_3dhp_valid.npz"
    np.savez(path, **spin_rows({"TS1": [0, 1, 2, 10, 20, 21], "TS5": [4, 5]}), center=np.zeros((8, 2)))
    np.savez(tmp_path / "coco.npz", imgname=np.array(["train2014/1.jpg"]), part=np.zeros(1), S=np.zeros(1))
    dataset = _3dhp.open_raw(tmp_path, UNIVERSAL)
    assert dataset.skeleton.name == "h36m17" and dataset.label_scale == "universal"
    assert dataset.expected == {"test": 2929} and "root is placed by the 2D" in dataset.notes
    recordings = read(dataset, "TS1")
    assert list(recordings) == ["TS1/000001", "TS1/000011", "TS1/000021"]
    for name, frames in (("TS1/000001", [0, 1, 2]), ("TS1/000011", [10]), ("TS1/000021", [20, 21])):
        assert_same(dataset, recordings[name], people(40)[frames], ts_camera("TS1"))
    assert_same(dataset, read(dataset, "TS5")["TS5/000005"], people(40)[4:6], ts_camera("TS5"))


def test_spins_missing_joints_are_missing(tmp_path: Path) -> None:
    rows = spin_rows({"TS2": [0, 1]})
    rows["part"][0, 6, 2] = 0
    np.savez(tmp_path / "spin.npz", **rows)
    (recording,) = read(_3dhp.open_raw(tmp_path, UNIVERSAL), "TS2").values()
    missing = np.argwhere(np.isnan(recording.keypoints).any(-1))
    assert missing.tolist() == [[0, get_skeleton("h36m17").index("rwrist")]]
    assert recording.confidence is not None and recording.confidence[0, 16] == 0 and recording.confidence.sum() == 33


def test_other_spin_files_are_refused(tmp_path: Path) -> None:
    rows, path = spin_rows({"TS1": [0, 1]}), tmp_path / "spin.npz"

    def refuses(message: str, kind: type[Exception] = DataError, **changes: np.ndarray) -> None:
        np.savez(path, **{**rows, **changes})
        with pytest.raises(kind, match=message):
            read(_3dhp.open_raw(path, UNIVERSAL), "TS1")

    refuses("imgname 1 is 'S1/Seq1/a.jpg'", imgname=np.array([rows["imgname"][0], "S1/Seq1/a.jpg"]))
    refuses("imgname is empty", imgname=np.zeros(0, dtype="U9"))
    refuses(r"key part: is float64 \(2, 17, 3\)", part=np.zeros((2, 17, 3)))
    refuses(r"key S: is float64 \(1, 24, 4\)", S=np.zeros((1, 24, 4)))
    np.savez(path, **rows)
    with pytest.raises(ConfigError, match=r"holds universal labels.*write labels=universal"):
        _3dhp.open_raw(path, METRIC)
    with pytest.raises(ConfigError, match="one camera"):
        _3dhp.open_raw(path, RawOptions(labels="universal", cameras=("0",)))
    shutil.copy(path, tmp_path / "twice.npz")
    with pytest.raises(DataError, match="are both SPIN's test set"):
        _3dhp.open_raw(tmp_path, UNIVERSAL)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"spin\.npz"):
        _3dhp.open_raw(path, UNIVERSAL)


def poseaug_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """test_3dhp.npz made from SPIN's joints by PoseAug's list, and the poses behind it by sequence."""
    pose2d, pose3d, poses = [], [], {}
    for number, frames in enumerate(VALID):
        name = f"TS{number + 1}"
        poses[name] = people(frames, seed=number)
        size = (1920, 1080) if number >= 4 else (2048, 2048)
        relevant = poses[name][:, RELEVANT][:, SPIN_FROM_17]
        whole = np.zeros((frames, 24, 5))
        whole[:, SPIN_JOINTS] = np.concatenate([seen(relevant, ts_camera(name)), relevant - relevant[:, :1]], -1)
        whole = whole[:, POSEAUG]
        pose2d.append(whole[..., :2] / size[0] * 2 - [1, size[1] / size[0]])
        pose3d.append(whole[..., 2:] / 1000)
    arrays = {"pose2d": np.concatenate(pose2d), "pose3d": np.concatenate(pose3d)}
    np.savez(path, **arrays)
    return arrays, poses


def test_poseaug_gives_pixels_and_placed_poses(tmp_path: Path) -> None:
    arrays, poses = poseaug_file(tmp_path / "test_3dhp.npz")
    dataset = _3dhp.open_raw(tmp_path, UNIVERSAL)
    assert dataset.skeleton.name == "h36m16" and dataset.expected == {"test": 2929}
    assert [unit.name for unit in dataset.units] == [f"TS{number}" for number in range(1, 7)]
    for name in ("TS1", "TS4", "TS5", "TS6"):
        assert_same(dataset, read(dataset, name)[name], poses[name], ts_camera(name))
    with pytest.raises(ConfigError, match="write labels=universal"):
        _3dhp.open_raw(tmp_path, METRIC)
    np.savez(tmp_path / "test_3dhp.npz", pose2d=arrays["pose2d"] * 1000, pose3d=arrays["pose3d"])
    with pytest.raises(DataError, match="pose2d of TS1 is not normalised"):
        read(_3dhp.open_raw(tmp_path, UNIVERSAL), "TS1")
    np.savez(tmp_path / "test_3dhp.npz", pose2d=arrays["pose2d"][1:], pose3d=arrays["pose3d"])
    with pytest.raises(DataError, match=r"key pose2d has shape \(2928, 16, 2\)"):
        _3dhp.open_raw(tmp_path, UNIVERSAL)
    np.savez(tmp_path / "spin.npz", **spin_rows({"TS1": [0]}))
    with pytest.raises(DataError, match=r"holds several layouts \(SPIN: spin.npz; PoseAug: test_3dhp.npz\)"):
        _3dhp.open_raw(tmp_path, UNIVERSAL)


# AdaptPose


H36M16 = [S28.index(joint) for joint in get_skeleton("h36m16").joints]


def write_adaptpose(
    folder: Path,
    *,
    relative: bool = False,
    left_first_3d: bool = True,
    names: tuple[str, ...] = EIGHT,
    as_list: bool = True,
) -> None:
    """The three files: nested dictionaries, cameras of the training 3D in a list, left side first in training."""
    pixels: dict[str, Any] = {"S1": {"Seq1": {}}}
    labels: dict[str, Any] = {"S1": {"Seq1": {}}}
    for key, camera in zip(names, EIGHT, strict=True):
        poses = people(6, seed=int(camera))[:, H36M16]
        root = poses[:, :1] if relative else 0
        pixels["S1"]["Seq1"][key] = seen(poses, rig_camera(camera))[:, LEFT_FIRST]
        labels["S1"]["Seq1"][key] = (poses - root)[:, LEFT_FIRST] if left_first_3d else poses - root
    if as_list:
        labels["S1"]["Seq1"] = list(labels["S1"]["Seq1"].values())
    np.savez(folder / "data_3dhp_gt_train.npz", positions_2d=np.array(pixels, dtype=object))
    np.savez(folder / "data_3dhp_gt_train_3d.npz", positions_3d=np.array(labels, dtype=object))
    test_2d, test_3d = {}, {}
    for name in ("TS2", "TS3"):
        poses = people(110)[:, H36M16]
        test_2d[name], test_3d[name] = seen(poses, ts_camera(name)), poses - (poses[:, :1] if relative else 0)
    both = {"positions_2d": np.array(test_2d, dtype=object), "positions_3d": np.array(test_3d, dtype=object)}
    np.savez(folder / "data_3dhp_gt_test.npz", **both)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("left_first_3d", [False, True])
def test_adaptpose_gives_poses_right_side_first(tmp_path: Path, relative: bool, left_first_3d: bool) -> None:
    write_adaptpose(tmp_path, relative=relative, left_first_3d=left_first_3d)
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array({}, dtype=object))
    dataset = _3dhp.open_raw(tmp_path, METRIC)
    assert dataset.skeleton.name == "h36m16" and dataset.expected == {"test": 2729}
    assert ("placed by the 2D" in dataset.notes) == relative
    assert ("as asked for" if relative else "meets 2D to 0.0 px") in dataset.recognised
    recordings = read(dataset, "S1/Seq1")
    assert list(recordings) == [f"S1/Seq1/{camera}" for camera in EIGHT]
    assert_same(dataset, recordings["S1/Seq1/8"], people(6, 8), rig_camera("8"))
    assert_same(dataset, read(dataset, "TS2")["TS2"], people(110), ts_camera("TS2"))
    keep = read(dataset, "TS3")["TS3"].keep
    assert keep is not None and keep.sum() == 10 and keep[100:].all()


def test_adaptpose_cameras_by_number_or_name(tmp_path: Path) -> None:
    write_adaptpose(tmp_path, names=tuple("01234567"), as_list=False)
    dataset = _3dhp.open_raw(tmp_path / "data_3dhp_gt_train.npz", RawOptions(cameras=("4",)))
    assert [unit.split for unit in dataset.units] == ["train"] and "numbered 0 to 7" in dataset.notes
    (recording,) = read(dataset, "S1/Seq1").values()
    assert_same(dataset, recording, people(6, 4), rig_camera("4"))
    with pytest.raises(ConfigError, match="no camera in this data '3'"):
        _3dhp.open_raw(tmp_path, RawOptions(cameras=("3",)))
    with pytest.raises(ConfigError, match="one camera"):
        _3dhp.open_raw(tmp_path / "data_3dhp_gt_test.npz", RawOptions(cameras=("4",)))


def test_adaptpose_failures_say_what_is_wrong(tmp_path: Path) -> None:
    write_adaptpose(tmp_path)
    with pytest.raises(ConfigError, match=r"holds metric labels, asked for were universal ones"):
        _3dhp.open_raw(tmp_path, UNIVERSAL)
    with pytest.raises(ConfigError, match=r"no 2D in AdaptPose's files 'pt'.*Known: gt"):
        _3dhp.open_raw(tmp_path, RawOptions(keypoints="pt"))
    labels = tmp_path / "data_3dhp_gt_train_3d.npz"
    np.savez(labels, positions_3d=np.array({"S1": {"Seq1": [np.ones((6, 16, 3))]}}, dtype=object))
    with pytest.raises(DataError, match="S1/Seq1 has 1 cameras, the 2D has 8"):
        _3dhp.open_raw(tmp_path, METRIC)
    np.savez(labels, positions_3d=np.array({"S1": {"Seq1": [np.ones((5, 16, 3))] * 8}}, dtype=object))
    with pytest.raises(DataError, match="S1/Seq1/0 has 6 2D and 5 3D frames"):
        _3dhp.open_raw(tmp_path, METRIC)
    np.savez(labels, positions_3d=np.array({"S1": {"Seq1": [people(6)[:, :16]] * 8}}, dtype=object))
    with pytest.raises(DataError, match="neither left side first nor right first"):
        _3dhp.open_raw(tmp_path, METRIC)
    np.savez(labels, positions_3d=np.array({"S9": {}}, dtype=object))
    with pytest.raises(DataError, match="has 'S9'; expected S1 to S8"):
        _3dhp.open_raw(tmp_path, METRIC)
    labels.unlink()
    with pytest.raises(MissingDataError, match="one of them is missing"):
        _3dhp.open_raw(tmp_path, METRIC)
    other = np.array({"Directions": np.zeros((1, 16, 3))}, dtype=object)
    np.savez(tmp_path / "other.npz", positions_2d=other, positions_3d=other)
    with pytest.raises(DataError, match="has 2D of Directions; expected TS1 to TS6"):
        _3dhp.open_raw(tmp_path / "other.npz", METRIC)
