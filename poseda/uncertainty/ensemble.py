"""How far the poses of several trainings of the same lifter scatter (deep ensembles, Lakshminarayanan et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.engine.official import open_lifter
from poseda.errors import CheckpointError, ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.disagreement import Disagreement


@dataclass(frozen=True)
class EnsembleConfig:
    """Options of an ensemble."""

    checkpoints: tuple[str, ...] = ()
    """Further trainings of the same lifter with the same options, such as other seeds; their weights are copied."""


class Ensemble(Disagreement):
    """Root mean square distance of the members to their mean; costs a pass a member. The pose stays the lifter's."""

    Config = EnsembleConfig
    name = "ensemble"
    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig, lifter: Lifter) -> None:
        super().__init__(config, lifter)
        if not config.checkpoints:
            raise ConfigError("uncertainty=ensemble needs ensemble.checkpoints=[FILE,...]: other seeds of the lifter.")
        fresh = [create_lifter(lifter.name, seed=0, **lifter.options).eval() for _ in config.checkpoints]
        self.members = nn.ModuleList(fresh)

    def fit(self, held_out: Lifting, trained_on: Lifting | None = None) -> None:
        """Read the members, then fit the line."""
        lifter = held_out.lifter
        for path, member in zip(self.config.checkpoints, self.members, strict=True):
            other, _ = open_lifter(path)
            if (other.name, other.options) != (lifter.name, lifter.options):
                raise CheckpointError(f"{path}: holds another lifter or other options than the checkpoint.")
            member.load_state_dict(other.state_dict())
        self.members.to(held_out.lifted.poses.device)
        super().fit(held_out, trained_on)

    def disagreement(self, seen: Lifting) -> Tensor:
        """(F, J) mm."""
        looks = [seen.lifted.poses]
        looks += [seen.again(lifter=member) for member in self.members if isinstance(member, Lifter)]
        poses = torch.stack(looks)
        return (poses - poses.mean(0)).square().sum(-1).mean(0).sqrt()


ESTIMATOR = Ensemble
