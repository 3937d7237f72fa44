"""Atomic writing: a file is seen whole or not at all."""

from __future__ import annotations

import errno
import os

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


def test_an_error_of_the_system_names_the_file_and_the_reason(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/x cannot be written: (Not a directory|File exists)\.$"):
        atomic_write(tmp_path / "file" / "x", b"")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"^{tmp_path / 'x'} cannot be written: No space left on device\.$"):
        atomic_write(tmp_path / "x", b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_engine_still_offers_it():
    from poseda.engine import checkpoint

    assert checkpoint.atomic_write is atomic_write
