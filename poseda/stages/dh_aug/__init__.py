"""DH-AUG, poses generated from noise within anatomical joint limits: see stage.py."""

from poseda.stages.dh_aug.stage import DHAug, DHAugConfig

STAGE = DHAug

__all__ = ["STAGE", "DHAug", "DHAugConfig"]
