"""ISO, inference-stage optimisation: see stage.py."""

from poseda.stages.iso.stage import ISO, ISOConfig

STAGE = ISO

__all__ = ["ISO", "STAGE", "ISOConfig"]
