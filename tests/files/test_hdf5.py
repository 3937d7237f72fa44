"""HDF5 files: numbers that lie in the file come back, whatever points elsewhere does not."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.errors import MissingDataError
from poseda.files.hdf5 import is_hdf5, open_hdf5

h5py = pytest.importorskip("h5py")


@pytest.fixture
def made(tmp_path):
    """A file with what may be read and what may not."""
    path = tmp_path / "x.h5"
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones(4)
    with h5py.File(path, "w") as file:
        file["poses"] = np.arange(6.0).reshape(2, 3)
        file["group/deep"] = np.arange(3, dtype=">i4")
        file["valid"] = np.array([True, False])
        file.create_dataset("packed", data=np.zeros((500, 500)), compression="gzip")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/secret")
        file["folder"] = h5py.ExternalLink("other.h5", "/")
        file["alias"] = h5py.SoftLink("/elsewhere")
        file["text"] = "abc"
        file["compound"] = np.zeros(2, [("a", "f4"), ("b", "f4")])
        file["empty"] = h5py.Empty("f4")
        file.create_dataset("references", (1,), dtype=h5py.ref_dtype)
        file.create_dataset("huge", (1 << 20, 1 << 20), dtype="f4", chunks=(64, 64))
        file.create_dataset("chunk", (2, 2), maxshape=(None, None), dtype="f4", chunks=(1 << 14, 1 << 14))
        file.create_dataset("raw", (10,), dtype="u1", external=[("other.h5", 0, 10)])
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "secret", (4,))
        file.create_virtual_dataset("virtual", layout)
    return path


def test_numbers_come_back_as_stored(made):
    with open_hdf5(made) as file:
        assert file.array("poses").tolist() == [[0, 1, 2], [3, 4, 5]] and file.shape("poses") == (2, 3)
        deep = file.array("group/deep")
        assert deep.tolist() == [0, 1, 2] and deep.dtype.isnative
        assert file.array("valid").tolist() == [True, False] and not file.array("packed").any()
        assert file.shape("huge") == (1 << 20, 1 << 20)
        assert {"poses", "huge", "group"} <= set(file.keys)
        assert "poses" in file and "nothing" not in file and "elsewhere" not in file and "text" not in file


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("elsewhere", "link to elsewhere"), ("folder/secret", "link to elsewhere"), ("alias", "link to elsewhere"),
        ("raw", "values from other files"), ("virtual", "values from other files"),
        ("text", "is object; only numbers"), ("references", "only numbers"), ("compound", "only numbers"),
        ("huge", r"declares 4096\.0 GiB; the limit is 1 GiB"), ("chunk", "the limit is 1 GiB"),
        ("empty", "is not an array"), ("group", "is not an array"),
        ("nothing", "has no key 'nothing'; it holds alias, chunk"), ("poses/x", "has no key"), ("", "has no key"),
    ],
)  # fmt: skip
def test_everything_else_is_refused(made, key, message, refused):
    with open_hdf5(made) as file, refused(made, match=message):
        file.array(key, limit=(1 << 30) - 1 if key == "chunk" else 1 << 30)


def test_a_damaged_file_is_refused(made, refused):
    data = made.read_bytes()
    for end in (20, 100, 600, 2000, len(data) // 2):
        made.write_bytes(data[:end])
        with refused(made):
            open_hdf5(made)
    made.write_bytes(b"hello" * 1000)
    with refused(made, match="not a readable HDF5 file"):
        open_hdf5(made)
    made.write_bytes(b"")
    with refused(made, match="empty"):
        open_hdf5(made)
    with refused(made.parent, match="not a file"):
        open_hdf5(made.parent)
    with pytest.raises(MissingDataError, match="no file"):
        open_hdf5(made.parent / "none")


def test_hdf5_is_recognised_also_behind_the_block_of_matlab(tmp_path):
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file["annot3"] = np.ones((3, 17))
    (tmp_path / "x.txt").write_text("hello")
    assert is_hdf5(tmp_path / "v73.mat")
    assert not is_hdf5(tmp_path / "x.txt") and not is_hdf5(tmp_path / "none") and not is_hdf5(tmp_path)
    with open_hdf5(tmp_path / "v73.mat") as file:
        assert file.shape("annot3") == (3, 17)
