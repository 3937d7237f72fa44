"""Stages by name: a file (or folder) in this package that sets STAGE is a stage of that name.

Nothing else is edited for a new one. Importing this module imports no stage and no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poseda.errors import choose
from poseda.plugins import list_plugins, load_plugin

if TYPE_CHECKING:
    from poseda.stages.base import Stage

MARKER = "STAGE"


def list_stages() -> tuple[str, ...]:
    """Names of all stages, sorted."""
    return list_plugins(__path__, MARKER)


def stage_class(name: str) -> type[Stage]:
    """Class of the stage of that name; ConfigError with the choices and the nearest for an unknown one."""
    cls: type[Stage] = load_plugin(__name__, choose(name, list_stages(), "stage"), MARKER)
    return cls


def create_stage(name: str, **options: object) -> Stage:
    """A stage by name, with options of its Config; ConfigError for an unknown name or option."""
    cls = stage_class(name)
    for option in options:
        choose(option, cls.Config.__dataclass_fields__, f"option of {name}")
    return cls(cls.Config(**options))  # type: ignore[call-arg]
