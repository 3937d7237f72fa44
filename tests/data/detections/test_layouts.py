"""Both published constructions of Human3.6M joints, against numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.data.detections import DetectionOptions, read_detections
from poseda.data.detections.layouts import convert, gast_matrix
from poseda.errors import ConfigError, DataError
from poseda.skeleton import get_skeleton
from tests.data.detections.conftest import SIZE, coco_entries, write

H36M, COCO = get_skeleton("h36m17"), get_skeleton("coco17")

# nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right
BODY = np.array(
    [
        (100, 40), (106, 34), (96, 34), (112, 38), (90, 36), (130, 80), (76, 80), (136, 120), (70, 118), (140, 160),
        (66, 158), (118, 170), (86, 172), (120, 240), (84, 242), (122, 310), (82, 312),
    ],
    dtype=float,
)  # fmt: skip
COPIED = {
    1: (86, 172), 2: (84, 242), 3: (82, 312), 4: (118, 170), 5: (120, 240), 6: (122, 310), 11: (130, 80),
    12: (136, 120), 13: (140, 160), 14: (76, 80), 15: (70, 118), 16: (66, 158),
}  # fmt: skip
MMPOSE = {0: (102, 171), 8: (103, 80), 7: (102.5, 125.5), 9: (100, 40), 10: (101, 34)}
# shoulders' middle (103, 80); thorax (103 + (100-103)/3, 80 + (40-80)/3 - (34-40)*2/3) = (102, 70.667);
# spine ((130+76+118+86)/4 = 102.5 + 2 * (102.5 - (102+102)/2), 125.5); head ((106+96+112+90)/4, 34+34-40)
GAST = {0: (102, 171), 8: (102, 212 / 3), 7: (103.5, 125.5), 9: (100.75, 50), 10: (101, 28)}


@pytest.mark.parametrize(("construction", "made"), [("mmpose", MMPOSE), ("gast", GAST)])
def test_coco_to_h36m_by_hand(construction, made):
    points, _ = convert(BODY[None], np.ones((1, 17)), COCO, H36M, construction)
    expected = np.array([{**COPIED, **made}[joint] for joint in range(17)])
    np.testing.assert_allclose(points[0], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("construction", "parts"),
    [
        ("mmpose", {"head": "leye reye", "thorax": "lshoulder rshoulder", "nose": "nose"}),
        ("gast", {"head": "leye reye lear rear nose", "nose": "nose lshoulder rshoulder"}),
    ],
)
def test_a_made_joint_is_as_sure_as_its_least_sure_part(construction, parts):
    confidence = np.random.default_rng(0).uniform(0.3, 1, (4, 17))
    _, sure = convert(BODY[None].repeat(4, 0), confidence, COCO, H36M, construction)
    for joint, names in parts.items():
        least = confidence[:, [COCO.index(name) for name in names.split()]].min(1)
        np.testing.assert_array_equal(sure[:, H36M.index(joint)], least)


def test_a_missing_part_leaves_the_joint_missing_and_zero():
    confidence = np.ones((1, 17))
    points = BODY[None].copy()
    confidence[0, COCO.index("rear")], points[0, COCO.index("rear")] = 0, np.nan
    made, sure = convert(points, confidence, COCO, H36M, "gast")
    assert np.flatnonzero(sure[0] == 0).tolist() == [H36M.index("head")] and np.isfinite(made).all()
    assert (made[0, H36M.index("head")] == 0).all()


def test_what_openpose_has_of_its_own_is_kept():
    body = get_skeleton("body25")
    points = np.random.default_rng(1).uniform(10, 90, (2, 25, 2))
    made, _ = convert(points, np.ones((2, 25)), body, H36M, "gast")
    for joint in ("pelvis", "thorax", "lknee"):
        np.testing.assert_allclose(made[:, H36M.index(joint)], points[:, body.index(joint)])
    assert not np.allclose(made[:, H36M.index("nose")], points[:, body.index("nose")])


def test_both_constructions_move_with_the_image():
    np.testing.assert_allclose(gast_matrix(COCO).sum(-1), 1.0)


def test_a_layout_with_a_head_top_needs_no_construction():
    points = np.random.default_rng(2).uniform(10, 90, (1, 26, 2))
    halpe = get_skeleton("halpe26")
    one, other = (convert(points, np.ones((1, 26)), halpe, H36M, how)[0] for how in ("mmpose", "gast"))
    np.testing.assert_array_equal(one, other)


def test_a_layout_can_be_said(tmp_path, person, joints_of):
    named = person()
    path = write(tmp_path / "a.json", coco_entries(joints_of(named, "h36m17")))
    read = read_detections(path, DetectionOptions(**SIZE, layout="h36m17"))
    np.testing.assert_allclose(read.clips.keypoints, joints_of(named, "h36m17"), atol=1e-3)
    assert "Human3.6M-17" in read.recognised
    with pytest.raises(ConfigError, match=r"layout=halpe26 has 26 joints; .*a\.json has 17"):
        read_detections(path, DetectionOptions(**SIZE, layout="halpe26"))
    with pytest.raises(ConfigError, match="Did you mean 'h36m17'"):
        read_detections(path, DetectionOptions(**SIZE, layout="h36m18"))


def test_an_unknown_number_of_joints_is_refused(tmp_path, person, joints_of):
    path = write(tmp_path / "hand.json", coco_entries(joints_of(person(), "halpe26")[:, :21]))
    with pytest.raises(DataError, match=r"hand\.json: 21 joints; known are 17 \(COCO-17\), .* or say layout="):
        read_detections(path, DetectionOptions(**SIZE))


def test_unknown_joint_names_are_refused(tmp_path):
    instance = {"keypoints": [[5.0, 9.0], [6.0, 7.0]], "keypoint_scores": [1.0, 1.0]}
    meta = {"keypoint_id2name": {"0": "wing", "1": "tail"}}
    path = write(tmp_path / "a.json", {"meta_info": meta, "instance_info": [instance]})
    with pytest.raises(DataError, match=r"joints wing, tail \.\.\. make up no known joint set"):
        read_detections(path, DetectionOptions(**SIZE))


def test_mpii_turns_into_h36m_by_gast_net_s_index_list():
    points = np.random.default_rng(3).uniform(10, 90, (1, 16, 2))
    made, _ = convert(points, np.ones((1, 16)), get_skeleton("mpii16"), H36M, "gast")
    targets = [3, 2, 1, 4, 5, 6, 0, 8, 9, 10, 16, 15, 14, 11, 12, 13]
    np.testing.assert_array_equal(made[:, targets], points)


def test_openpose_s_joints_are_in_the_published_order():
    limbs = "nose thorax rshoulder relbow rwrist lshoulder lelbow lwrist"
    legs = "rhip rknee rankle lhip lknee lankle"
    face = "reye leye rear lear"
    feet = "lbigtoe lsmalltoe lheel rbigtoe rsmalltoe rheel"
    assert " ".join(get_skeleton("coco18").joints) == f"{limbs} {legs} {face}"
    assert " ".join(get_skeleton("body25").joints) == f"{limbs} pelvis {legs} {face} {feet}"
