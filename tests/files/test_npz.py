"""npz and npy files: plain arrays, texts and objects come back; a hostile file is refused before memory is taken."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from poseda.errors import MissingDataError
from poseda.files.npz import load_npy, open_npz

ARRAYS = {
    "float32": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(5, dtype=">i4"),
    "bool": np.array([True, False]),
    "number": np.array(7),
    "empty": np.zeros((0, 17, 2)),
    "subject/trial": np.ones((2, 2), np.uint8),
}


class System:
    def __reduce__(self):
        return os.system, ("false",)


def npy(header, content=b"", version=b"\x01\x00"):
    head = header + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\x01\x00" else "<I", len(head)) + head + content


def shaped(shape, descr="'<f4'", content=b"12345678"):
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode(), content)


def write_npz(path, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as file:
        for key, content in entries.items():
            file.writestr(f"{key}.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_plain_arrays_come_back_as_numpy_reads_them(tmp_path, save):
    path = tmp_path / "x.npz"
    save(path, **ARRAYS)
    with open_npz(path) as file, np.load(path) as oracle:
        assert file.keys == tuple(oracle.files) and "float32" in file and "x" not in file
        for key in file.keys:
            array = file.array(key)
            assert file.shape(key) == oracle[key].shape and file.dtype(key) == oracle[key].dtype
            assert array.dtype == oracle[key].dtype.newbyteorder("=") and array.flags.writeable
            assert array.shape == oracle[key].shape and (array == oracle[key]).all()


def test_texts_come_back_from_every_kind_of_array(tmp_path, refused):
    path, names = tmp_path / "x.npz", ["S1", "Größe", ""]
    good = {"u": names, "s": [name.encode() for name in names], "o": np.array(names, object)}
    good["big endian"] = np.array(names, ">U6")
    bad = {"number": np.ones(2), "mixed": np.array(["a", 1], object), "square": [["a"]], "latin": [b"\xe9"]}
    np.savez(path, empty=np.array([], "U1"), **good, **bad)
    wrong = {"number": "is float64", "mixed": "item 1 is of type int", "square": "not a 1-D", "latin": "not UTF-8"}
    with open_npz(path) as file:
        assert all(file.texts(key) == names for key in good) and file.texts("empty") == []
        for key, message in wrong.items():
            with refused(path, match=f"key '{key}'.*{message}"):
                file.texts(key)


def test_nested_dicts_of_arrays_come_back_from_a_0_d_array(tmp_path):
    positions = {"S1": {"Walking 1": [np.ones((5, 17, 2), np.float32), np.zeros((4, 17, 2))], "Photo": np.arange(3)}}
    metadata = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": [[4, 5, 6], [1, 2, 3]]}
    np.savez_compressed(tmp_path / "x.npz", positions_2d=positions, metadata=metadata, rows=np.array([{"a": 1}, None]))
    with open_npz(tmp_path / "x.npz") as file:
        read = file.objects("positions_2d")
        assert (read["S1"]["Walking 1"][0] == 1).all() and read["S1"]["Walking 1"][1].shape == (4, 17, 2)
        assert read["S1"]["Photo"].tolist() == [0, 1, 2] and file.objects("metadata") == metadata
        assert file.dtype("metadata").hasobject and file.objects("rows").tolist() == [{"a": 1}, None]


def test_an_array_of_objects_is_no_array_of_numbers_and_the_other_way_round(tmp_path, refused):
    path = tmp_path / "x.npz"
    np.savez(path, objects=np.array([{}]), numbers=np.ones(3), texts=["a"])
    with open_npz(path) as file:
        for key, found in (("objects", "object"), ("texts", "<U1")):
            with refused(path, match=rf"key '{key}': is {found} \(1,\); expected float or int or unsigned or bool"):
                file.array(key)
        with refused(path, match="key 'numbers': is float64.*expected an array of objects"):
            file.objects("numbers")
        with refused(path, match="expected int"):
            file.array("numbers", "i")
        with refused(path, match="has no key 'x'; it holds objects, numbers, texts"):
            file.array("x")


@pytest.mark.parametrize("value", [System(), {"S1": [System()]}, {"a": np.array([1, System()], object)}])
def test_code_in_an_array_of_objects_is_refused(tmp_path, refused, value):
    path = tmp_path / "x.npz"
    np.savez(path, data=np.array(value, dtype=object))
    with open_npz(path) as file, refused(path, match=r"key 'data': holds a pickled (posix|nt)\.system"):
        file.objects("data")


HOSTILE = {
    "a huge shape": (shaped((10**11, 17, 3)), "claims float32"),
    "a shape beyond 64 bits": (shaped((2**62, 2**62)), "claims float32"),
    "a shape of thousands of digits": (shaped(f"(int('9'), {'9' * 4299})"), "not an npy array"),
    "a negative shape": (shaped((-2, -1)), "shape"),
    "a shape too small": (shaped((1,)), "claims float32"),
    "a shape of no integers": (shaped((2.0,)), "not an npy array"),
    "texts of no length": (shaped((10**12,), "'<U0'", b""), "claims"),
    "a huge type": (shaped((1,), "'<U999999999'"), "not an npy"),
    "characters that do not exist": (shaped((2,), "'<U1'", b"\xff" * 8), "characters"),
    "a call in the header": (shaped((), "__import__('os').system('false')"), "not an npy"),
    "a header of nested brackets": (npy(b"(" * 5000), "not an npy"),
    "a header that is no dictionary": (npy(b"[]"), "not an npy"),
    "a huge header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "not an npy"),
    "a later version": (npy(b"{}", version=b"\x09\x00"), "version"),
    "no header": (b"hello", "not an npy array"),
    "nothing": (b"", "not an npy array"),
    "fields": (shaped((1,), "[('a', '<f4'), ('b', '<f4')]"), "expected"),
    "dates": (shaped((1,), "'<M8[s]'"), "expected"),
    "complex numbers": (shaped((1,), "'<c8'"), "expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_array_is_refused_in_one_line(tmp_path, name, refused):
    content, message = HOSTILE[name]
    path = write_npz(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, good=shaped((2,)), bad=content)
    with open_npz(path) as file:
        assert file.array("good").shape == (2,)
        with refused(path, match=f"key 'bad'.*{message}"):
            file.array("bad", "fiubUS")
    if content:
        (tmp_path / "x.npy").write_bytes(content)
        with refused(tmp_path / "x.npy", match=message or None):
            load_npy(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (shaped((10**12,), "'|O'", pickle.dumps(np.array([{}]))), "objects in"),
        (shaped((2,), "'|O'", pickle.dumps(np.array([{}]))), "not the array of objects"),
        (shaped((), "'|O'", pickle.dumps({})), "not the array of objects"),
        (shaped((1,), "'|O'", pickle.dumps(np.ones(1))), "not the array of objects"),
        (shaped((1,), "'|O'", b"hello"), "not a whole pickle"),
        (shaped((1,), "'|O'", pickle.dumps(np.array([{}]))[:-9]), "ends too early"),
    ],
)
def test_a_hostile_array_of_objects_is_refused(tmp_path, content, message, refused):
    path = write_npz(tmp_path / "x.npz", bad=content)
    with open_npz(path) as file, refused(path, match=message):
        file.objects("bad")


def test_a_file_that_declares_too_much_is_refused_before_memory_is_taken(tmp_path, refused):
    path = write_npz(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, zeros=shaped((5_000_000,), content=bytes(20_000_000)))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with refused(path, match=r"declares 0\.0 GiB; the limit is 0\.0\d+ GiB"):
        open_npz(path, limit=10 << 20)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with open_npz(path) as file:
        assert not file.array("zeros").any()


def test_damaged_contents_are_noticed(tmp_path, refused):
    path = write_npz(tmp_path / "x.npz", a=shaped((2,)))
    data = path.read_bytes()
    for old in (b"12345678", b"'shape'"):
        path.write_bytes(data.replace(old, bytes([old[0] ^ 1]) + old[1:]))
        with open_npz(path) as file, refused(path, match="key 'a': cannot be read"):
            file.array("a")
    objects = pickle.dumps(np.array(["12345678"], object))
    path = write_npz(tmp_path / "y.npz", a=shaped((1,), "'|O'", objects))
    path.write_bytes(path.read_bytes().replace(b"12345678", b"02345678"))
    with open_npz(path) as file, refused(path, match="key 'a': cannot be read.*CRC"):
        file.objects("a")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_file_is_refused(tmp_path, save, refused):
    path = tmp_path / "x.npz"
    save(path, a=np.ones(30), b=np.array([{}]))
    data = path.read_bytes()
    for end in range(10, len(data) - 1, 10):
        path.write_bytes(data[:end])
        with refused(path):
            open_npz(path)


def test_an_unusual_compression_is_refused(tmp_path, refused):
    path = write_npz(tmp_path / "x.npz", zipfile.ZIP_BZIP2, a=shaped((2,)))
    with open_npz(path) as file, refused(path, match="compressed in a way"):
        file.array("a")


def test_a_file_is_looked_at_before_it_is_read(tmp_path, refused):
    for read in (open_npz, load_npy):
        with pytest.raises(MissingDataError, match="no file"):
            read(tmp_path / "x.npz")
        with refused(tmp_path, match="not a file"):
            read(tmp_path)
        (tmp_path / "e").write_bytes(b"")
        with refused(tmp_path / "e", match="empty"):
            read(tmp_path / "e")
        (tmp_path / "t").write_bytes(b"hello " * 100)
        with refused(tmp_path / "t", match="not a readable npz file|not an npy array"):
            read(tmp_path / "t")


def test_a_npy_file_comes_back(tmp_path, refused):
    for name in ("float32", "fortran", "big endian", "number"):
        np.save(tmp_path / "x.npy", ARRAYS[name])
        read = load_npy(tmp_path / "x.npy")
        assert read.shape == ARRAYS[name].shape and (read == ARRAYS[name]).all()
    np.save(tmp_path / "x.npy", np.array([System()]))
    with refused(tmp_path / "x.npy", match="is object"):
        load_npy(tmp_path / "x.npy")
    with refused(tmp_path / "x.npy", match="the limit"):
        load_npy(tmp_path / "x.npy", limit=10)
