"""Finding lifters, stages and other parts by the files that are there: one file is one part, nothing else is edited.

Looking reads the files as text and imports none of them, so that help and error messages stay fast.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from importlib.abc import InspectLoader
from typing import Any


def list_plugins(path: Iterable[str], marker: str) -> tuple[str, ...]:
    """Names of the modules and packages in the folders `path` that assign `marker` at top level, sorted."""
    pattern = re.compile(rf"^{marker}\b[^=\n]*=", re.MULTILINE)
    return tuple(sorted(info.name for info in pkgutil.iter_modules(path) if pattern.search(_source(info))))


def load_plugin(package: str, name: str, marker: str) -> Any:
    """What the module `name` of `package` assigned to `marker`."""
    return getattr(importlib.import_module(f"{package}.{name}"), marker)


def _source(info: pkgutil.ModuleInfo) -> str:
    spec = info.module_finder.find_spec(info.name, None)
    loader = spec.loader if spec else None
    return (loader.get_source(info.name) or "") if isinstance(loader, InspectLoader) else ""
