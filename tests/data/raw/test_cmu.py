"""CMU's ASF/AMC and the BVH converted from it give the joints of one known motion."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.data.mocap.bvh import read_bvh
from poseda.data.mocap.kinematics import TO_Z_UP
from poseda.data.prepare import open_raw_dataset, prepare_dataset
from poseda.data.recordings import RawOptions
from poseda.errors import DataError, MissingDataError
from poseda.skeleton import get_skeleton
from tests.data.mocap.known_motion import BONES, UNIT_MM, KnownMotion

JOINTS = get_skeleton("h36m17").joints


@pytest.fixture(scope="module")
def known():
    return KnownMotion(frames=21, seed=2)


def expected(known):
    """(T, 17, 3) mm, z up, the lowest feet in the lowest twentieth of the frames at z = 0."""
    feet = [known.ends()[side + bone] for side in "lr" for bone in ("tibia", "foot", "toes")]
    floor = np.percentile(np.min(np.stack(feet)[..., 1], 0), 5) * UNIT_MM
    return np.stack([known.joints()[joint] for joint in JOINTS], 1) - [0, 0, floor]


def takes(folder, **options):
    dataset = open_raw_dataset("cmu", folder, RawOptions(**options))
    return dataset, {take.name: take for unit in dataset.units for take in unit.read()}


def test_official_layout(known, tmp_path):
    folder = tmp_path / "all_asfamc" / "subjects"
    (folder / "7").mkdir(parents=True)
    known.write_asf(folder / "7" / "07.asf")
    known.write_amc(folder / "7" / "07_01.amc")
    known.write_amc(folder / "7" / "07_12.amc")
    (tmp_path / "cmu-mocap-index-text.txt").write_text("Subject #7 (walk)\n07_01\twalk on a line\n07_02\trun\n")
    dataset, found = takes(tmp_path)
    assert dataset.recognised == "CMU motion capture: 2 trials as ASF/AMC, of 1 subjects"
    assert dataset.kind == "motion" and "NSF EIA-0196217" in dataset.licence and "120 frames/s" in dataset.notes
    assert [unit.name for unit in dataset.units] == ["07"]
    assert [path.name for path in dataset.units[0].files] == ["07_01.amc", "07_12.amc", "07.asf"]
    take = found["07/07_01"]
    assert (take.subject, take.action, take.fps, found["07/07_12"].action) == ("07", "walk on a line", 120, "12")
    assert np.allclose(take.joints, expected(known), atol=1e-8)


@pytest.mark.parametrize("drop", [True, False])
def test_bvh_gives_the_true_joints_back(known, tmp_path, drop):
    """With the bones dropped as in the conversion, or not: nothing is added to a file that lacks nothing."""
    known.write_asf(tmp_path / "05.asf")
    known.write_bvh(tmp_path / "05_03.bvh", drop=drop)
    dataset, found = takes(tmp_path)
    assert "BVH (cgspeed)" in dataset.recognised and "no ASF" not in dataset.notes
    assert np.allclose(found["05/05_03"].joints, expected(known), atol=1e-8)
    assert found["05/05_03"].fps == 120


def test_unmended_bvh_would_be_wrong(known, tmp_path):
    """The fixture has the flaw: what the repair is for, 2 units at the neck and a third of the forearm."""
    motion = read_bvh(known.write_bvh(tmp_path / "x.bvh", drop=True, t_pose=False))
    points = motion.positions() @ TO_Z_UP["y"].T * UNIT_MM
    truth = known.joints()
    off = {joint: np.linalg.norm(points[:, motion.index[name]] - truth[joint], axis=-1)
           for joint, name in (("thorax", "Neck"), ("spine", "Spine"))}  # fmt: skip
    assert np.allclose(off["thorax"], np.linalg.norm(BONES["thorax"][1]) * UNIT_MM)
    assert np.allclose(off["spine"], 0, atol=1e-9)
    forearm = points[:, motion.index["LeftFingerBase"]] - points[:, motion.index["LeftForeArm"]]
    assert np.allclose(np.linalg.norm(forearm, axis=-1), 3.6 * UNIT_MM)
    assert np.allclose(np.linalg.norm(truth["lwrist"] - truth["lelbow"], axis=-1), 1.5 * 3.6 * UNIT_MM)


def test_without_the_asf_only_the_thorax_is_approximate(known, tmp_path):
    known.write_bvh(tmp_path / "05_03.bvh", drop=True)
    dataset, found = takes(tmp_path)
    assert "no ASF for 05" in dataset.notes
    off = np.linalg.norm(found["05/05_03"].joints - expected(known), axis=-1)
    gap = np.linalg.norm(np.subtract(BONES["thorax"][1], BONES["upperback"][1])) * UNIT_MM
    below = [JOINTS.index(joint) for joint in ("pelvis", "spine", "rankle", "lknee")]
    assert np.allclose(off[:, below], 0, atol=1e-8)
    above = [JOINTS.index(joint) for joint in ("thorax", "nose", "head", "lshoulder", "lwrist", "relbow")]
    assert np.allclose(off[:, above], gap, atol=1e-6) and gap < 4


def test_the_original_is_preferred_and_files_may_lie_anywhere(known, tmp_path):
    (tmp_path / "bvh").mkdir()
    known.write_bvh(tmp_path / "bvh" / "01_01.bvh", drop=True)
    known.write_bvh(tmp_path / "bvh" / "01_02.bvh", drop=True)
    known.write_asf(tmp_path / "01.asf")
    known.write_amc(tmp_path / "01_01.amc")
    dataset, found = takes(tmp_path)
    assert dataset.recognised.startswith("CMU motion capture: 1 trials as ASF/AMC, 1 trials as BVH (cgspeed)")
    assert np.allclose(found["01/01_01"].joints, found["01/01_02"].joints, atol=1e-8)
    _, alone = takes(tmp_path / "01_01.amc")
    assert list(alone) == ["01/01_01"]


def test_a_rest_pose_is_only_left_out_where_there_is_one(known, tmp_path):
    known.write_bvh(tmp_path / "01_01.bvh", drop=True, t_pose=False)
    known.write_bvh(tmp_path / "01_02.bvh", drop=True, t_pose=True)
    found = takes(tmp_path)[1]
    assert [len(take.joints) for take in found.values()] == [21, 21]


def test_another_persons_asf_is_refused(known, tmp_path):
    other = {**BONES, "upperback": (BONES["upperback"][0], (0.0, 2.5, 0.0), *BONES["upperback"][2:])}
    KnownMotion(bones=other).write_asf(tmp_path / "05.asf")
    known.write_bvh(tmp_path / "05_03.bvh", drop=True)
    with pytest.raises(DataError, match=r"05_03.bvh: .*05.asf is another person's skeleton"):
        takes(tmp_path)


def test_what_is_not_cmu_is_refused(known, tmp_path):
    with pytest.raises(MissingDataError, match=r"no trial of CMU there; looked for"):
        takes(tmp_path)
    known.write_amc(tmp_path / "05_03.amc")
    with pytest.raises(MissingDataError, match=r"05_03.amc: its skeleton 05.asf is not under"):
        takes(tmp_path)
    (tmp_path / "05_03.amc").unlink()
    path = known.write_bvh(tmp_path / "05_03.bvh", drop=True)
    path.write_text(path.read_text().replace("LHipJoint", "LeftHip"))
    with pytest.raises(DataError, match=r"05_03.bvh: joints of no known BVH release of CMU \(Hips, LeftHip"):
        takes(tmp_path)
    less = {bone: facts for bone, facts in BONES.items() if bone not in ("head",)}
    path.unlink()
    small = KnownMotion(bones=less)
    small.write_asf(tmp_path / "06.asf")
    small.write_amc(tmp_path / "06_01.amc")
    with pytest.raises(DataError, match=r"06.asf: has no bone 'head'"):
        takes(tmp_path)


DAZ = {"lhip": "lThigh", "lknee": "lShin", "lankle": "lFoot", "rhip": "rThigh", "rknee": "rShin", "rankle": "rFoot"}


def daz(head: float = 14.0, frames: int = 2) -> str:
    """The Daz-friendly release's joints, centimetres, two rest poses before the frames."""

    def joint(name: str, offset: str, *children: str, kind: str = "JOINT") -> str:
        moves = "6 Xposition Yposition Zposition" if kind == "ROOT" else "3"
        inside = "".join(children) or "End Site\n{\nOFFSET 0 1 0\n}\n"
        return f"{kind} {name}\n{{\nOFFSET {offset}\nCHANNELS {moves} Zrotation Xrotation Yrotation\n{inside}}}\n"

    def side(s: str, sign: int) -> tuple[str, str]:
        arm = joint(f"{s}Hand", f"{22 * sign} 0 0")
        for name, x in (("ForeArm", 28), ("Shldr", 9), ("Collar", 3)):
            arm = joint(s + name, f"{x * sign} {15 if name == 'Collar' else 0} 0", arm)
        leg = joint(f"{s}Foot", "0 -42 0")
        return arm, joint(f"{s}Thigh", f"{9 * sign} -5 0", joint(f"{s}Shin", "0 -43 0", leg))

    (larm, lleg), (rarm, rleg) = side("l", 1), side("r", -1)
    eyes = joint("leftEye", "3 8 8"), joint("rightEye", "-3 8 8")
    chest = joint("chest", "0 20 0", joint("neck", "0 25 0", joint("head", f"0 {head} 0", *eyes)), larm, rarm)
    text = "HIERARCHY\n" + joint("hip", "0 0 0", joint("abdomen", "0 5 0", chest), lleg, rleg, kind="ROOT")
    width = 3 + 3 * text.count("JOINT") + 3
    rest, frame = ["0"] * width, ["1", "90", "2", *["7"] * (width - 3)]
    rows = "".join(" ".join(row) + "\n" for row in (rest, rest, *[frame] * frames))
    return f"{text}MOTION\nFrames: {frames + 2}\nFrame Time: 0.0083333\n{rows}"


def test_daz_release(tmp_path):
    (tmp_path / "13_01.bvh").write_text(daz())
    dataset, found = takes(tmp_path)
    joints = found["13/13_01"].joints
    assert "cgspeed for Daz" in dataset.recognised and "middle of the eyes" in dataset.notes
    assert len(joints) == 2
    thigh = joints[:, JOINTS.index("lknee")] - joints[:, JOINTS.index("lhip")]
    assert np.allclose(np.linalg.norm(thigh, axis=-1), 430)
    (tmp_path / "13_01.bvh").write_text(daz(head=140.0))
    with pytest.raises(DataError, match=r"13_01.bvh: the person is .* mm tall in centimetres"):
        takes(tmp_path)


def test_from_raw_to_an_archive(tmp_path):
    """Four people who stand still, through the rig."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for subject in ("01", "02", "03", "04"):
        still = KnownMotion(frames=240, seed=int(subject))
        still.root[:] = [0, 17, 0, 0, 0, 0]
        still.dof = {bone: np.zeros_like(values) for bone, values in still.dof.items()}
        still.write_asf(raw / f"{subject}.asf")
        still.write_amc(raw / f"{subject}_01.amc")
    dataset = open_raw_dataset("cmu", raw)
    prepared = prepare_dataset(dataset, tmp_path / "out")
    assert set(prepared.archives) == {"train", "test"} and prepared.frames["train"] > 0
