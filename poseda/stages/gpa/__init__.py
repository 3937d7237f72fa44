"""GPA, global position alignment: see stage.py."""

from poseda.stages.gpa.placing import aligned_root
from poseda.stages.gpa.stage import GPA, GPAConfig

STAGE = GPA

__all__ = ["GPA", "STAGE", "GPAConfig", "aligned_root"]
