"""Ski-PosePTZ: a zooming, cropped camera becomes one pinhole a sequence; the poses come back by joint name."""

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

h5py = pytest.importorskip("h5py")

JOINTS = [
    "pelvis", "rhip", "rknee", "rankle", "lhip", "lknee", "lankle", "spine", "thorax", "nose", "head", "lshoulder",
    "lelbow", "lwrist", "rshoulder", "relbow", "rwrist",
]  # fmt: skip


def labels(subject: int, seq: int, frames: list[int], seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of two cameras in a scrambled order, and the true poses (N, 17, 3) m in the camera of each."""
    draw = np.random.default_rng(seed)
    count = 2 * len(frames)
    relative = draw.normal(size=(count, 17, 3)) * 0.35
    relative[:, 0] = 0
    absolute = relative + np.array([0.0, 0.0, 30.0]) + draw.normal(size=(count, 1, 3)) * 0.5
    intrinsics = np.zeros((count, 3, 3))
    intrinsics[:, 0, 0] = draw.uniform(9, 14, count)  # of the image's side: a zoom on a skier 30 m away
    intrinsics[:, 1, 1] = intrinsics[:, 0, 0] * 1.01
    intrinsics[:, 0, 1] = 0.02
    intrinsics[:, :2, 2] = draw.uniform(0.4, 0.6, (count, 2))
    intrinsics[:, 2, 2] = 1
    pixels = np.einsum("nab,njb->nja", intrinsics, absolute / absolute[..., 2:])[..., :2]
    rows = {
        "seq": np.full(count, seq, np.float64),
        "cam": np.repeat([0.0, 3.0], len(frames)),
        "frame": np.tile(np.array(frames, np.float64), 2),
        "subj": np.full(count, subject, np.float64),
        "3D": relative.reshape(count, 51),
        "2D": pixels.reshape(count, 34),
        "cam_intrinsic": intrinsics,
        "cam_position": draw.normal(size=(count, 3)),
        "R_cam_2_world": Rotation.random(count, random_state=seed).as_matrix().reshape(count, 9),
    }
    order = draw.permutation(count)
    return {key: value[order] for key, value in rows.items()}, absolute[order] * 1000


def save(path: Path, rows: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in rows.items():
            file[key] = value


def opened(raw: Path, **options: Any) -> RawDataset:
    return open_raw_dataset("skipose", raw, RawOptions(**options))


def read(dataset: RawDataset) -> list[Recording]:
    return [item for unit in dataset.units for item in unit.read() if isinstance(item, Recording)]


def test_archive_holds_the_poses(tmp_path: Path) -> None:
    frames = [11, 12, 13, 14]
    train, _ = labels(1, 103, frames, 0)
    test, truth = labels(6, 205, frames, 1)
    save(tmp_path / "train" / "labels.h5", train)
    save(tmp_path / "test" / "labels.h5", test)
    dataset = opened(tmp_path)
    assert [(unit.name, unit.split) for unit in dataset.units] == [("train", "train"), ("test", "test")]
    assert dataset.skeleton.name == "h36m17" and "30/s is assumed" in dataset.notes
    prepared = prepare_dataset(dataset, tmp_path / "out")
    assert load_archive(prepared.archives["train"]).subjects == ("skier1",)
    clips = load_archive(prepared.archives["test"])
    assert isinstance(clips, LabelledClips) and clips.subjects == ("skier6",)
    assert [sequence.name for sequence in clips.sequences] == [
        "seq205/cam00/frame000011",
        "seq205/cam03/frame000011",
    ]
    expected = truth[np.lexsort([test["frame"], test["cam"]])]
    for place, joint in enumerate(JOINTS):
        index = clips.skeleton.index(joint)
        np.testing.assert_allclose(clips.poses[:, index], expected[:, place], rtol=2e-6, atol=0.02)
    cameras = clips.cameras_at(torch.arange(clips.num_frames))
    again = cameras.project(torch.from_numpy(expected).float())
    np.testing.assert_allclose(again, clips.keypoints, atol=5e-3)
    assert (cameras.cx == 128).all() and (cameras.width == 256).all()


def test_sequences_are_cut_where_frames_jump(tmp_path: Path) -> None:
    rows, truth = labels(2, 7, [5, 6, 9, 10, 11], 2)
    save(tmp_path / "labels.h5", {**rows, "cam_intrinsic": rows["cam_intrinsic"].reshape(-1, 9)})
    found = read(opened(tmp_path, cameras=("3",)))
    assert [item.name for item in found] == ["seq007/cam03/frame000005", "seq007/cam03/frame000009"]
    assert [len(item.keypoints) for item in found] == [2, 3]
    expected = truth[np.lexsort([rows["frame"], rows["cam"]])][7:]
    assert found[1].poses is not None
    np.testing.assert_allclose(found[1].poses, expected, rtol=1e-6, atol=1e-2)


def test_failures_name_file_and_field(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"holds no Ski-PosePTZ; looked for train/labels\.h5"):
        opened(tmp_path)
    rows, _ = labels(1, 1, [1, 2], 3)
    path = tmp_path / "test" / "labels.h5"
    save(path, rows)
    with pytest.raises(ConfigError, match="no camera of Ski-PosePTZ '9'"):
        opened(tmp_path, cameras=("9",))
    for key, value, message in (
        ("2D", rows["2D"][:, :30], r"labels\.h5: 2D has shape \(4, 30\); expected 34 numbers a row"),
        ("frame", rows["frame"] + 0.5, r"labels\.h5: frame: must be whole numbers"),
        ("3D", rows["3D"][:3], r"labels\.h5: 3D has 3 rows, seq 4"),
        ("cam_intrinsic", rows["cam_intrinsic"] * 256, r"seq 1, cam 0: cam_intrinsic is not a matrix"),
        ("cam_intrinsic", -rows["cam_intrinsic"], r"seq 1, cam 0: cam_intrinsic is not a matrix"),
    ):
        save(path, {**rows, key: value})
        with pytest.raises(DataError, match=message):
            read(opened(tmp_path))
    save(path, {key: value for key, value in rows.items() if key != "3D"})
    with pytest.raises(DataError, match=r"labels\.h5: has no '3D'; it is not Ski-PosePTZ's labels\.h5"):
        read(opened(tmp_path))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"labels\.h5"):
        read(opened(tmp_path))
