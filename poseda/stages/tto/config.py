"""Options of test-time optimisation, and which of them fit together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from poseda.errors import ConfigError, check_choices

WEIGHTS = ("weight_reprojection", "weight_anchor", "weight_bones", "weight_symmetry", "weight_limits", "weight_jerk")


@dataclass(frozen=True)
class TTOConfig:
    """Options of test-time optimisation."""

    latent: Literal["output", "input", "feature", "tail", "lowrank"] = "output"
    """What moves: output (the pose itself; no network in the loop), input (the 2D that the lifter sees, as published),
    feature (what its encoder gives, or what tto.module gives), tail (what tto.module is given), lowrank (the feature,
    along its main directions on the source)."""
    module: str = ""
    """A name from lifter.named_modules(), for feature and tail; what comes before it is not run again."""
    directions: int = 16
    """Directions of lowrank, each in units of its standard deviation on the source."""
    flip: bool = False
    """Whether the mirrored input is optimised beside the plain one, and the mean taken (as published)."""
    solver: Literal["auto", "adam", "gn"] = "auto"
    """adam (as published); gn, Gauss-Newton on the output latent, which never takes a step that raises the objective;
    auto, gn where it can be."""
    steps: int | None = None
    """Steps of the solver; null: 4 of gn, 20 of adam (UAO: 4)."""
    lr: float = 1e-2
    """Step size of adam: screen units for input (UAO: 1e-3), the feature's own for feature and tail, standard
    deviations for lowrank, metres for output."""
    reprojection: Literal["l2", "square", "huber", "geman_mcclure"] = "huber"
    """Penalty of a joint's distance to its keypoint: l2 (screen units, as published), and in units of noise_px square,
    huber and geman_mcclure."""
    robust: float = 3.0
    """Where huber and geman_mcclure start to doubt a keypoint, in units of noise_px."""
    noise_px: float = 0.0
    """Standard deviation of the 2D along an axis, pixels; 0: estimated from the 2D's third differences in time."""
    anchor: Literal["published", "laplace", "mahalanobis"] = "mahalanobis"
    """How a joint is held to its first prediction: published (distance over sigma), laplace (of a density whose mean
    distance is sigma), mahalanobis (Gaussian, with the lifter's covariance where it has one, else isotropic)."""
    sigma_mm: float = 0.0
    """Expected error of every joint, mm; 0: the lifter's own, or each joint's mean error on the source."""
    weight_reprojection: float = 1.0
    """Weight of the reprojection (UAO: 1)."""
    weight_anchor: float = 1.0
    """Weight of the anchor (UAO: 0.005)."""
    weight_bones: float = 2.0
    """Weight of each bone's distance to its mean length in the clip, in units of 10 mm."""
    lengths: Literal["clip", "person"] = "clip"
    """What bones are held to: clip (their mean length in the clip, as it is then), person (as long as all 2D of the
    person measures them beside the source's people, from its clips or from the lifter's card)."""
    size: Literal["floor", "lifted"] = "floor"
    """How large lengths=person takes a person to be: floor (as the floor tells it, where cameras have extrinsics),
    lifted (as the lifted poses are on average)."""
    weight_symmetry: float = 2.0
    """Weight of the difference of left and right bones, in units of 10 mm."""
    weight_limits: float = 0.0
    """Weight of knees and elbows beyond their limits, in units of 0.1 of a sine or cosine."""
    weight_jerk: float = 0.3
    """Weight of the third difference of joints in time, in units of 10 mm."""
    trust: float = 0.0
    """No joint moves farther than this many sigma; 0: no bound."""
    discrepancy: bool = False
    """Whether a frame stops where its reprojection has come down to noise_px."""
    root: Literal["least_squares", "clip", "size_prior", "ground", "oracle"] = "clip"
    """Where the root comes from: least_squares (from the 2D), clip (smooth, one body size a sequence), size_prior (as
    far as a body of the source's size, or of height_mm, stands), ground (feet on the floor of placed cameras), or
    oracle (the truth; flagged in every table)."""
    height_mm: float = 0.0
    """Height of the people, for root=size_prior; 0: bones as long as the source's."""
    resize: bool = False
    """Whether poses first take the size that root=size_prior or ground says."""
    path_frames: float = 5.0
    """Width of the Gaussian that smooths the root's depth for root=clip, frames."""
    camera: Literal["full", "pinhole", "weak"] = "full"
    """full (with the lens), pinhole (lens ignored), weak (no intrinsics: scale and place in closed form, no root)."""
    chunk: int = 8192
    """Frames that are optimised at once; sequences stay whole where a clip is looked at."""

    def __post_init__(self) -> None:
        check_choices(self, "tto")
        if self.steps is not None and self.steps < 0:
            raise ConfigError(f"tto.steps={self.steps} must not be negative.")
        for name in ("noise_px", "sigma_mm", "trust", "height_mm", *WEIGHTS):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"tto.{name}={getattr(self, name)} must not be negative.")
        for name in ("lr", "robust", "path_frames"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"tto.{name}={getattr(self, name)} must be above 0.")
        for name in ("chunk", "directions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tto.{name}={getattr(self, name)} must be 1 or more.")
        self._check_together()

    def _check_together(self) -> None:
        if self.module and self.latent not in ("feature", "tail"):
            raise ConfigError(f"tto.module={self.module} is for tto.latent=feature or tail, not {self.latent}.")
        if self.latent == "tail" and not self.module:
            raise ConfigError("tto.latent=tail needs tto.module=NAME, a name from lifter.named_modules().")
        if self.flip and self.latent == "output":
            raise ConfigError("tto.flip=true mirrors a network's input; tto.latent=output runs no network.")
        if self.solver == "gn" and self.latent != "output":
            raise ConfigError(f"tto.solver=gn moves the pose itself: take tto.latent=output, not {self.latent}.")
        if self.solver == "gn" and self.anchor != "mahalanobis" and self.weight_anchor > 0:
            raise ConfigError("tto.solver=gn needs a smooth anchor: take tto.anchor=mahalanobis.")
        if self.camera == "weak" and self.root not in ("least_squares", "clip"):
            raise ConfigError(f"tto.camera=weak has no root: leave out tto.root={self.root}.")
        if self.size != "floor" and self.lengths != "person":
            raise ConfigError(f"tto.size={self.size} is for tto.lengths=person, not {self.lengths}.")
        if self.lengths == "person" and not self.weight_bones > 0:
            raise ConfigError("tto.lengths=person holds bones to lengths, and tto.weight_bones=0 does not.")
        if self.resize and self.root not in ("size_prior", "ground"):
            raise ConfigError(f"tto.resize=true needs tto.root=size_prior or ground, not {self.root}.")

    @property
    def gauss_newton(self) -> bool:
        """Whether the solver is Gauss-Newton."""
        possible = self.latent == "output" and (self.anchor == "mahalanobis" or self.weight_anchor == 0)
        return self.solver == "gn" or (self.solver == "auto" and possible)

    @property
    def count(self) -> int:
        """Steps of the solver."""
        return self.steps if self.steps is not None else 4 if self.gauss_newton else 20

    @property
    def whole_sequences(self) -> bool:
        """Whether frames of a sequence look at each other."""
        return self.weight_bones > 0 or self.weight_jerk > 0 or self.root in ("clip", "ground")
