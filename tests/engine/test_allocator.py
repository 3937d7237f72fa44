"""Memory that is freed stays with the process, where its C library can be told and its user has not."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from poseda.engine.allocator import keep_freed_memory

FAULTS = """
import resource, torch
from poseda.engine.allocator import keep_freed_memory
kept = keep_freed_memory()
def fill():
    blocks = [torch.empty(1 << 20).fill_(1.0) for _ in range(6)]  # 4 MiB each
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
before = faults()
for _ in range(10):
    fill()
print(int(kept), faults() - before)
"""


def test_freed_memory_is_used_again():
    """Without it 240 MiB are 40 to 60 thousand pages, or none, as the heap happens to lie."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run([sys.executable, "-c", FAULTS], env=clean, capture_output=True, text=True, check=True)
    kept, pages = map(int, run.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert pages < 100


@pytest.mark.parametrize(
    "name, value", [("MALLOC_TRIM_THRESHOLD_", "1000000"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000000")]
)
def test_what_the_user_chose_stays(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("the limits were set"))
    assert not keep_freed_memory()


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(mallopt=lambda *_: 0), None])
def test_another_c_library_is_left_alone(monkeypatch, library):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)

    def load(name):
        if library is None:
            raise TypeError("a path must be given")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not keep_freed_memory()
