"""MATLAB files up to v7: cells and numbers come back; what would grow, or sink too deep, is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from poseda.errors import MissingDataError
from poseda.files.matlab import load_mat

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
ONE_CELL = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<HH4s", 1, 1, b"a")


def nested(levels, *, honest=False):
    """Cells in each other; unless honest, none says how much it holds, and scipy follows them all the same."""
    content = struct.pack("<II", 14, 0)
    for _ in range(levels if honest else 0):
        content = struct.pack("<II", 14, len(ONE_CELL) + len(content)) + ONE_CELL + content
    return HEADER + (b"" if honest else (struct.pack("<II", 14, len(ONE_CELL)) + ONE_CELL) * levels) + content


def cells(count, width=56):
    array = np.empty((count, 1), object)
    for index in range(count):
        array[index, 0] = np.full((3, width), float(index))
    return array


@pytest.mark.parametrize("compressed", [False, True])
def test_variables_come_back(tmp_path, compressed):
    path = tmp_path / "annot.mat"
    content = {"annot2": cells(14), "frames": np.arange(5), "name": "S1", "data": {"x": 1.5, "y": [1, 2]},
               "logical": np.array([[True, False]]), "z": np.array([1 + 2j]), "int": np.int8([[1, -1]])}  # fmt: skip
    scipy.io.savemat(path, content, do_compression=compressed)
    read = load_mat(path)
    assert sorted(read) == sorted(content) and read["annot2"].shape == (14, 1)
    assert all((read["annot2"][i, 0] == i).all() for i in range(14)) and read["frames"].tolist() == [[0, 1, 2, 3, 4]]
    assert read["name"].tolist() == ["S1"] and read["data"]["x"][0, 0].item() == 1.5
    assert sorted(load_mat(path, ["frames", "nothing"])) == ["frames"]


def test_values_are_those_that_scipy_reads(tmp_path):
    path = tmp_path / "x.mat"
    cell = np.empty((2, 3), object)
    cell[:] = [[1.0, "ab", np.int16([[1], [2]])], [np.zeros((0, 3)), cells(2), {"x": "y"}]]
    content = {kind: np.array([[1, 2, 3]], kind) for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4")}
    content |= {"cell": cell, "rows": np.array(["abc", "de "]), "deep": np.arange(24.0).reshape(2, 3, 4), "none": ""}
    content |= {"structs": np.array([[(1, "a"), (2, "b")]], [("n", object), ("t", object)]), "text": "Größe \u2603"}
    for compressed in (False, True):
        scipy.io.savemat(path, content, do_compression=compressed)
        read, oracle = load_mat(path), scipy.io.loadmat(path)
        for key in content:
            same(read[key], oracle[key])


def same(read, oracle):
    assert read.dtype == oracle.dtype and read.shape == oracle.shape
    if read.dtype.names:
        for name in read.dtype.names:
            same(read[name], oracle[name])
    elif read.dtype.hasobject:
        for ours, theirs in zip(read.ravel(), oracle.ravel(), strict=True):
            same(ours, theirs)
    else:
        assert (read == oracle).all()


def test_numbers_that_matlab_packed_into_bytes_are_what_matlab_shows(tmp_path):
    """MATLAB stores doubles that are small whole numbers as bytes."""
    double = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, 1, 3) + struct.pack("<HH4s", 1, 1, b"d")
    double += struct.pack("<HH4s", 2, 3, bytes([1, 2, 3]))
    (tmp_path / "x.mat").write_bytes(HEADER + struct.pack("<II", 14, len(double)) + double)
    read = load_mat(tmp_path / "x.mat")["d"]
    assert read.dtype == np.float64 and read.tolist() == [[1, 2, 3]]


def test_what_is_not_plain_is_refused_unless_it_is_not_asked_for(tmp_path, refused):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"s": scipy.sparse.eye(3), "a": 1.0})
    with refused(path, match="key 's': holds a sparse matrix; only numbers"):
        load_mat(path)
    assert load_mat(path, ["a"])["a"].tolist() == [[1]]
    scipy.io.savemat(path, {"a": np.eye(3)}, format="4")
    with refused(path, match="not a readable MATLAB file of v5 to v7; save it as v7"):
        load_mat(path)


@pytest.mark.parametrize("value", [np.zeros((1000, 1000)), cells(1, 400_000)], ids=["matrix", "cell"])
def test_what_unpacks_to_too_much_is_refused(tmp_path, value, refused):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"a": value}, do_compression=True)
    assert path.stat().st_size < 100_000
    with refused(path, match="the limit is"):
        load_mat(path, limit=4 << 20)
    assert "a" in load_mat(path, limit=32 << 20)


@pytest.mark.parametrize("levels", [100, 200_000])
def test_cells_in_cells_without_end_are_refused(tmp_path, levels, refused):
    path = tmp_path / "x.mat"
    path.write_bytes(nested(levels))
    with refused(path, match="levels deep"):
        load_mat(path)
    path.write_bytes(nested(100, honest=True))
    with refused(path, match="levels deep"):
        load_mat(path)
    path.write_bytes(nested(3, honest=True))
    assert load_mat(path)["a"][0, 0][0, 0].shape == (1, 1)


def test_a_cell_array_of_a_claimed_size_is_refused(tmp_path, refused):
    path = tmp_path / "x.mat"
    path.write_bytes(nested(1).replace(struct.pack("<ii", 1, 1), struct.pack("<ii", 1 << 30, 1 << 30)))
    with refused(path, match=r"key 'a': declares over 10\^18 bytes; the limit is 4 GiB"):
        load_mat(path)
    path.write_bytes(nested(1).replace(struct.pack("<ii", 1, 1), struct.pack("<ii", 9, 9)))
    with refused(path, match="ends too early"):
        load_mat(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_file_is_refused(tmp_path, compressed, refused):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"annot2": cells(2, 3), "s": {"a": 1}}, do_compression=compressed)
    data = path.read_bytes()
    whole = {128, 128 + 8 + struct.unpack("<I", data[132:136])[0]}  # ends between two variables
    for end in set(range(0, len(data) - 1, 10)) - whole:
        path.write_bytes(data[:end])
        with refused(path):
            load_mat(path)


def test_other_files_are_refused(tmp_path, refused):
    path = tmp_path / "x.mat"
    path.write_bytes(b"hello, world " * 50)
    with refused(path, match="not a readable MATLAB file"):
        load_mat(path)
    with pytest.raises(MissingDataError, match="no file"):
        load_mat(tmp_path / "none.mat")
    with refused(tmp_path, match="not a file"):
        load_mat(tmp_path)
    path.write_bytes(b"")
    with refused(path, match="empty"):
        load_mat(path)
    path.write_bytes(b" " * 512 + b"\x89HDF\r\n\x1a\n")
    with refused(path, match=r"MATLAB v7\.3 file, which is HDF5; read it with open_hdf5"):
        load_mat(path)
