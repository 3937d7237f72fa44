"""HumanEva-I: cameras solved from the gt 2D are those that made it, and the poses come back by joint name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.data.archive import load_archive
from poseda.data.clips import LabelledClips
from poseda.data.prepare import open_raw_dataset, prepare_dataset
from poseda.data.recordings import RawDataset, RawOptions, Recording
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.camera import Camera

JOINTS = [
    "pelvis", "thorax", "lshoulder", "lelbow", "lwrist", "rshoulder", "relbow", "rwrist", "lhip", "lknee", "lankle",
    "rhip", "rknee", "rankle", "head",
]  # fmt: skip
SIDES = [[2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13]]
# C1 to C3 of S1 and S2 in HumanEva's calibration: quaternion w x y z camera to world, centre in mm.
EXTRINSICS = {
    "S1": [([0.424207, -0.4983646, -0.5802981, 0.4847012], [4062.227, 663.2477, 1528.397]),
           ([0.6503354, -0.7481602, -0.0919284, 0.0941766], [844.8131, -3805.2092, 1504.9929]),
           ([0.0664734, -0.0690535, 0.7416416, -0.6639132], [-797.67377, 3916.3174, 1433.6602])],
    "S2": [([0.4214752, -0.4961493, -0.5838273, 0.4851187], [4112.9121, 626.4929, 1545.2988]),
           ([0.6501393, -0.7476588, -0.0954617, 0.0959808], [923.574, -3877.9243, 1504.5518]),
           ([0.0699353, -0.0712403, 0.7421637, -0.662742], [-781.4915, 3838.8853, 1444.9929])],
}  # fmt: skip
EXTRINSICS["S3"] = EXTRINSICS["S1"]
Takes = dict[str, dict[str, Any]]


def camera(half: str, number: int, lens: bool = True) -> Camera:
    (w, *xyz), centre = EXTRINSICS[half.split("/")[1]][number]
    R = Rotation.from_quat([*xyz, w]).as_matrix().T
    return Camera.create(
        fx=760.0 + number, fy=758.0, cx=302.5, cy=246.0 - number, width=640.0, height=480.0,
        radial=(-0.17, 0.11, 0.0) if lens else (0.0,) * 3, tangential=(0.002, -0.001) if lens else (0.0,) * 2,
        R=torch.from_numpy(R), t=torch.from_numpy(-R @ np.array(centre)), dtype=torch.float64,
    )  # fmt: skip


def known_takes() -> Takes:
    """World poses (T, 15, 3) mm of three people in both halves."""
    draw = np.random.default_rng(8)
    names = {"Train": {"Walking 1 chunk0": 7, "Box 1 chunk2": 6}, "Validate": {"Jog 1 chunk0": 8}}
    return {
        f"{half}/{person}": {
            take: np.array([0.0, 0.0, 900.0]) + draw.normal(size=(1, 1, 3)) * 300 + draw.normal(size=(n, 15, 3)) * 350
            for take, n in actions.items()
        }
        for half, actions in names.items()
        for person in ("S1", "S2", "S3")
    }


@pytest.fixture
def takes() -> Takes:
    return known_takes()


def boxed(value: object) -> np.ndarray:
    box = np.empty((), object)
    box[()] = value
    return box


def save(folder: Path, takes: Takes, lens: bool = True, shift: float = 0.0) -> None:
    poses = {half: {a: (p / 1000).astype(np.float32) for a, p in actions.items()} for half, actions in takes.items()}
    np.savez_compressed(folder / "data_3d_humaneva15.npz", positions_3d=boxed(poses))
    draw = np.random.default_rng(2)
    seen = {
        half: {
            a: [
                (project(camera(half, number, lens), p) + shift * draw.normal(size=(*p.shape[:2], 2))).astype(
                    np.float32
                )
                for number in range(3)
            ]
            for a, p in actions.items()
        }
        for half, actions in takes.items()
    }
    save_2d(folder, "gt", seen, 15, SIDES)


def project(one: Camera, world: np.ndarray) -> np.ndarray:
    return one.project(one.world_to_camera(torch.from_numpy(world)[None]))[0].numpy()


def save_2d(folder: Path, name: str, keypoints: Takes, joints: int, sides: list[list[int]]) -> None:
    metadata = {"layout_name": "humaneva15", "num_joints": joints, "keypoints_symmetry": sides}
    np.savez_compressed(
        folder / f"data_2d_humaneva15_{name}.npz", positions_2d=boxed(keypoints), metadata=boxed(metadata)
    )


def opened(raw: Path, **options: Any) -> RawDataset:
    return open_raw_dataset("humaneva", raw, RawOptions(**options))


def read(dataset: RawDataset) -> dict[str, Recording]:
    return {item.name: item for unit in dataset.units for item in unit.read() if isinstance(item, Recording)}


@pytest.mark.parametrize("lens", [True, False])
def test_cameras_and_poses_come_back(tmp_path: Path, takes: Takes, lens: bool) -> None:
    save(tmp_path, takes, lens)
    dataset = opened(tmp_path)
    assert "met to 0.00 px" in dataset.notes
    found = read(dataset)
    assert len(found) == 9 * 3
    for name, got in found.items():
        half, take, one = name.rsplit("/", 2)
        true = camera(half, int(one[1]) - 1, lens)
        for field in ("fx", "fy", "cx", "cy"):
            assert float(getattr(got.camera, field)) == pytest.approx(float(getattr(true, field)), abs=0.05)
        expected = true.world_to_camera(torch.from_numpy(takes[half][take])[None])[0].numpy()
        assert got.poses is not None and got.fps == 60 and got.action == take.split(" ")[0]
        for joint, place in zip(JOINTS, range(15), strict=True):
            index = dataset.skeleton.index(joint)
            np.testing.assert_allclose(got.poses[:, index], expected[:, place], atol=2e-3)
            given = project(true, takes[half][take])[:, place]
            np.testing.assert_allclose(got.keypoints[:, index], given, atol=1e-4)
        again = got.camera.project(torch.from_numpy(got.poses).double()[None])[0]
        np.testing.assert_allclose(again, got.keypoints, atol=0.01)


def test_people_are_split_unless_halves_are_asked_for(tmp_path: Path, takes: Takes) -> None:
    save(tmp_path, takes)
    prepared = prepare_dataset(opened(tmp_path), tmp_path / "out")
    train, test = (load_archive(prepared.archives[split]) for split in ("train", "test"))
    assert isinstance(test, LabelledClips)
    assert (train.subjects, test.subjects) == (("S1", "S2"), ("S3",))
    assert prepared.dropped == {"called invalid by the data set": 7 * 3}  # Train/S3, Walking 1 chunk0
    options = RawOptions(test_subjects=("Validate/S1", "Validate/S2", "Validate/S3"))
    dataset = opened(tmp_path, test_subjects=options.test_subjects)
    assert "those tested were seen in training" in dataset.notes
    prepared = prepare_dataset(dataset, tmp_path / "out", options)
    assert load_archive(prepared.archives["train"]).subjects == ("Train/S1", "Train/S2", "Train/S3")
    assert load_archive(prepared.archives["test"]).subjects == options.test_subjects


def test_coco_detections(tmp_path: Path, takes: Takes) -> None:
    save(tmp_path, takes)
    draw = np.random.default_rng(3)
    seen = {
        half: {a: [draw.uniform(0, 480, (len(p) + 1, 17, 2)) for _ in range(3)] for a, p in actions.items()}
        for half, actions in takes.items()
    }
    save_2d(tmp_path, "detectron_pt_coco", {**seen, "Unlabeled/S4": {}}, 17,
            [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]])  # fmt: skip
    dataset = opened(tmp_path, keypoints="detectron_pt_coco", cameras=("C2",))
    found = read(dataset)
    assert len(found) == 9 and dataset.keypoints == "detectron_pt_coco"
    given = seen["Validate/S2"]["Jog 1 chunk0"][1][:-1].astype(np.float32)
    got = found["Validate/S2/Jog 1 chunk0/C2"].keypoints
    np.testing.assert_array_equal(got[:, dataset.skeleton.index("rwrist")], given[:, 10])
    np.testing.assert_allclose(got[:, dataset.skeleton.index("pelvis")], given[:, [11, 12]].mean(1), rtol=1e-6)


def test_failures_name_what_is_wrong(tmp_path: Path, takes: Takes) -> None:
    with pytest.raises(MissingDataError, match=r"data_3d_humaneva15\.npz: there is no such file; it holds the 3D"):
        opened(tmp_path)
    save(tmp_path, takes)
    with pytest.raises(ConfigError, match="no camera of HumanEva-I 'C4'"):
        opened(tmp_path, cameras=("C4",))
    with pytest.raises(MissingDataError, match="2D in this folder: gt"):
        opened(tmp_path, keypoints="cpn")
    (tmp_path / "data_2d_humaneva15_gt.npz").unlink()
    with pytest.raises(MissingDataError, match="from which the cameras are found"):
        opened(tmp_path)
    save(tmp_path, takes, shift=9.0)
    with pytest.raises(DataError, match=r"2D of S1 in C1 is 1\d\.\d px off the 3D under any intrinsics"):
        opened(tmp_path)
    save(tmp_path, {half: {a: p * 1000 for a, p in actions.items()} for half, actions in takes.items()})
    with pytest.raises(DataError, match="does not stand before the published cameras"):
        opened(tmp_path)


def test_wrong_people_joints_and_lengths(tmp_path: Path, takes: Takes) -> None:
    save(tmp_path, takes)
    whole = (tmp_path / "data_3d_humaneva15.npz").read_bytes()
    strange = {"Train/S4": {"Box 1 chunk0": np.zeros((5, 15, 3), np.float32)}}
    np.savez(tmp_path / "data_3d_humaneva15.npz", positions_3d=boxed(strange))
    with pytest.raises(DataError, match="subject 'Train/S4' has no published cameras"):
        opened(tmp_path)
    longer = {half: {a: np.zeros((len(p) + 3, 15, 3), np.float32) for a, p in t.items()} for half, t in takes.items()}
    np.savez(tmp_path / "data_3d_humaneva15.npz", positions_3d=boxed(longer))
    with pytest.raises(DataError, match=r"\['Walking 1 chunk0'\]\[0\]: has 7 frames of 2D for 10 of 3D"):
        opened(tmp_path)
    twenty = {half: {a: np.zeros((len(p), 20, 3), np.float32) for a, p in t.items()} for half, t in takes.items()}
    np.savez(tmp_path / "data_3d_humaneva15.npz", positions_3d=boxed(twenty))
    with pytest.raises(DataError, match="has 20 joints; HumanEva-15 has 15"):
        opened(tmp_path)
    (tmp_path / "data_3d_humaneva15.npz").write_bytes(whole[:-500])
    with pytest.raises(DataError, match=r"data_3d_humaneva15\.npz"):
        opened(tmp_path)
