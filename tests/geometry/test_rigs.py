"""The published rigs, and files of the same layout."""

import copy
import json
import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.rigs import list_rigs, load_rig

F64 = torch.float64
CAMERA = {
    "id": "a",
    "resolution": [1000, 800],
    "fx": 1000,
    "fy": 1000,
    "cx": 500,
    "cy": 400,
    "R": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "t": [0, 0, 0],
    "extrinsics": "published",
}


def write(tmp_path, **changes):
    """A one-camera rig file with some fields of the camera changed."""
    rig = {"source": "made up", "fps": 25, "centre_mm": [0, 4000, 0], "cameras": [{**CAMERA, **changes}]}
    path = tmp_path / "rig.json"
    path.write_text(json.dumps(rig))
    return str(path)


def test_the_rigs_of_the_package_are_listed():
    expected = {"h36m", "3dhp_train", "3dhp_vnect8", "3dhp_ts1-4", "3dhp_ts5-6", "3dhp_test", "3dpw"}
    assert set(list_rigs()) == expected


@pytest.mark.parametrize("name", list_rigs())
def test_every_rig_sees_its_centre_the_right_way_up_but_from_the_ceiling_of_3dhp(name):
    rig = load_rig(name, F64)
    cameras = rig.cameras
    eye = torch.eye(3, dtype=F64).expand_as(cameras.R)
    torch.testing.assert_close(cameras.R @ cameras.R.mT, eye, rtol=0, atol=1e-12)
    assert (torch.linalg.det(cameras.R) > 0).all()
    upright = rig.centre_mm + torch.tensor([[0.0, 0, 0], [0, 0, 200]], dtype=F64)
    pixels = cameras.project(cameras.world_to_camera(upright.expand(len(cameras), 2, 3)))
    assert (pixels[:, 0] > 0).all() and (pixels[:, 0, 0] < cameras.width).all()
    assert (pixels[:, 0, 1] < cameras.height).all()
    upside_down = (pixels[:, 1, 1] > pixels[:, 0, 1]).tolist()
    ceiling = {"11", "12", "13"} if name == "3dhp_train" else set()
    assert {camera for camera, flag in zip(rig.camera_names, upside_down, strict=True) if flag} == ceiling
    height = cameras.centre()[:, 2]
    assert (height > 500).all() and (height < 4000).all()
    assert rig.source and rig.fps > 0
    assert sorted(index for group in rig.groups.values() for index in group) == list(range(len(cameras)))


def test_h36m_cameras_stand_where_the_published_table_says():
    rig = load_rig("h36m", F64)
    assert len(rig.cameras) == 28
    assert list(rig.groups) == ["S1", "S5", "S6", "S7", "S8", "S9", "S11"]
    first = rig.camera_names.index("S1/54138969")
    centre = rig.cameras.centre()[first]
    expected = torch.tensor([1841.1070556640625, 4955.28466796875, 1563.4454345703126], dtype=F64)
    torch.testing.assert_close(centre, expected, rtol=0, atol=1e-4)
    assert rig.cameras.tangential_factor.tolist() == [1] * 28
    assert not rig.assumed_extrinsics


def test_h36m_rotation_is_the_inverse_of_the_published_quaternion():
    w, x, y, z = 0.1407056450843811, -0.1500701755285263, -0.755240797996521, 0.6223280429840088
    expected = Rotation.from_quat([x, y, z, w]).inv().as_matrix()
    rig = load_rig("h36m", F64)
    torch.testing.assert_close(rig.cameras.R[0], torch.from_numpy(expected), rtol=0, atol=1e-9)


def test_3dhp_sets_share_their_cameras():
    train, eight = load_rig("3dhp_train", F64), load_rig("3dhp_vnect8", F64)
    assert eight.camera_names == ("0", "1", "2", "4", "5", "6", "7", "8")
    torch.testing.assert_close(eight.cameras.t, train.cameras.t[[0, 1, 2, 4, 5, 6, 7, 8]])
    studio = load_rig("3dhp_ts1-4", F64)
    torch.testing.assert_close(studio.cameras.R[0], train.cameras.R[8])
    torch.testing.assert_close(studio.cameras.t[0], train.cameras.t[8])
    assert studio.cameras.fx.item() == 1500.172


def test_3dhp_test_holds_both_cameras_and_says_that_a_pose_is_assumed():
    rig = load_rig("3dhp_test", F64)
    assert rig.camera_names == ("TS1-4", "TS5-6") and rig.assumed_extrinsics
    assert rig.cameras.width.tolist() == [2048, 1920]
    outdoors = load_rig("3dhp_ts5-6", F64)
    assert outdoors.assumed_extrinsics and "assumed" in outdoors.source
    assert outdoors.cameras.centre()[0, 2].item() == pytest.approx(1400, abs=0.01)


def test_3dpw_views_are_portrait_and_assumed():
    rig = load_rig("3dpw")
    assert rig.assumed_extrinsics and rig.cameras.dtype == torch.float32
    assert (rig.cameras.height > rig.cameras.width).all()
    distance = (rig.cameras.centre() - rig.centre_mm).norm(dim=-1)
    assert (distance > 2000).all() and (distance < 6100).all()


def test_a_rig_of_ones_own_can_be_read(tmp_path):
    rig = load_rig(write(tmp_path), F64)
    pixel = rig.cameras.project(rig.cameras.world_to_camera(torch.tensor([[1000.0, 4000, 500]], dtype=F64)))
    torch.testing.assert_close(pixel, torch.tensor([[750.0, 275]], dtype=F64))
    assert rig.groups == {"all": (0,)} and rig.camera_names == ("a",)


def test_own_rigs_can_take_cameras_of_the_package(tmp_path):
    path = tmp_path / "mine.json"
    part = {"of": "3dhp_train", "cameras": [8, "2"]}
    path.write_text(json.dumps({"fps": 25, "centre_mm": [0, 0, 0], "parts": [part], "cameras": [CAMERA]}))
    assert load_rig(str(path)).camera_names == ("8", "2", "a")


def test_printed_rotations_are_made_exact(tmp_path):
    angle = 0.3
    matrix = [[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]]
    printed = [[round(value, 6) for value in row] for row in matrix]
    rotation = load_rig(write(tmp_path, R=printed), F64).cameras.R[0]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=F64), rtol=0, atol=1e-14)
    torch.testing.assert_close(rotation, torch.tensor(matrix, dtype=F64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fx": "wide"}, "camera a: 'fx' must be finite numbers"),
        ({"fx": None}, "camera a: 'fx' must be finite numbers"),
        ({"t": [0, 0]}, r"camera a: 't' must be finite numbers of shape \(3,\)"),
        ({"t": [0, 0, math.inf]}, "camera a: 't' must be finite"),
        ({"fy": 0}, "must be positive"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "camera a: 'R' is not a rotation"),
        ({"R": [[2, 0, 0], [0, 2, 0], [0, 0, 2]]}, "camera a: 'R' is not a rotation"),
        ({"distortion": "opencv"}, "camera a: 'radial' must be finite"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_camera(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as error:
        load_rig(path)
    assert path in str(error.value) and "\n" not in str(error.value)


def test_unknown_rigs_and_models_get_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean '3dhp_train'"):
        load_rig("3dhp_trian")
    with pytest.raises(ConfigError, match="Did you mean 'opencv'"):
        load_rig(write(tmp_path, distortion="open-cv"))
    with pytest.raises(MissingDataError, match=r"no rig file nowhere\.json"):
        load_rig("nowhere.json")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"fps": 1, "centre_mm": [0, 0, 0]}',
        '{"cameras": [1]}',
        '{"cameras": [{}]}',
        '{"parts": 3}',
    ],
)
def test_a_file_that_is_no_rig_is_refused(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"broken\.json"):
        load_rig(str(path))


def test_a_rig_that_contains_itself_or_asks_for_absent_cameras_is_refused(tmp_path):
    path = tmp_path / "loop.json"
    head = {"fps": 25, "centre_mm": [0, 0, 0]}
    path.write_text(json.dumps({**head, "parts": [{"of": str(path)}]}))
    with pytest.raises(DataError, match="part of itself"):
        load_rig(str(path))
    path.write_text(json.dumps({**head, "parts": [{"of": "3dhp_train", "cameras": ["99"]}]}))
    with pytest.raises(DataError, match="cameras it does not have: \\['99'\\]"):
        load_rig(str(path))


def test_reading_a_rig_changes_no_later_reading(tmp_path):
    before = copy.deepcopy(load_rig("h36m").cameras.t)
    load_rig("h36m").cameras.t.zero_()
    assert torch.equal(load_rig("h36m").cameras.t, before)
