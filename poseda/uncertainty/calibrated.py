"""A lifter's uncertainty as it is used: estimator, recalibration, inflation, and the joint that has none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips
from poseda.engine.evaluate import scored_runs
from poseda.errors import ConfigError
from poseda.lifters.inference import LiftedClips
from poseda.metrics.calibration import Calibration, Density, Stated, evaluate_calibration, get_density
from poseda.uncertainty.base import Estimator, Lifting, moving_joints
from poseda.uncertainty.inflation import inflation, typical_residual
from poseda.uncertainty.recalibration import Method, Recalibration, fit_recalibration


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What was found on held-out people of the source, ready to be used on any clips."""

    estimator: Estimator
    density: Density
    flip: bool
    """Whether it belongs to poses that are averaged with the mirrored pass."""
    recalibration: Recalibration | None = None
    """None: as the estimator says it."""
    reference: Tensor | None = None
    """(J,) mm: median residuals on the held-out people, for inflation."""

    @torch.no_grad()
    def of(self, seen: Lifting, *, inflate: bool = False, factor: Tensor | None = None) -> Predicted:
        """What is stated of each joint but the root. `inflate` widens it by the clips' own residuals, or by a given
        `factor` (J,)."""
        sigma, covariance = self.estimator(seen)
        stated = Stated(sigma, self.density, covariance)
        stated = self.recalibration.apply(stated) if self.recalibration else stated
        if inflate:
            assert self.reference is not None
            factor = inflation(seen, self.reference) if factor is None else factor
            stated = stated.scaled(factor[moving_joints(self.estimator.skeleton, factor.device)])
        return Predicted(seen, stated, self.recalibration)


@dataclass(frozen=True, eq=False)
class Predicted:
    """Stated errors of lifted clips, without the root."""

    seen: Lifting
    stated: Stated
    """Of (F, J - 1) joints."""
    recalibration: Recalibration | None

    def radius90(self) -> Tensor:
        """(F, J - 1) mm: the ball that holds the joint with 90 %."""
        return (self.recalibration or as_stated(self.stated)).radius90(self.stated)

    def lifted(self) -> LiftedClips:
        """The clips' poses with sigma, covariance and 90 % radii of all joints.

        The root is 0 by definition: radius 0, and sigma 1 mm as in LifterOutput, so that weights stay finite.
        """
        root = self.seen.lifter.skeleton.root
        sigma = _insert(self.stated.sigma, root, 1.0)
        covariance = self.stated.covariance
        if covariance is not None:
            covariance = _insert(covariance, root, 0.0)
            covariance[:, root] = torch.eye(3).to(covariance)
        radius = _insert(self.radius90(), root, 0.0)
        return replace(self.seen.lifted, sigma=sigma, covariance=covariance, radius90=radius)

    def score(self) -> Calibration:
        """Calibration against the labels of the clips, on the frames that are scored."""
        clips = self.seen.clips
        assert isinstance(clips, LabelledClips)
        rows, _, _ = scored_runs(clips)
        error = self.seen.error()
        level = (self.recalibration or as_stated(self.stated)).level(self.stated.distance(error), self.stated.density)
        covariance = self.stated.covariance
        kept = Stated(self.stated.sigma[rows], self.stated.density, None if covariance is None else covariance[rows])
        return evaluate_calibration(error[rows], kept, level[rows], self.radius90()[rows])


def as_stated(stated: Stated) -> Recalibration:
    """The recalibration that changes nothing."""
    return Recalibration("temperature", scale=torch.ones_like(stated.sigma[0]))


def fit_uncertainty(
    estimator: Estimator,
    held_out: Lifting,
    trained_on: Lifting | None = None,
    *,
    recalibrate: Method = "conformal",
    density: str = "laplace",
) -> Uncertainty:
    """Fit an estimator and its recalibration on clips of people that the lifter never saw.

    `trained_on` are clips that the lifter was trained on, for estimators that learn from more frames. `density` is the
    law of the errors where the estimator has none of its own. Raises DataError for too few held-out frames, ConfigError
    where such an estimator gets no clips of its own: fitted and recalibrated on the same frames, it would promise more
    than it holds.
    """
    if estimator.learns_from_training_clips and trained_on is None:
        raise ConfigError(
            f"{type(estimator).__name__} learns from clips of its own, beside those that it is recalibrated on: give "
            "trained_on= the lifter's training clips, or a part of the held-out ones."
        )
    estimator.fit(held_out, trained_on)
    law = get_density(estimator.density or density)
    sigma, covariance = estimator(held_out)
    recalibration = fit_recalibration(recalibrate, held_out.error(), Stated(sigma, law, covariance))
    return Uncertainty(estimator, law, held_out.flip, recalibration, typical_residual(held_out))


def _insert(values: Tensor, root: int, value: float) -> Tensor:
    """(F, J - 1, ...) -> (F, J, ...) with a row of one value for the root."""
    row = torch.full_like(values[:, :1], value)
    return torch.cat([values[:, :root], row, values[:, root:]], 1)
