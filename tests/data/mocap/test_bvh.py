"""BVH read against the naive loop, and what is said of broken files."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.data.mocap.bvh import read_bvh, read_bvh_names
from poseda.data.mocap.cgspeed import MARKS
from poseda.errors import DataError, MissingDataError
from tests.data.mocap.known_motion import BONES, KnownMotion, node_name

SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 1.0 2.0 3.0
  CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
  JOINT Left Arm {
    OFFSET 0 5 0
    CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 1 0
    }
  }
}
MOTION
Frames:\t2
Frame Time: 0.0333333
10 20 30 0 0 0  0 5 0  90 0 0
10 20 30 0 0 90  0 6 0  0 0 0

"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.bvh"
    path.write_text(SMALL)
    return path


def test_joints_lie_where_the_naive_loop_says(known, tmp_path):
    motion = read_bvh(known.write_bvh(tmp_path / "01_01.bvh", drop=False, t_pose=False))
    positions = motion.positions()
    ends = known.ends()
    for bone, (parent, *_) in BONES.items():
        start = positions[:, motion.index[node_name(bone)]]
        assert np.allclose(start, ends[parent], atol=1e-11), bone
    assert np.allclose(positions[:, motion.index["Head_end"]], ends["head"], atol=1e-11)


def test_position_channels_replace_the_offset_and_names_have_spaces(small):
    motion = read_bvh(small)
    assert motion.names == ("Hips", "Left Arm", "Left Arm_end") == read_bvh_names(small)
    assert motion.fps == 30
    expected = [[[10, 20, 30], [10, 25, 30], [9, 25, 30]], [[10, 20, 30], [4, 20, 30], [3, 20, 30]]]
    assert np.allclose(motion.positions(), expected, atol=1e-12)


def test_position_channels_of_zero_are_added_to_the_offset(small):
    small.write_text(SMALL.replace("0 5 0  90", "0 0 0  90").replace("0 6 0  0", "0 0 0  0"))
    assert np.allclose(read_bvh(small).positions()[0, 1], [10, 25, 30])


@pytest.mark.parametrize(
    ("seconds", "fps"), [(".0083333", 120), ("0.0333", 30), ("0.04", 25), ("0.0333667", 1 / 0.0333667), ("0.02", 50)]
)
def test_frame_rates_as_written(small, seconds, fps):
    small.write_text(SMALL.replace("0.0333333", seconds))
    assert read_bvh(small).fps == pytest.approx(fps, abs=1e-12)


def test_names_alone_are_read_without_the_motion(known, tmp_path):
    path = known.write_bvh(tmp_path / "x.bvh", drop=True)
    path.write_text(path.read_text().split("Frames")[0])
    assert set(read_bvh_names(path)) >= MARKS


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Frames:\t2", "Frames: 999999999", r"declares 999999999 frames but holds 2 \(it ends at line 20\)"),
        ("Frames:\t2", "Frames: 1", "declares 1 frames but holds 2"),
        ("Frames:\t2", "Frames: -2", "line 16: Frames is '-2'"),
        ("Frames:\t2\n", "", "line 15: MOTION needs 'Frames:' and 'Frame Time:'"),
        ("0.0333333", "0", "line 17: Frame Time is 0; expected 0.0001 to 60.0 seconds"),
        ("0.0333333", "1e-320", "line 17: Frame Time is 1e-320"),
        ("Frames:\t2", "Frames: " + "9" * 5000, "line 16: Frames is '999"),
        ("0.0333333", "nan", "line 17 has nan"),
        ("10 20 30 0 0 90", "10 20 0 0 90", "line 19 has 11 numbers, expected 12"),
        ("10 20 30 0 0 90", "10 20 inf 0 0 90", "line 19 has inf, which is not a finite number"),
        ("10 20 30 0 0 90", "10 20 abc 0 0 90", "line 19 has 'abc' where a number is expected"),
        (
            "CHANNELS 6 Xposition Yposition Zposition Z",
            "CHANNELS 5 Xposition Yposition Zposition Z",
            "line 8: CHANNELS 5",
        ),
        ("Xrotation Zrotation", "Xrotation Xrotation", "line 5: CHANNELS"),
        ("OFFSET 0 5 0", "OFFSET 0 5", "line 7 has 2 numbers, expected 3"),
        ("JOINT Left Arm {", "JOINT Hips {", "line 6: joint 'Hips' has no name of its own"),
        ("JOINT Left Arm {", "ROOT Left Arm {", "line 6: ROOT Left Arm is not expected here"),
        ("}\nMOTION", "MOTION", "MOTION comes before the last '}'"),
        ("HIERARCHY", "<html>", "line 1: '<html>' is not expected here; is this a BVH file"),
    ],
)
def test_a_broken_file_is_refused_by_line(small, old, new, said):
    assert old in SMALL
    small.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(DataError, match=f"small.bvh: .*{said}"):
        read_bvh(small)


def test_a_cut_off_file_is_refused_wherever_it_was_cut(known, tmp_path):
    path = known.write_bvh(tmp_path / "x.bvh", drop=True)
    lines = path.read_text().splitlines(keepends=True)
    for count in range(0, len(lines), 7):
        path.write_text("".join(lines[:count]))
        with pytest.raises(DataError, match=r"x.bvh: "):
            read_bvh(path)


def test_an_absent_file(tmp_path):
    for read in (read_bvh, read_bvh_names):
        with pytest.raises(MissingDataError, match=r"no file"):
            read(tmp_path / "x.bvh")


def test_deep_and_wide_hierarchies_are_refused_not_recursed(tmp_path):
    path = tmp_path / "deep.bvh"
    path.write_text("HIERARCHY\nROOT a\n{\n" + "".join(f"JOINT j{i}\n{{\n" for i in range(5000)))
    with pytest.raises(DataError, match=r"more than 2000 joints"):
        read_bvh(path)


def test_first_frames_are_left_out(tmp_path):
    motion = read_bvh(KnownMotion(frames=2, seed=4).write_bvh(tmp_path / "x.bvh", drop=False))
    assert len(motion) == 3 and motion.from_frame(1).values.shape == (2, 96)


def test_frames_are_taken_in_parts(known, tmp_path, monkeypatch):
    motion = read_bvh(known.write_bvh(tmp_path / "x.bvh", drop=False))
    whole = motion.positions()
    monkeypatch.setattr("poseda.data.mocap.bvh.CHUNK", 4)
    assert np.array_equal(motion.positions(), whole)
