"""Imports inside the package run one way, from what is small and general to what a user starts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import poseda
from poseda.stages import list_stages

PACKAGE = Path(poseda.__file__).parent
# Each room may import from those above it. Rooms of one line do not know each other.
ORDER = (
    ("errors",),
    ("files",),
    ("plugins",),
    ("skeleton",),
    ("geometry",),
    ("metrics", "data"),
    ("anthropometry",),
    ("lifters",),
    ("engine",),
    ("uncertainty",),
    ("stages",),
    ("zoo",),
    ("viz",),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
STAGES = set(list_stages())
ENTRY = len(ORDER)
"""Rank of the modules that a user starts: whatever else lies at the top of the package."""


def modules():
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def name_of(path):
    parts = ("poseda", *path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source, name, is_package=False):
    """Modules of poseda that a source text imports anywhere, type-checking blocks and functions included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".")[: None if is_package and node.level == 1 else -node.level + is_package]
                base = ".".join([*package, *filter(None, [node.module])])
            # "from poseda import stages" names a room, "from poseda import __version__" does not
            found |= {f"{base}.{alias.name}" if base == "poseda" else base for alias in node.names}
    return {module for module in found if module.split(".")[0] == "poseda"}


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def rank(name):
    return RANK.get(name, ENTRY)


def breach(importer, imported):
    """Why this import is not allowed, or None."""
    mine, theirs = room(importer), room(imported)
    if theirs in ("", "__version__") or mine == theirs or mine == "":
        return None  # the top of the package names everything, and imports it on first use
    if rank(mine) > rank(theirs) or rank(mine) == rank(theirs) == ENTRY:
        return None
    return f"{importer} imports {imported}"


def breaches(sources):
    """(module name, source text, is a package) -> sentences."""
    pairs = [(name, other) for name, text, package in sources for other in sorted(imports_of(text, name, package))]
    return [sentence for name, other in pairs if (sentence := breach(name, other))]


def real_sources():
    return [(name_of(p), (PACKAGE / p).read_text(encoding="utf-8"), p.name == "__init__.py") for p in modules()]


def test_imports_run_one_way():
    assert breaches(real_sources()) == []


def stage_of(module):
    """Which stage a module belongs to, "" for what all stages share: what has no STAGE in it is no stage."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "stages" and parts[2] in STAGES else ""


def stage_breaches(sources):
    found = []
    for name, text, package in sources:
        for other in imports_of(text, name, package):
            if stage_of(other) and stage_of(name) != stage_of(other) and room(name) == "stages":
                found.append(f"{name} imports {other}")
            if stage_of(name) and other == "poseda.stages.pipeline":
                found.append(f"{name} imports {other}")
    return found


def test_stages_do_not_import_each_other_nor_the_pipeline_them():
    assert stage_breaches(real_sources()) == []


def test_every_room_of_the_package_has_its_place():
    rooms = {path.parts[0] for path in modules() if len(path.parts) > 1}
    assert rooms <= set(RANK), "a new folder needs a place in ORDER"
    assert {
        "errors",
        "plugins",
        "skeleton",
        "geometry",
        "metrics",
        "data",
        "lifters",
        "engine",
        "stages",
    } <= {path.parts[0].removesuffix(".py") for path in modules()}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poseda.skeleton", "from poseda.geometry.camera import Camera"),
        ("poseda.geometry.rigs", "def f():\n    from poseda.data.clips import Clips"),
        ("poseda.data.clips", "import poseda.lifters.base"),
        ("poseda.data.clips", "from poseda.metrics.pose import mpjpe"),
        (
            "poseda.metrics.pose",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from poseda.data import clips",
        ),
        ("poseda.lifters.base", "from poseda.engine.loop import run_loop"),
        ("poseda.engine.loop", "from poseda import stages"),
        ("poseda.engine.loop", "from ..stages.gpa import GPA"),
        ("poseda.stages.base", "from poseda.cli.schema import Config"),
        ("poseda.cli.app", "from poseda.adapt import main"),
    ],
)
def test_the_rule_would_notice_a_breach(name, text):
    assert len(breaches([(name, text, False)])) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poseda.engine.loop", "from poseda.lifters.base import Lifter"),
        ("poseda.lifters.inference", "from poseda.data.clips import LabelledClips"),
        ("poseda.engine.records", "from poseda import __version__"),
        ("poseda.stages.lpa.stage", "from .generator import PoseGenerator"),
        ("poseda.adapt", "from poseda.cli.app import run\nimport numpy"),
    ],
)
def test_the_rule_allows_what_is_meant(name, text):
    assert breaches([(name, text, False)]) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poseda.stages.gpa", "from poseda.stages.lpa.generator import PoseGenerator"),
        ("poseda.stages.lpa.stage", "from poseda.stages.pipeline import AdaptTask"),
        ("poseda.stages.lpa.stage", "from ..gpa import GPA"),
        ("poseda.stages.pipeline", "from poseda.stages.tto import TTO"),
    ],
)
def test_the_rule_for_stages_would_notice_a_breach(name, text):
    assert len(stage_breaches([(name, text, False)])) == 1


def test_no_module_of_the_package_is_imported_relatively():
    """One way to write an import keeps the rule easy to read."""
    for path in modules():
        for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}, line {node.lineno}"
