"""Parts are found by what their files say, without running them."""

from __future__ import annotations

import sys

import pytest

from poseda.plugins import list_plugins, load_plugin

BOMB = "raise RuntimeError('a listing must not run this')\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `parts_here` with files that set PART in several ways, or only seem to."""
    root = tmp_path / "parts_here"
    root.mkdir()
    files = {
        "__init__.py": "",
        "plain.py": "PART = 1\n",
        "typed.py": "PART: type[int] = int\n",
        "tight.py": "PART=3\n",
        "folder/__init__.py": "from .inner import value\n\nPART = value\n",
        "folder/inner.py": "value = 'inside'\n",
        "longer.py": "PARTS = 4\n",
        "prefix.py": "MY_PART = 5\n",
        "inside.py": "def make():\n    PART = 6\n    return PART\n",
        "annotated.py": "PART: int\n",
        "comment.py": "# PART = 7\n",
        "broken.py": "PART = 8\n" + BOMB,
        "empty.py": "",
        "notes.txt": "PART = 9\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == "parts_here"]:
        del sys.modules[name]


def test_files_and_folders_that_set_the_marker_are_parts(package):
    assert list_plugins([str(package)], "PART") == ("broken", "folder", "plain", "tight", "typed")


def test_listing_runs_no_file(package):
    list_plugins([str(package)], "PART")
    assert not [name for name in sys.modules if name.startswith("parts_here.")]


def test_several_folders_are_one_list_and_a_missing_one_is_empty(package, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    (other / "another.py").write_text("PART = 10\n")
    assert "another" in list_plugins([str(package), str(other)], "PART")
    assert list_plugins([str(tmp_path / "nowhere")], "PART") == ()
    assert list_plugins([], "PART") == ()


def test_a_part_is_what_its_file_sets(package):
    assert load_plugin("parts_here", "plain", "PART") == 1
    assert load_plugin("parts_here", "typed", "PART") is int
    assert load_plugin("parts_here", "folder", "PART") == "inside"


def test_another_marker_finds_other_parts(package):
    assert list_plugins([str(package)], "MY_PART") == ("prefix",)
