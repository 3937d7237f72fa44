"""Human3.6M: files built in each published layout from known poses give these poses back, by joint name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from poseda.data.archive import load_archive
from poseda.data.clips import LabelledClips
from poseda.data.prepare import open_raw_dataset, prepare_dataset
from poseda.data.raw.h36m.motionbert import triangulate
from poseda.data.recordings import RawDataset, RawOptions, Recording
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
# Where 3d-pose-baseline's H36M_NAMES has each of the named joints among the 32.
PLACES = {
    "pelvis": 0, "rhip": 1, "rknee": 2, "rankle": 3, "lhip": 6, "lknee": 7, "lankle": 8, "spine": 12, "thorax": 13,
    "nose": 14, "head": 15, "lshoulder": 17, "lelbow": 18, "lwrist": 19, "rshoulder": 25, "relbow": 26, "rwrist": 27,
}  # fmt: skip
HOURGLASS = [
    "rankle", "rknee", "rhip", "lhip", "lknee", "lankle", "pelvis", "spine", "thorax", "head", "rwrist", "relbow",
    "rshoulder", "lshoulder", "lelbow", "lwrist",
]  # fmt: skip
COCO = [
    "nose", "leye", "reye", "lear", "rear", "lshoulder", "rshoulder", "lelbow", "relbow", "lwrist", "rwrist",
    "lhip", "rhip", "lknee", "rknee", "lankle", "rankle",
]  # fmt: skip
H36M17_SIDES = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
RIG = load_rig("h36m", torch.float64)
Poses = dict[str, dict[str, np.ndarray]]


def camera(subject: str, name: str) -> Camera:
    return RIG.cameras[RIG.camera_names.index(f"{subject}/{name}")]


def in_camera(world: np.ndarray, subject: str, name: str) -> np.ndarray:
    one = camera(subject, name)
    return world @ one.R[0].numpy().T + one.t[0].numpy()


def projected(world: np.ndarray, subject: str, name: str) -> np.ndarray:
    inside = torch.from_numpy(in_camera(world, subject, name))
    return camera(subject, name).project(inside[None])[0].numpy()


def known_takes() -> Poses:
    """World poses (T, 32, 3) mm, near the middle of the room, of a training and a test subject."""
    draw = np.random.default_rng(3)
    lengths = {"S1": {"Directions": 4, "Walking 1": 6}, "S11": {"Directions": 3, "Photo": 5}}
    middle = np.array([65.0, 345.0, 900.0])
    return {
        subject: {take: middle + draw.normal(size=(count, 32, 3)) * 300 for take, count in actions.items()}
        for subject, actions in lengths.items()
    }


@pytest.fixture
def takes() -> Poses:
    return known_takes()


def boxed(value: object) -> np.ndarray:
    """A 0-d object array, as np.savez makes of a dictionary."""
    box = np.empty((), object)
    box[()] = value
    return box


def save_3d(folder: Path, takes: Poses, joints: list[int] | None = None) -> None:
    stored = {s: {a: (p if joints is None else p[:, joints]) / 1000 for a, p in t.items()} for s, t in takes.items()}
    stored = {s: {a: p.astype(np.float32) for a, p in t.items()} for s, t in stored.items()}
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=boxed(stored))


def save_2d(folder: Path, name: str, keypoints: dict[str, Any], joints: int, sides: list[list[int]]) -> None:
    metadata = {"num_joints": joints, "keypoints_symmetry": sides}
    np.savez_compressed(folder / f"data_2d_h36m_{name}.npz", positions_2d=boxed(keypoints), metadata=boxed(metadata))


def detected(takes: Poses, joints: int, extra: int = 0) -> dict[str, Any]:
    """Detections that are known numbers, `extra` frames longer than the 3D."""
    draw = np.random.default_rng(4)
    return {
        s: {a: [draw.uniform(100, 900, (len(p) + extra, joints, 2)).astype(np.float32) for _ in CAMERAS]
            for a, p in t.items()}
        for s, t in takes.items()
    }  # fmt: skip


def read(dataset: RawDataset) -> dict[str, Recording]:
    return {item.name: item for unit in dataset.units for item in unit.read() if isinstance(item, Recording)}


def opened(raw: Path, **options: Any) -> RawDataset:
    return open_raw_dataset("h36m", raw, RawOptions(**options))


def check_poses(dataset: RawDataset, takes: Poses) -> dict[str, Recording]:
    """All recordings, after requiring of each the poses it was made from."""
    found = read(dataset)
    whole = {(s, a): p for s, t in takes.items() for a, p in t.items() if (s, a) != ("S11", "Directions")}
    assert set(found) == {f"{s}/{a}/{c}" for s, a in whole for c in CAMERAS}
    for (subject, take), world in whole.items():
        for name in CAMERAS:
            expected = in_camera(world, subject, name)
            poses = found[f"{subject}/{take}/{name}"].poses
            assert poses is not None
            for joint in dataset.skeleton.joints:
                got = poses[:, dataset.skeleton.index(joint)]
                np.testing.assert_allclose(got, expected[:, PLACES[joint]], atol=2e-3, err_msg=joint)
    return found


def test_videopose3d_archive_holds_the_poses(tmp_path: Path, takes: Poses) -> None:
    save_3d(tmp_path, takes)
    dataset = opened(tmp_path)
    assert [(unit.name, unit.split) for unit in dataset.units] == [("S1", "train"), ("S11", "test")]
    assert "projected" in dataset.recognised and dataset.keypoints == "gt"
    prepared = prepare_dataset(dataset, tmp_path / "out")
    clips = load_archive(prepared.archives["test"])
    assert isinstance(clips, LabelledClips) and clips.subjects == ("S11",) and clips.actions == ("Photo",)
    start = 0
    for sequence, stop in zip(clips.sequences, clips.bounds[1:].tolist(), strict=True):
        world, name = takes["S11"]["Photo"], sequence.name.split("/")[2]
        for joint, place in PLACES.items():
            index = clips.skeleton.index(joint)
            expected = in_camera(world, "S11", name)[:, place]
            np.testing.assert_allclose(clips.poses[start:stop, index], expected, atol=2e-3)
            expected = projected(world, "S11", name)[:, place]
            np.testing.assert_allclose(clips.keypoints[start:stop, index], expected, atol=1e-3)
        start = stop
    assert start == clips.num_frames == 4 * 5 and len(prepared.remarks) == 2


def test_longer_detections_are_cut_to_the_3d(tmp_path: Path, takes: Poses) -> None:
    save_3d(tmp_path, takes)
    keypoints = detected(takes, 17, extra=2)
    save_2d(tmp_path, "cpn_ft_h36m_dbb", keypoints, 17, H36M17_SIDES)
    dataset = opened(tmp_path, keypoints="cpn_ft_h36m_dbb")
    assert dataset.keypoints == "cpn_ft_h36m_dbb" and dataset.skeleton.name == "h36m17"
    for name, found in check_poses(dataset, takes).items():
        subject, take, one = name.split("/")
        np.testing.assert_array_equal(found.keypoints, keypoints[subject][take][CAMERAS.index(one)][:-2])


def test_a_path_and_a_gt_file_are_taken(tmp_path: Path, takes: Poses) -> None:
    save_3d(tmp_path, takes)
    keypoints = detected(takes, 17)
    save_2d(tmp_path, "gt", keypoints, 17, H36M17_SIDES)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    found = read(opened(tmp_path))
    np.testing.assert_array_equal(found["S1/Directions/54138969"].keypoints, keypoints["S1"]["Directions"][0])
    path = (tmp_path / "data_2d_h36m_gt.npz").rename(elsewhere / "data_2d_h36m_gt.npz")
    found = read(opened(tmp_path, cameras=("58860488",), keypoints=str(path)))
    assert set(found) == {f"{take}/58860488" for take in ("S1/Directions", "S1/Walking 1", "S11/Photo")}
    np.testing.assert_array_equal(found["S11/Photo/58860488"].keypoints, keypoints["S11"]["Photo"][2])


def test_coco_detections_are_converted_by_name(tmp_path: Path, takes: Poses) -> None:
    save_3d(tmp_path, takes)
    keypoints = detected(takes, 17)
    for arrays in (arrays for actions in keypoints.values() for arrays in actions.values()):
        arrays[:] = [np.concatenate([array, np.full((*array.shape[:2], 1), 0.5, np.float32)], -1) for array in arrays]
        for array in arrays:
            array[:, COCO.index("lhip"), 2] = 0.25
    save_2d(tmp_path, "detectron_pt_coco", keypoints, 17, [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]])
    dataset = opened(tmp_path, keypoints="detectron_pt_coco")
    found = check_poses(dataset, takes)["S1/Walking 1/54138969"]
    given, index = keypoints["S1"]["Walking 1"][0], dataset.skeleton.index
    for joint in ("rwrist", "lankle", "nose"):
        np.testing.assert_array_equal(found.keypoints[:, index(joint)], given[:, COCO.index(joint), :2])
    middle = given[:, [COCO.index("lhip"), COCO.index("rhip")], :2].mean(1)
    np.testing.assert_allclose(found.keypoints[:, index("pelvis")], middle, rtol=1e-6)
    assert found.confidence is not None
    assert (found.confidence[:, index("pelvis")] == 0.25).all() and (found.confidence[:, index("head")] == 0.5).all()


@pytest.mark.parametrize(
    ("detector", "sides", "order"),
    [
        ("sh_pt_mpii", [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]], HOURGLASS),
        ("hr", [[4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]], [joint for joint in PLACES if joint != "nose"]),
    ],
)
def test_detections_without_a_nose_give_16_joints(
    tmp_path: Path, takes: Poses, detector: str, sides: list[list[int]], order: list[str]
) -> None:
    save_3d(tmp_path, takes)
    keypoints = detected(takes, 16)
    save_2d(tmp_path, detector, keypoints, 16, sides)
    dataset = opened(tmp_path, keypoints=detector)
    assert dataset.skeleton.name == "h36m16"
    found = check_poses(dataset, takes)["S11/Photo/60457274"]
    for joint in dataset.skeleton.joints:
        given = keypoints["S11"]["Photo"][3][:, order.index(joint)]
        np.testing.assert_array_equal(found.keypoints[:, dataset.skeleton.index(joint)], given)


@pytest.mark.parametrize("nose", [True, False])
def test_reduced_3d_files(tmp_path: Path, takes: Poses, nose: bool) -> None:
    save_3d(tmp_path, takes, [place for joint, place in PLACES.items() if nose or joint != "nose"])
    dataset = opened(tmp_path)
    assert dataset.skeleton.num_joints == 16 + nose
    check_poses(dataset, takes)


def test_videopose3d_failures_name_what_is_wrong(tmp_path: Path, takes: Poses) -> None:
    with pytest.raises(MissingDataError, match=r"holds no Human3\.6M; looked for data_3d_h36m\.npz"):
        opened(tmp_path)
    save_3d(tmp_path, takes)
    save_2d(tmp_path, "sh", detected(takes, 17), 17, H36M17_SIDES)
    with pytest.raises(MissingDataError, match=r"data_2d_h36m_cpn\.npz: there is no such file; 2D in this folder: sh"):
        opened(tmp_path, keypoints="cpn")
    with pytest.raises(MissingDataError, match=r"keypoints=/nowhere\.npz: there is no such file"):
        opened(tmp_path, keypoints="/nowhere.npz")
    with pytest.raises(ConfigError, match=r"no camera of Human3\.6M '54138968'"):
        opened(tmp_path, cameras=("54138968",))
    shorter = detected(takes, 17)
    shorter["S1"]["Walking 1"][1] = shorter["S1"]["Walking 1"][1][:-1]
    save_2d(tmp_path, "short", shorter, 17, H36M17_SIDES)
    with pytest.raises(DataError, match=r"\['S1'\]\['Walking 1'\]\[1\]: has 5 frames of 2D for 6 of 3D"):
        read(opened(tmp_path, keypoints="short"))
    del shorter["S1"]["Walking 1"]
    save_2d(tmp_path, "absent", shorter, 17, H36M17_SIDES)
    with pytest.raises(DataError, match=r"positions_2d\['S1'\]: has no 'Walking 1', which the 3D has"):
        read(opened(tmp_path, keypoints="absent"))
    shorter["S1"]["Directions"].pop()
    save_2d(tmp_path, "three", shorter, 17, H36M17_SIDES)
    with pytest.raises(DataError, match="has 3 cameras; expected 4"):
        read(opened(tmp_path, keypoints="three"))
    save_2d(tmp_path, "odd", detected(takes, 17), 17, [[1, 2], [3, 4]])
    with pytest.raises(DataError, match=r"17 joints with left \[1, 2\] are no known order"):
        opened(tmp_path, keypoints="odd")
    save_2d(tmp_path, "joints", detected(takes, 15), 17, H36M17_SIDES)
    with pytest.raises(DataError, match=r"positions_2d\['S1'\]\['Directions'\]\[0\]: .*\(4, 15, 2\)"):
        read(opened(tmp_path, keypoints="joints"))


def test_videopose3d_refuses_other_3d(tmp_path: Path, takes: Poses) -> None:
    save_3d(tmp_path, {"S3": takes["S1"]})
    with pytest.raises(DataError, match="subject 'S3' has no published cameras; known: S1, S5"):
        opened(tmp_path)
    save_3d(tmp_path, takes, list(range(15)))
    with pytest.raises(DataError, match=r"has 15 joints; Human3\.6M has 32, reduced files 17 or 16"):
        opened(tmp_path)
    whole = (tmp_path / "data_3d_h36m.npz").read_bytes()
    (tmp_path / "data_3d_h36m.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"data_3d_h36m\.npz"):
        opened(tmp_path)
    np.savez(tmp_path / "data_3d_h36m.npz", poses=np.zeros(3))
    with pytest.raises(DataError, match="has no 'positions_3d'"):
        opened(tmp_path)


def save_baseline(folder: Path, takes: Poses) -> None:
    h5py = pytest.importorskip("h5py")
    for subject, actions in takes.items():
        inside = folder / subject / "MyPoses" / "3D_positions"
        inside.mkdir(parents=True)
        for take, world in actions.items():
            with h5py.File(inside / f"{take}.h5", "w") as file:
                file["3D_positions"] = world.reshape(len(world), 96).T


def test_baseline_h5(tmp_path: Path, takes: Poses) -> None:
    save_baseline(tmp_path / "h36m", takes)
    dataset = opened(tmp_path)
    assert "3d-pose-baseline" in dataset.recognised and "S1/Walking 1" in [unit.name for unit in dataset.units]
    for name, found in check_poses(dataset, takes).items():
        subject, take, one = name.split("/")
        expected = projected(takes[subject][take], subject, one)[:, list(PLACES.values())]
        np.testing.assert_allclose(found.keypoints, expected, atol=1e-3)


def test_baseline_h5_with_stacked_hourglass(tmp_path: Path, takes: Poses) -> None:
    h5py = pytest.importorskip("h5py")
    save_baseline(tmp_path, takes)
    with pytest.raises(MissingDataError, match="StackedHourglass: there is no such folder; keypoints=sh needs it"):
        opened(tmp_path, keypoints="sh")
    keypoints = detected(takes, 16, extra=1)
    del keypoints["S11"]["Directions"]
    for subject, actions in keypoints.items():
        (tmp_path / subject / "StackedHourglass").mkdir()
        for take, arrays in actions.items():
            for one, array in zip(CAMERAS, arrays, strict=True):
                path = tmp_path / subject / "StackedHourglass" / f"{take.replace(' ', '_')}.{one}.h5"
                with h5py.File(path, "w") as file:
                    file["poses"] = array
    dataset = opened(tmp_path, keypoints="sh")
    found = check_poses(dataset, takes)["S1/Walking 1/55011271"]
    for joint in dataset.skeleton.joints:
        given = keypoints["S1"]["Walking 1"][1][:-1, HOURGLASS.index(joint)]
        np.testing.assert_array_equal(found.keypoints[:, dataset.skeleton.index(joint)], given)
    path.unlink()
    with pytest.raises(MissingDataError, match=r"Photo\.60457274\.h5: there is no such file, but there is 3D for it"):
        opened(tmp_path, keypoints="sh")
    with pytest.raises(ConfigError, match="no 2D in 3d-pose-baseline's files 'cpn'"):
        opened(tmp_path, keypoints="cpn")


def save_cdf(path: Path, pose: np.ndarray) -> None:
    cdfwrite = pytest.importorskip("cdflib.cdfwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    with cdfwrite.CDF(str(path), cdf_spec={"Majority": "row_major"}) as file:
        spec = {"Variable": "Pose", "Data_Type": 45, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable",
                "Dim_Sizes": list(pose.shape)}  # fmt: skip
        file.write_var(spec, var_data=pose[None])


def raw_name(take: str) -> str:
    return take.replace("Photo", "TakingPhoto")


def save_raw(folder: Path, takes: Poses, given: bool) -> None:
    """The data set's own pose features; with 2D, a quarter of a pixel off, where `given`."""
    for subject, actions in takes.items():
        features = folder / subject / "MyPoseFeatures"
        for take, world in actions.items():
            save_cdf(features / "D3_Positions" / f"{raw_name(take)}.cdf", world.reshape(-1, 96))
            for one in CAMERAS if given else ():
                pixels = projected(world, subject, one) + 0.25  # to tell it from a projection
                save_cdf(features / "D2_Positions" / f"{raw_name(take)}.{one}.cdf", pixels.reshape(-1, 64))


@pytest.mark.parametrize("given", [True, False])
def test_raw_cdf(tmp_path: Path, takes: Poses, given: bool) -> None:
    save_raw(tmp_path, takes, given)
    dataset = opened(tmp_path)
    assert ("D2_Positions" in dataset.recognised) is given
    found = check_poses(dataset, takes)["S11/Photo/54138969"]
    expected = projected(takes["S11"]["Photo"], "S11", "54138969")[:, list(PLACES.values())] + 0.25 * given
    np.testing.assert_allclose(found.keypoints, expected, atol=1e-3)


def save_raw_as_mat(folder: Path, takes: Poses) -> None:
    for subject, actions in takes.items():
        inside = folder / subject / "MyPoseFeatures" / "D3_Positions"
        inside.mkdir(parents=True)
        for take, world in actions.items():
            cell = np.empty((1, 1), object)
            cell[0, 0] = world.reshape(-1, 96)
            scipy.io.savemat(inside / f"{raw_name(take)}.cdf.mat", {"data": cell}, appendmat=False)


def test_raw_cdf_as_mat(tmp_path: Path, takes: Poses) -> None:
    save_raw_as_mat(tmp_path, takes)
    check_poses(opened(tmp_path), takes)
    inside = tmp_path / "S11" / "MyPoseFeatures" / "D3_Positions"
    scipy.io.savemat(inside / "Walking.cdf.mat", {"data": np.zeros((4, 96))}, appendmat=False)
    with pytest.raises(DataError, match=r"Walking\.cdf\.mat: 'data' is not a cell with one array"):
        read(opened(tmp_path))


def image_label(pose: np.ndarray, one: Camera) -> tuple[np.ndarray, np.ndarray]:
    """joint3d_image and the mm/px of H36M-Toolbox's construction: the width in px of a 2 m box at the pelvis."""
    fx, fy, cx, cy = (float(getattr(one, key)) for key in ("fx", "fy", "cx", "cy"))
    x, y, z = np.moveaxis(pose, -1, 0)
    left, right = ((x[:, :1] + side) / z[:, :1] * fx + cx for side in (-1000.0, 1000.0))
    ratio = (right - left + 1) / 2000.0
    return np.stack([x / z * fx + cx, y / z * fy + cy, ratio * (z - z[:, :1])], -1), 1 / ratio[:, 0]


ACTIONS = {"Directions": 2, "Photo": 12, "Walking 1": 14}


def motionbert_part(takes: Poses, subject: str, test: bool) -> dict[str, Any]:
    draw = np.random.default_rng(5)
    part: dict[str, list[Any]] = {key: [] for key in ("joint_2d", "confidence", "joint3d_image", "2.5d_factor")}
    names: list[str] = []
    sources: list[str] = []
    for take, world in takes[subject].items():
        for number, name in enumerate(CAMERAS):
            pose = in_camera(world, subject, name)[:, list(PLACES.values())]
            label, factor = image_label(pose, camera(subject, name))
            part["joint3d_image"].append(label)
            part["2.5d_factor"].append(factor)
            part["joint_2d"].append(draw.uniform(100, 900, (*label.shape[:2], 2)))
            part["confidence"].append(draw.uniform(0, 1, (*label.shape[:2], 1)))
            names += [name] * len(world)
            sources += [f"s_{int(subject[1:]):02d}_act_{ACTIONS[take]:02d}_subact_01_ca_{number + 1:02d}"] * len(world)
    stacked: dict[str, Any] = {key: np.concatenate(values).astype(np.float32) for key, values in part.items()}
    factor = stacked.pop("2.5d_factor")
    extra = {"2.5d_factor": factor, "joints_2.5d_image": stacked["joint3d_image"] * factor[:, None, None],
             "action": sources}  # fmt: skip
    return {**stacked, "camera_name": np.array(names), "source": sources, **(extra if test else {})}


def save_motionbert(folder: Path, train: dict[str, Any], test: dict[str, Any]) -> None:
    (folder / "h36m_sh_conf_cam_source_final.pkl").write_bytes(pickle.dumps({"train": train, "test": test}, protocol=2))


@pytest.fixture
def bert(takes: Poses) -> tuple[dict[str, Any], dict[str, Any]]:
    return motionbert_part(takes, "S1", False), motionbert_part(takes, "S11", True)


def test_motionbert_labels_become_metric(tmp_path: Path, takes: Poses, bert: tuple[dict[str, Any], ...]) -> None:
    save_motionbert(tmp_path, bert[0], bert[1])
    dataset = opened(tmp_path)
    assert [(unit.name, unit.split) for unit in dataset.units] == [("train/S1", "train"), ("test/S11", "test")]
    assert dataset.keypoints == "sh"
    found = read(dataset)
    for take, subject in (("Directions", "S1"), ("Walking 1", "S1"), ("Photo", "S11")):
        for name in CAMERAS:
            got = found[f"{subject}/{take.split(' ')[0]} subact1/{name}"]
            expected = in_camera(takes[subject][take], subject, name)
            assert got.poses is not None and got.action == take.split(" ")[0]
            for joint, place in PLACES.items():
                index = dataset.skeleton.index(joint)  # float32 pixels: 3e-5 px, a few micrometres at 5 m
                np.testing.assert_allclose(got.poses[:, index], expected[:, place], atol=5e-3)
    got = found["S1/Walking subact1/55011271"]
    place = bert[0]["source"].index("s_01_act_14_subact_01_ca_02")
    np.testing.assert_array_equal(got.keypoints, bert[0]["joint_2d"][place : place + 6])
    np.testing.assert_array_equal(got.confidence, bert[0]["confidence"][place : place + 6, :, 0])
    truth = read(opened(tmp_path, keypoints="gt"))["S11/Photo subact1/54138969"]
    expected = projected(takes["S11"]["Photo"], "S11", "54138969")[:, list(PLACES.values())]
    np.testing.assert_allclose(truth.keypoints, expected, atol=2e-3)


def test_motionbert_views_of_unequal_length(tmp_path: Path, takes: Poses, bert: tuple[dict[str, Any], ...]) -> None:
    train = bert[0]
    last = len(train["source"]) - 1  # the last frame of the last camera of Walking 1
    shorter = {key: value[:last] for key, value in train.items()}
    save_motionbert(tmp_path, shorter, bert[1])
    found = read(opened(tmp_path))
    assert len(found["S1/Walking subact1/60457274"].keypoints) == 5
    poses = found["S1/Walking subact1/54138969"].poses
    assert poses is not None
    expected = in_camera(takes["S1"]["Walking 1"], "S1", "54138969")[:, list(PLACES.values())]
    np.testing.assert_allclose(poses, expected, atol=5e-3)


def test_motionbert_frames_in_which_views_disagree_are_left_out(
    tmp_path: Path, takes: Poses, bert: tuple[dict[str, Any], ...]
) -> None:
    train = bert[0]
    place = train["source"].index("s_01_act_14_subact_01_ca_03")
    train["joint3d_image"][place + 2, 5, 0] += 20
    save_motionbert(tmp_path, train, bert[1])
    for name in CAMERAS:
        poses = read(opened(tmp_path))[f"S1/Walking subact1/{name}"].poses
        assert poses is not None and np.isnan(poses).all((1, 2)).tolist() == [False, False, True, False, False, False]


def test_motionbert_failures(tmp_path: Path, bert: tuple[dict[str, Any], ...]) -> None:
    train, test = bert
    frames = len(train["source"])
    one = {key: value[:4] for key, value in train.items()}
    save_motionbert(tmp_path, one, test)
    with pytest.raises(
        DataError, match="S1/Directions subact1: only camera 54138969 labels it, which leaves depth open"
    ):
        read(opened(tmp_path))
    mixed = {**train, "joint3d_image": train["joint3d_image"] + np.arange(frames)[:, None, None].astype(np.float32) * 9}
    save_motionbert(tmp_path, mixed, test)
    with pytest.raises(DataError, match="the labels of its cameras miss each other by"):
        read(opened(tmp_path))
    for key, value, message in (
        ("camera_name", ["cam"] * frames, r"\['camera_name'\]\[0\]: cam is not one camera of 54138969"),
        ("source", ["clip"] * frames, r"\['source'\]\[0\]: 'clip' is not a clip of Human3.6M"),
        ("source", train["source"][1:], r"\['source'\]: has shape"),
        ("joint_2d", train["joint_2d"][:, :16], r"\['joint_2d'\]: .*16"),
    ):
        save_motionbert(tmp_path, {**train, key: value}, test)
        with pytest.raises(DataError, match=message):
            opened(tmp_path)
    save_motionbert(tmp_path, {key: value for key, value in train.items() if key != "confidence"}, test)
    with pytest.raises(DataError, match=r"train: has no 'confidence'; it is not MotionBERT's Human3\.6M file"):
        opened(tmp_path)
    path = tmp_path / "h36m_sh_conf_cam_source_final.pkl"
    path.write_bytes(pickle.dumps({"train": train}))
    with pytest.raises(DataError, match="has no 'test'; it is not MotionBERT's"):
        opened(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="h36m_sh_conf_cam_source_final"):
        opened(tmp_path)


def test_triangulation_needs_two_views_and_finds_the_point() -> None:
    points = np.random.default_rng(6).normal(size=(5, 3)) * 500
    names = [f"S1/{name}" for name in CAMERAS]
    cameras = [RIG.cameras[RIG.camera_names.index(name)] for name in names]
    R, t = np.stack([c.R[0].numpy() for c in cameras]), np.stack([c.t[0].numpy() for c in cameras])
    inside = np.einsum("vab,nb->vna", R, points) + t[:, None]
    rays = inside[..., :2] / inside[..., 2:]
    rays[1:, 0] = np.nan
    rays[2:, 1] = np.nan
    found, error = triangulate(rays, R, t)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], points[1:], atol=1e-8)
    assert np.nanmax(error) < 1e-11
