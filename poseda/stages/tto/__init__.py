"""TTO, test-time optimisation: see stage.py."""

from poseda.stages.tto.config import TTOConfig
from poseda.stages.tto.objectives import Objective
from poseda.stages.tto.observation import Observation, estimate_noise
from poseda.stages.tto.roots import Roots
from poseda.stages.tto.stage import TTO

STAGE = TTO

__all__ = ["STAGE", "TTO", "Objective", "Observation", "Roots", "TTOConfig", "estimate_noise"]
