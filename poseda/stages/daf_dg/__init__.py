"""DAF-DG, weak and strong augmentors with a meta-learned lifter: see stage.py."""

from poseda.stages.daf_dg.stage import DAFDG, DAFDGConfig

STAGE = DAFDG

__all__ = ["DAFDG", "STAGE", "DAFDGConfig"]
