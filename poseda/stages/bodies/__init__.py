"""Bodies of the target's build: see stage.py."""

from poseda.stages.bodies.stage import Bodies, BodiesConfig

STAGE = Bodies

__all__ = ["STAGE", "Bodies", "BodiesConfig"]
