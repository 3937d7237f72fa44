"""What travels with the package, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import poseda

ROOT = Path(__file__).resolve().parents[2]


def test_import_poseda_is_light() -> None:
    code = "import poseda, sys; assert not {'torch', 'numpy', 'hydra'} & set(sys.modules)"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert time.perf_counter() - start < 1  # most of it is Python's own start


@pytest.mark.parametrize("name", sorted(set(poseda.__all__)))
def test_every_exported_name_resolves(name: str) -> None:
    assert getattr(poseda, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'adpat_lifter'"):
        _ = poseda.adpat_lifter


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted = {re.split(r"[<>=\[]", line)[0] for line in [*project["dependencies"], *extras]} - {"poseda"}
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert wanted <= pinned


def test_the_readme_begins_with_its_two_commands_and_ci_runs_the_second() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line for line in lines[:30] if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("-m poseda.adapt source=h36m target=3dhp")
    assert commands[1].endswith("-m pytest -n 2")
    assert all("-c constraints.txt -e" in command for command in commands)
    assert "bin/python -m pytest" in (ROOT / ".ci" / "run").read_text()
