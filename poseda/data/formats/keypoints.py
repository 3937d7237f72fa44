"""keypoints: a detector's 2D of one's own video, without labels: a target to adapt to."""

from __future__ import annotations

from dataclasses import fields

from poseda.data.detections import read_detections
from poseda.data.detections.options import DetectionOptions
from poseda.data.domains import DomainConfig, Footage
from poseda.errors import ConfigError

USES = ("path", *(field.name for field in fields(DetectionOptions)))
STANDIN = None


def load(config: DomainConfig, root: str) -> Footage:
    """The tracks of all people in a detector's file or folder."""
    if not config.path:
        raise ConfigError("keypoints needs path=<file or folder of a 2D detector>; docs/datasets.md lists the formats.")
    options = DetectionOptions(**{field.name: getattr(config, field.name) for field in fields(DetectionOptions)})
    found = read_detections(config.path, options)
    return Footage(found.clips.provenance.name, found.clips, config.path, (f"{found.recognised}", *found.remarks))
