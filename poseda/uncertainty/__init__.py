"""Uncertainty of any lifter's poses: estimators by name, recalibration on held-out people, inflation under shift.

A file in this package that sets ESTIMATOR is an estimator of that file's name; nothing else is edited for a new one but
a job that offers its options. Importing this module imports no estimator and no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poseda.errors import choose
from poseda.plugins import list_plugins, load_plugin

if TYPE_CHECKING:
    from poseda.uncertainty.base import Estimator

MARKER = "ESTIMATOR"


def list_estimators() -> tuple[str, ...]:
    """Names of all estimators, sorted."""
    return list_plugins(__path__, MARKER)


def estimator_class(name: str) -> type[Estimator]:
    """Class of the estimator of that name; ConfigError with the choices and the nearest for an unknown one."""
    cls: type[Estimator] = load_plugin(__name__, choose(name, list_estimators(), "uncertainty"), MARKER)
    return cls
