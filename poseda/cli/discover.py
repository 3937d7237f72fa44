"""What there is to choose from, found by looking at files and never by importing them: help stays fast."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poseda.data import formats, raw
from poseda.lifters import lifter_class, list_lifters
from poseda.stages import list_stages, stage_class

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Kind:
    """Parts that are one file each: where they lie, how they are listed and loaded."""

    group: str
    """Folder of their presets in configs/."""
    package: str
    """Package of their files."""
    marker: str
    """The name that such a file assigns."""
    names: Callable[[], tuple[str, ...]]
    """Lists them without importing them."""
    load: Callable[[str], type[Any]]
    """Imports one, by name; its class has a dataclass Config."""

    def files(self) -> dict[str, Path]:
        """Name -> file, which is __init__.py for a part that is a folder."""
        specs = {name: importlib.util.find_spec(f"{self.package}.{name}") for name in self.names()}
        return {name: Path(spec.origin) for name, spec in specs.items() if spec and spec.origin}


LIFTERS = Kind("lifter", "poseda.lifters", "LIFTER", list_lifters, lifter_class)
STAGES = Kind("stage", "poseda.stages", "STAGE", list_stages, stage_class)


def configs_folder() -> Path:
    """The `configs/` folder: inside the package in an installed wheel, beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def domain_formats() -> tuple[str, ...]:
    """Names of the files in data/formats; one that starts with a digit has a leading _."""
    return tuple(sorted(module.name.lstrip("_") for module in pkgutil.iter_modules(formats.__path__)))


def raw_datasets() -> dict[str, Path]:
    """Name -> file of each reader in data/raw, which is __init__.py for one that is a folder."""
    names = [info.name for info in pkgutil.iter_modules(raw.__path__)]
    specs = {name: importlib.util.find_spec(f"{raw.__name__}.{name}") for name in names}
    found = {name.lstrip("_"): Path(spec.origin) for name, spec in specs.items() if spec and spec.origin}
    return dict(sorted(found.items()))


def preset_files(group: str, folders: tuple[Path, ...]) -> dict[str, Path]:
    """Name -> YAML file of each preset of `group`; a later folder wins over an earlier one."""
    found = {path.stem: path for folder in folders for path in sorted((folder / group).glob("*.yaml"))}
    return dict(sorted(found.items()))


def headline(path: Path) -> str:
    """The comment that a YAML file begins with, or '' where it begins with none."""
    lines = path.read_text("utf-8").splitlines()
    return lines[0].lstrip("# ").strip() if lines and lines[0].startswith("#") else ""
