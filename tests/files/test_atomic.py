"""Atomic writing: a file is seen whole or not at all."""

from __future__ import annotations

import pytest

from poseda.files.atomic import atomic_write


def test_bytes_and_functions_are_written(tmp_path):
    atomic_write(tmp_path / "a" / "b", b"one")
    assert (tmp_path / "a" / "b").read_bytes() == b"one"
    atomic_write(str(tmp_path / "a" / "b"), lambda file: file.write(b"two"))
    assert (tmp_path / "a" / "b").read_bytes() == b"two" and [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_engine_still_offers_it():
    from poseda.engine import checkpoint

    assert checkpoint.atomic_write is atomic_write
