"""BVH files of many programs: joints by name, unit and upward axis from the person, or by a mapping file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from poseda.data.mocap.kinematics import TO_Z_UP
from poseda.data.prepare import open_raw_dataset
from poseda.data.raw.bvh import UNITS_M
from poseda.data.recordings import RawOptions
from poseda.errors import DataError, MissingDataError
from poseda.skeleton import get_skeleton
from tests.data.mocap.known_motion import BONES, UNIT_MM, KnownMotion

JOINTS = get_skeleton("h36m17").joints
# slot: parent, offset in metres, y up, the person's left along x
BODY = {
    "hips": ("", (0, 0.95, 0)), "spine1": ("hips", (0, 0.10, 0)), "spine2": ("spine1", (0, 0.14, 0)),
    "spine3": ("spine2", (0, 0.12, 0)), "neck": ("spine3", (0, 0.14, 0)), "head": ("neck", (0, 0.1, 0.02)),
    "top": ("head", (0, 0.18, 0)), "lcollar": ("spine3", (0.03, 0.1, 0)), "lshoulder": ("lcollar", (0.14, 0, 0)),
    "lelbow": ("lshoulder", (0.28, 0, 0)), "lwrist": ("lelbow", (0.25, 0, 0)), "rcollar": ("spine3", (-0.03, 0.1, 0)),
    "rshoulder": ("rcollar", (-0.14, 0, 0)),
    "relbow": ("rshoulder", (-0.28, 0, 0)), "rwrist": ("relbow", (-0.25, 0, 0)),
    "lhip": ("hips", (0.1, -0.05, 0)), "lknee": ("lhip", (0, -0.42, 0)), "lankle": ("lknee", (0, -0.42, 0)),
    "ltoe": ("lankle", (0, -0.06, 0.14)), "rhip": ("hips", (-0.1, -0.05, 0)), "rknee": ("rhip", (0, -0.42, 0)),
    "rankle": ("rknee", (0, -0.42, 0)), "rtoe": ("rankle", (0, -0.06, 0.14)),
}  # fmt: skip


def named(hips, spine, neck, head, top, left, right):
    names = {"hips": hips, "neck": neck, "head": head, "top": top}
    names |= {f"spine{number}": name for number, name in enumerate(spine, 1)}
    parts = ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "toe")
    return names | {
        f"{s}{part}": name for s, side in (("l", left), ("r", right)) for part, name in zip(parts, side, strict=True)
    }


def sides(form, *parts):
    return [form.format(part) for part in parts]


MIXAMO = ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
ROKOKO = ("Shoulder", "Arm", "ForeArm", "Hand", "Thigh", "Shin", "Foot", "Toe")
XSENS = ("Collar", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Toe")
BIPED = ("Clavicle", "UpperArm", "Forearm", "Hand", "Thigh", "Calf", "Foot", "Toe0")
UNITY = ("Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "Toes")
BLENDER = ("shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toe")
PROGRAMS = {
    "mixamo": named(
        "mixamorig:Hips",
        sides("mixamorig:{}", "Spine", "Spine1", "Spine2"),
        "mixamorig:Neck",
        "mixamorig:Head",
        "mixamorig:HeadTop_End",
        sides("mixamorig:Left{}", *MIXAMO),
        sides("mixamorig:Right{}", *MIXAMO),
    ),
    "motionbuilder": named(
        "Hips", ("Spine", "Spine1", "Spine2"), "Neck", "Head", "", sides("Left{}", *MIXAMO), sides("Right{}", *MIXAMO)
    ),
    "rokoko": named(
        "Hips", ("Spine", "Spine1", "Spine2"), "Neck", "Head", "", sides("Left{}", *ROKOKO), sides("Right{}", *ROKOKO)
    ),
    "xsens": named(
        "Hips", ("Chest", "Chest2", "Chest3"), "Neck", "Head", "", sides("Left{}", *XSENS), sides("Right{}", *XSENS)
    ),
    "biped": named(
        "Bip01",
        ("Bip01 Spine", "Bip01 Spine1", "Bip01 Spine2"),
        "Bip01 Neck",
        "Bip01 Head",
        "Bip01 HeadNub",
        sides("Bip01 L {}", *BIPED),
        sides("Bip01 R {}", *BIPED),
    ),
    "unity": named(
        "Hips", ("Spine", "Chest", "UpperChest"), "Neck", "Head", "", sides("Left{}", *UNITY), sides("Right{}", *UNITY)
    ),
    "blender": named(
        "hips", ("spine", "chest", "upper_chest"), "neck", "head", "", sides("{}.L", *BLENDER), sides("{}.R", *BLENDER)
    ),
}


def write(path, names, scale=100.0, up="y", angle=0.0, frames=3, fps=30):
    """A person who stands, moves along and bends the left elbow by `angle`. An empty name is an End Site."""
    to_up = TO_Z_UP[up].T @ TO_Z_UP["y"]
    widths = []

    def node(slot):
        parent, offset = BODY[slot]
        numbers = " ".join(f"{value:.9f}" for value in to_up @ np.multiply(offset, scale))
        if not names[slot]:
            return f"End Site\n{{\nOFFSET {numbers}\n}}\n"
        widths.append((slot, 3 if parent else 6))
        moves = "3" if parent else "6 Xposition Yposition Zposition"
        inside = "".join(node(child) for child, (above, _) in BODY.items() if above == slot)
        inside = inside or "End Site\n{\nOFFSET 0 0 0\n}\n"
        kind = "JOINT" if parent else "ROOT"
        return (
            f"{kind} {names[slot]}\n{{\nOFFSET {numbers}\nCHANNELS {moves} Xrotation Yrotation Zrotation\n{inside}}}\n"
        )

    text = f"HIERARCHY\n{node('hips')}MOTION\nFrames: {frames}\nFrame Time: {1 / fps:.7f}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    for frame in range(frames):
        row = []
        for slot, width in widths:
            place = to_up @ np.multiply([0.1 * frame, 0.95, 0], scale) if width == 6 else ()
            row += [*place, *(to_up @ np.array([0, 0, angle]) if slot == "lelbow" else (0, 0, 0))]
        text += " ".join(f"{value:.9f}" for value in row) + "\n"
    path.write_text(text)
    return path


def truth(frames=3, angle=0.0):
    """h36m17 joints as documented: name -> (T, 3) mm, z up, toes on the floor."""
    place = {}
    for slot, (parent, offset) in BODY.items():
        place[slot] = np.add(place[parent], offset) if parent else np.array(offset, float)
    turned = np.radians(angle)
    place["lwrist"] = place["lelbow"] + 0.25 * np.array([np.cos(turned), np.sin(turned), 0])
    place["pelvis"] = (place["lhip"] + place["rhip"]) / 2
    place |= {"thorax": place["neck"], "spine": place["spine2"], "nose": (place["neck"] + place["top"]) / 2}
    place["head"] = place["top"]
    points = np.stack([place[joint] for joint in JOINTS])[None] + np.arange(frames)[:, None, None] * [0.1, 0, 0]
    points = points - [0, place["ltoe"][1], 0]
    return 1000 * np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def takes(path, **options):
    dataset = open_raw_dataset("bvh", path, RawOptions(**options))
    return dataset, [take for unit in dataset.units for take in unit.read()]


@pytest.mark.parametrize("program", PROGRAMS)
def test_joints_by_the_names_of_programs(tmp_path, program):
    write(tmp_path / "S1_walk.bvh", PROGRAMS[program], angle=40)
    dataset, (take,) = takes(tmp_path)
    assert np.allclose(take.joints, truth(angle=40), atol=1e-4)
    assert (take.name, take.subject, take.action, take.fps) == ("S1_walk", "S1", "S1_walk", 30)
    assert dataset.recognised == "1 BVH files, in cm, y up"
    assert "pelvis=" in dataset.notes and dataset.kind == "motion"


@pytest.mark.parametrize("unit", UNITS_M)
@pytest.mark.parametrize("up", ["y", "z", "-y"])
def test_unit_and_upward_axis_from_the_person(tmp_path, unit, up):
    write(tmp_path / "a.bvh", PROGRAMS["mixamo"], scale=1 / UNITS_M[unit], up=up)
    dataset, (take,) = takes(tmp_path)
    assert dataset.recognised == f"1 BVH files, in {unit}, {up} up"
    heights = truth()[..., 2]
    assert np.allclose(take.joints[..., 2], heights, atol=0.01)
    lengths = np.linalg.norm(np.diff(take.joints, axis=1), axis=-1)
    assert np.allclose(lengths, np.linalg.norm(np.diff(truth(), axis=1), axis=-1), atol=0.01)


def test_no_height_fits_two_units():
    ratios = np.sort([1 / metres for metres in UNITS_M.values()])
    assert (ratios[1:] / ratios[:-1]).min() > 2.2 / 1.2


def test_folders_are_subjects(tmp_path):
    for name in ("S1/day1/walk", "S2/run"):
        write(tmp_path / f"{name}.bvh", PROGRAMS["mixamo"])
    _, found = takes(tmp_path)
    assert [(take.subject, take.name, take.action) for take in found] == [
        ("S1", "S1/day1/walk", "walk"), ("S2", "S2/run", "run")]  # fmt: skip


def test_a_mapping_names_joints_unit_and_axis(tmp_path):
    names = {slot: f"b{number}" for number, slot in enumerate(BODY)}
    write(tmp_path / "raw" / "a.bvh", names, scale=7.0)
    given = {joint: names[joint] for joint in JOINTS if joint in names}
    given |= {"pelvis": [names["lhip"], names["rhip"]], "thorax": names["neck"], "spine": names["spine2"],
              "head": names["top"], "nose": [names["neck"], names["top"]]}  # fmt: skip
    mapping = tmp_path / "map.json"
    said = {"joints": given, "unit_m": 1 / 7, "up": "y", "name": "lab", "licence": "ours"}
    mapping.write_text(json.dumps(said))
    dataset, (take,) = takes(tmp_path / "raw", mapping=str(mapping))
    assert np.allclose(take.joints, truth(), atol=1e-4)
    assert (dataset.name, dataset.licence) == ("lab", "ours") and mapping in dataset.units[0].files
    assert "in units of 0.142857 m" in dataset.recognised
    with pytest.raises(DataError, match=r"is 1.2 to 2.2 m tall in 0 of m, cm, mm, inch, CMU unit; give unit_m"):
        mapping.write_text(json.dumps({"joints": given}))
        takes(tmp_path / "raw", mapping=str(mapping))
    for wrong, message in (
        ({"joint": {}}, "joint: no such field; known: joints, unit_m, up, name, licence"),
        ({"up": "w"}, "up: is 'w'; expected one of"),
        ({"unit_m": -1}, "unit_m: is -1; expected metres above 0"),
        ({"joints": {"neck": "b1"}}, "joints.neck: no such joint"),
        ({"joints": {"head": "b99"}}, "joints.head: .*a.bvh has no joint 'b99'; found: b0, b1"),
        ({"joints": {"head": ["b1", "b2", "b3"]}}, "joints.head: expected the name of a joint"),
    ):
        mapping.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=f"map.json: {message}"):
            takes(tmp_path / "raw", mapping=str(mapping))


def test_what_is_not_found_is_named_with_what_there_is(tmp_path):
    names = {**PROGRAMS["motionbuilder"], "lknee": "LeftThing"}
    write(tmp_path / "a.bvh", names)
    with pytest.raises(DataError, match=r"a.bvh: pelvis, rhip, .* not found by name; .*found: Hips, Spine.*LeftThing"):
        takes(tmp_path)
    write(tmp_path / "a.bvh", {**PROGRAMS["motionbuilder"], "head": ""})
    with pytest.raises(DataError, match=r"a.bvh: nose, head not found by name"):
        takes(tmp_path)
    with pytest.raises(MissingDataError, match=r"no .bvh file there"):
        (tmp_path / "empty").mkdir()
        takes(tmp_path / "empty")


def test_a_person_of_another_size_than_the_first_files_unit_allows(tmp_path):
    write(tmp_path / "a.bvh", PROGRAMS["mixamo"])
    write(tmp_path / "b.bvh", PROGRAMS["mixamo"], scale=1.0)
    with pytest.raises(DataError, match=r"b.bvh: the person is 0.0\d+ m tall in cm; prepare it on its own"):
        takes(tmp_path)


def test_nobody_upright(tmp_path):
    path = write(tmp_path / "a.bvh", PROGRAMS["mixamo"], frames=1)
    lines = path.read_text().splitlines()
    values = lines[-1].split()
    path.write_text("\n".join([*lines[:-1], " ".join([*values[:3], "45", "0", "0", *values[6:]])]))
    with pytest.raises(DataError, match=r"nobody stands upright along one axis, so up is unknown; give up in mapping"):
        takes(tmp_path)


def test_the_widespread_cmu_conversion_is_mended(tmp_path):
    KnownMotion(frames=4, seed=1).write_bvh(tmp_path / "renamed.bvh", drop=True)
    dataset, (take,) = takes(tmp_path)
    assert "CMU unit, y up" in dataset.recognised and len(take.joints) == 4
    upper = np.linalg.norm(
        np.subtract(take.joints[0, JOINTS.index("thorax")], take.joints[0, JOINTS.index("lshoulder")])
    )
    assert upper == pytest.approx(np.linalg.norm(BONES["lclavicle"][1]) * UNIT_MM, abs=1e-6)
