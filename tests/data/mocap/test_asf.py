"""ASF/AMC against the naive loop, and what is said of broken files."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.data.mocap.asf import read_amc, read_asf
from poseda.errors import DataError, MissingDataError
from tests.data.mocap.known_motion import UNIT_MM


@pytest.fixture
def files(known, tmp_path):
    return known.write_asf(tmp_path / "01.asf"), known.write_amc(tmp_path / "01_01.amc")


def break_line(path, old, new, said):
    """Replace the first `old` in a file; LINE in `said` becomes its line."""
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    return said.replace("LINE", str(text[: text.index(old)].count("\n") + 1))


def test_bones_end_where_the_naive_loop_says(known, files):
    skeleton = read_asf(files[0])
    ends = skeleton.ends(read_amc(files[1], skeleton))
    for bone, expected in known.ends().items():
        assert np.allclose(ends[:, skeleton.index[bone]], expected * UNIT_MM, atol=1e-9), bone


def test_units_and_rest_pose(known, files):
    skeleton = read_asf(files[0])
    assert skeleton.unit_mm == pytest.approx(56.4444, abs=1e-4)
    assert skeleton.names[0] == "root" and len(skeleton.names) == 31
    assert np.allclose(skeleton.vectors[skeleton.index["ltibia"]], np.array(known.bones["ltibia"][1]) * UNIT_MM)


def test_radians_are_what_the_motion_file_says(known, files, tmp_path):
    skeleton = read_asf(files[0])
    lines = files[1].read_text().replace(":DEGREES", ":RADIANS").splitlines()
    for place, line in enumerate(lines):
        words = line.split()
        if words[0] in skeleton.index:
            keep = 3 if words[0] == "root" else 0
            angles = [str(np.radians(float(word))) for word in words[1 + keep :]]
            lines[place] = " ".join([*words[: 1 + keep], *angles])
    radians = tmp_path / "radians.amc"
    radians.write_text("\n".join(lines))
    expected = skeleton.ends(read_amc(files[1], skeleton))
    assert np.allclose(skeleton.ends(read_amc(radians, skeleton)), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name lfemur", "name rfemur", "a bone needs a name of its own"),
        ("    lfemur ltibia", "    lfemur lshank", "hierarchy names 'lshank', which is no bone"),
        ("    lfemur ltibia\n", "", "hierarchy does not lead to bone 'ltibia'"),
        ("    ltibia lfoot", "    ltibia lfoot lfemur", "bone 'lfemur' has a parent already"),
        ("direction", "direction nan", "line LINE has 4 numbers, expected 3"),
        ("length 0.45", "length 0", "line LINE: a unit of length of 0"),
        ("length 0.45", "length inf", "line LINE has inf, which is not a finite number"),
        ("XYZ\n    dof", "XYQ\n    dof", "axis order 'xyq'"),
        ("dof rx\n", "dof rw\n", "channels 'rw'; expected some of rx ry rz"),
    ],
)
def test_a_broken_skeleton_is_refused_by_line(files, old, new, said):
    said = break_line(files[0], old, new, said)
    with pytest.raises(DataError, match=f"01.asf: .*{said}"):
        read_asf(files[0])


def test_a_file_that_is_no_skeleton(tmp_path):
    path = tmp_path / "x.asf"
    path.write_bytes(b"\x93NUMPY\0\0\0")
    with pytest.raises(DataError, match="not a text file"):
        read_asf(path)
    path.write_text("hello")
    with pytest.raises(DataError, match="no bone found"):
        read_asf(path)
    with pytest.raises(MissingDataError, match="no file"):
        read_asf(tmp_path / "y.asf")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lradius ", "lradius 1.5 ", "line LINE has 2 numbers, expected 1"),
        ("lradius ", "lradius x", "line LINE has 'x"),
        ("lradius ", "lelbow ", "line LINE: 'lelbow' is not in 01.asf"),
        ("\n2\n", "\n3\n", "begins with '3', expected '2'"),
        ("\nlfemur ", "\nrfemur ", "'rfemur' is not in 01.asf, or comes twice"),
    ],
)
def test_a_broken_motion_is_refused_by_line(files, old, new, said):
    skeleton = read_asf(files[0])
    said = break_line(files[1], old, new, said)
    with pytest.raises(DataError, match=f"01_01.amc: .*{said}"):
        read_amc(files[1], skeleton)


def test_motion_that_is_not_finite_or_cut_off(files):
    skeleton = read_asf(files[0])
    text = files[1].read_text()
    lines = text.splitlines()
    files[1].write_text("\n".join(lines[:-3]))
    with pytest.raises(DataError, match=f"ends inside frame 5, after line {len(lines) - 3}"):
        read_amc(files[1], skeleton)
    at = next(place for place, line in enumerate(lines) if line.startswith("rtibia"))
    files[1].write_text("\n".join([*lines[:at], "rtibia nan", *lines[at + 1 :]]))
    with pytest.raises(DataError, match=f"line {at + 1} has nan"):
        read_amc(files[1], skeleton)
    files[1].write_text("\n".join(line for line in lines if not line.startswith("rtibia")))
    with pytest.raises(DataError, match="first frame has no 'rtibia', which can move"):
        read_amc(files[1], skeleton)
    files[1].write_text(":DEGREES\n")
    with pytest.raises(DataError, match="holds no frame"):
        read_amc(files[1], skeleton)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.asf"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(DataError, match="the limit for a text file is 256 MiB"):
        read_asf(path)


def test_frames_are_taken_in_parts(files, monkeypatch):
    skeleton = read_asf(files[0])
    motion = read_amc(files[1], skeleton)
    whole = skeleton.ends(motion)
    monkeypatch.setattr("poseda.data.mocap.asf.CHUNK", 2)
    assert np.array_equal(skeleton.ends(motion), whole)
