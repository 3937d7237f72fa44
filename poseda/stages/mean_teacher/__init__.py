"""The mean teacher: see stage.py."""

from poseda.stages.mean_teacher.stage import MeanTeacher, MeanTeacherConfig

STAGE = MeanTeacher

__all__ = ["STAGE", "MeanTeacher", "MeanTeacherConfig"]
