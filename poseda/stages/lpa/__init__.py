"""LPA, local pose augmentation: see stage.py."""

from poseda.stages.lpa.stage import LPA, LPAConfig

STAGE = LPA

__all__ = ["LPA", "STAGE", "LPAConfig"]
