"""Unsupervised domain adaptation for 2D-to-3D human pose lifting.

`import poseda` is light: each name below is imported, and PyTorch with it, when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from poseda.data.archive import load_archive, save_archive
    from poseda.data.clips import LabelledClips, Sequence, UnlabelledClips
    from poseda.data.detections import read_detections
    from poseda.data.doctor import examine
    from poseda.data.domains import Domain, DomainConfig, list_domains, load_domain, load_target
    from poseda.data.prepare import open_raw_dataset, prepare_dataset
    from poseda.engine.checkpoint import load_lifter, save_lifter
    from poseda.engine.evaluate import evaluate_lifter
    from poseda.engine.supervised import TrainConfig, train_lifter
    from poseda.errors import PosedaError
    from poseda.geometry.camera import Camera
    from poseda.geometry.rigs import list_rigs, load_rig
    from poseda.lifters import create_lifter, list_lifters
    from poseda.lifters.inference import lift_clips
    from poseda.lifters.official import load_official_checkpoint
    from poseda.lifters.wrapped import wrap
    from poseda.metrics.protocols import get_protocol
    from poseda.skeleton import Skeleton, get_skeleton
    from poseda.stages import create_stage, list_stages
    from poseda.stages.ema import EMA
    from poseda.stages.gpa import GPA
    from poseda.stages.lpa import LPA
    from poseda.stages.pipeline import AdaptConfig, adapt_and_select, adapt_lifter, lift_with_stages
    from poseda.stages.tto import TTO
    from poseda.zoo import fetch_source_model, list_source_models, load_source_model

# Where each name lives; imported on first use (PEP 562).
_HOMES = {
    "poseda.data.archive": ("load_archive", "save_archive"),
    "poseda.data.clips": ("LabelledClips", "Sequence", "UnlabelledClips"),
    "poseda.data.detections": ("read_detections",),
    "poseda.data.doctor": ("examine",),
    "poseda.data.domains": ("Domain", "DomainConfig", "list_domains", "load_domain", "load_target"),
    "poseda.data.prepare": ("open_raw_dataset", "prepare_dataset"),
    "poseda.engine.checkpoint": ("load_lifter", "save_lifter"),
    "poseda.engine.evaluate": ("evaluate_lifter",),
    "poseda.engine.supervised": ("TrainConfig", "train_lifter"),
    "poseda.errors": ("PosedaError",),
    "poseda.geometry.camera": ("Camera",),
    "poseda.geometry.rigs": ("list_rigs", "load_rig"),
    "poseda.lifters": ("create_lifter", "list_lifters"),
    "poseda.lifters.inference": ("lift_clips",),
    "poseda.lifters.official": ("load_official_checkpoint",),
    "poseda.lifters.wrapped": ("wrap",),
    "poseda.metrics.protocols": ("get_protocol",),
    "poseda.skeleton": ("Skeleton", "get_skeleton"),
    "poseda.stages": ("create_stage", "list_stages"),
    "poseda.stages.ema": ("EMA",),
    "poseda.stages.gpa": ("GPA",),
    "poseda.stages.lpa": ("LPA",),
    "poseda.stages.pipeline": ("AdaptConfig", "adapt_and_select", "adapt_lifter", "lift_with_stages"),
    "poseda.stages.tto": ("TTO",),
    "poseda.zoo": ("fetch_source_model", "list_source_models", "load_source_model"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "EMA",
    "GPA",
    "LPA",
    "TTO",
    "AdaptConfig",
    "Camera",
    "Domain",
    "DomainConfig",
    "LabelledClips",
    "PosedaError",
    "Sequence",
    "Skeleton",
    "TrainConfig",
    "UnlabelledClips",
    "__version__",
    "adapt_and_select",
    "adapt_lifter",
    "create_lifter",
    "create_stage",
    "evaluate_lifter",
    "examine",
    "fetch_source_model",
    "get_protocol",
    "get_skeleton",
    "lift_clips",
    "lift_with_stages",
    "list_domains",
    "list_lifters",
    "list_rigs",
    "list_source_models",
    "list_stages",
    "load_archive",
    "load_domain",
    "load_lifter",
    "load_official_checkpoint",
    "load_rig",
    "load_source_model",
    "load_target",
    "open_raw_dataset",
    "prepare_dataset",
    "read_detections",
    "save_archive",
    "save_lifter",
    "train_lifter",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'poseda' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
