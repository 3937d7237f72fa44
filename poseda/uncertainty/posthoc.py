"""A head that is trained afterwards, on a frozen lifter: a small network on [2D, pose]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from poseda.engine.descent import descend
from poseda.errors import ConfigError
from poseda.lifters.base import MM_PER_METRE, Lifter
from poseda.lifters.dropout import Dropout
from poseda.lifters.inference import screen_keypoints
from poseda.lifters.seeding import seeded
from poseda.metrics.calibration.densities import expected_norm, get_density
from poseda.uncertainty.base import LEAST_SIGMA, Estimator, Lifting

LARGEST_LOG = 8.0
"""Bound of log widths (metres) and log slants of the head: nothing that it says overflows, whatever it is shown."""
CHUNK = 16384
"""Frames at once at test time."""


@dataclass(frozen=True)
class PosthocConfig:
    """Options of a head on a frozen lifter."""

    loss: Literal["uao", "laplace", "gaussian"] = "laplace"
    """uao: one expected error a joint, ||e|| / sigma + log sigma. laplace, gaussian: a full 3x3 covariance a joint,
    by the likelihood of exp(-||L^-1 e||) or of the normal law."""
    hidden: int = 256
    """Width of both hidden layers."""
    steps: int = 1500
    """Steps of Adam."""
    batch_size: int = 1024
    """Frames in a step."""
    lr: float = 1e-3
    """Learning rate at the start; it falls to 0 along a cosine."""
    dropout: float = 0.1
    """Dropout after each hidden layer."""
    seed: int = 0
    """Seed of weights, batches and dropout."""

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.steps < 1 or self.batch_size < 1 or not self.lr > 0 or not 0 <= self.dropout < 1:
            raise ConfigError("posthoc: hidden, steps, batch_size and lr must be positive, dropout in [0, 1).")


class Posthoc(Estimator):
    """Two hidden layers from the frame's 2D and pose to each joint's log sigma, or factor of its covariance."""

    Config = PosthocConfig
    name = "posthoc"
    frame_by_frame = True
    config: PosthocConfig
    centre: Tensor
    spread: Tensor

    def __init__(self, config: PosthocConfig, lifter: Lifter) -> None:
        super().__init__(config, lifter)
        joints = lifter.skeleton.num_joints
        width, outputs = 5 * joints, 1 if config.loss == "uao" else 6
        with seeded(config.seed):
            self.net = nn.Sequential(
                nn.Linear(width, config.hidden), nn.GELU(), Dropout(config.dropout),
                nn.Linear(config.hidden, config.hidden), nn.GELU(), Dropout(config.dropout),
                nn.Linear(config.hidden, outputs * (joints - 1)),
            )  # fmt: skip
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.requires_grad_(False)

    @property
    def density(self) -> str:
        """A covariance belongs to the law that it was fitted for; an expected error does not."""
        return "" if self.config.loss == "uao" else self.config.loss

    @property
    def learns_from_training_clips(self) -> bool:
        """It needs more frames than are ever held out."""
        return True

    def fit(self, held_out: Lifting, trained_on: Lifting | None = None) -> None:
        """Train on the clips that the lifter was trained on, or on the held-out ones where these are not given."""
        seen = trained_on or held_out
        inputs = head_input(seen)
        error = seen.error() / MM_PER_METRE
        self.to(inputs.device)
        self.centre, self.spread = inputs.mean(0), inputs.std(0).clamp_min(1e-3)
        self._start(error)
        self.train()
        with seeded(self.config.seed):  # dropout draws from the global generator
            self._train(inputs, error)
        self.eval()

    def _start(self, error: Tensor) -> None:
        """Let the last layer begin at each joint's mean error."""
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        sign = 1.0 if self.config.loss == "uao" else -1.0
        first = torch.zeros_like(last.bias).view(error.shape[1], -1)
        first[:, :3] = sign * error.norm(dim=-1).mean(0).clamp_min(1e-4).log()[:, None]
        last.weight.mul_(0.1)
        last.bias.copy_(first.flatten())

    def _train(self, inputs: Tensor, error: Tensor) -> None:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed)
        rows = torch.randint(len(inputs), (config.steps, config.batch_size), generator=generator).to(inputs.device)

        def loss(index: int) -> Tensor:
            chosen = rows[index]
            return head_loss(self._head(inputs[chosen]), error[chosen], config.loss)

        descend(self, loss, steps=config.steps, lr=config.lr)

    def _head(self, inputs: Tensor) -> Tensor:
        """(N, D) -> (N, J - 1, 1 or 6), bounded."""
        raw: Tensor = self.net((inputs - self.centre) / self.spread)
        return LARGEST_LOG * torch.tanh(raw.view(len(raw), self.skeleton.num_joints - 1, -1) / LARGEST_LOG)

    @torch.no_grad()
    def forward(self, seen: Lifting) -> tuple[Tensor, Tensor | None]:
        """(F, J - 1) mm, and (F, J - 1, 3, 3) mm² but for loss=uao."""
        inputs = head_input(seen).to(self.centre)
        parts = [self._say(part) for part in torch.split(inputs, CHUNK)]
        sigma = torch.cat([part[0] for part in parts]).to(seen.lifted.poses)
        covariances = [part[1] for part in parts if part[1] is not None]
        return sigma, torch.cat(covariances).to(sigma) if covariances else None

    def _say(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `forward`, of head inputs (N, D)."""
        values = self.eval()._head(inputs)
        if self.config.loss == "uao":
            return (MM_PER_METRE * values[..., 0].exp()).clamp_min(LEAST_SIGMA), None
        inverse = torch.linalg.inv(precision_factor(values.double()))
        covariance = MM_PER_METRE**2 * inverse @ inverse.mT
        covariance = covariance + LEAST_SIGMA**2 * torch.eye(3, dtype=covariance.dtype, device=covariance.device)
        return expected_norm(covariance, get_density(self.config.loss)).to(values), covariance.to(values)


def head_input(seen: Lifting) -> Tensor:
    """What a head sees of each frame: its 2D as the lifter takes it, and its pose in metres; (F, 5 J)."""
    keypoints = screen_keypoints(seen.clips)
    return torch.cat([keypoints.flatten(1), seen.lifted.poses.flatten(1) / MM_PER_METRE], -1)


def precision_factor(values: Tensor) -> Tensor:
    """Lower triangular W (..., 3, 3), Sigma^-1 = W^T W, of head values (..., 6): log diagonal, then below it.

    What stands below is in units of the diagonal to its left, so that a slant is one at every size.
    """
    diagonal, below = values[..., :3].exp(), values[..., 3:]
    factor = torch.diag_embed(diagonal)
    rows, columns = torch.tril_indices(3, 3, offset=-1, device=values.device)
    off = torch.zeros_like(factor)
    off[..., rows, columns] = below * diagonal[..., columns]
    return factor + off


def head_loss(values: Tensor, error: Tensor, loss: str) -> Tensor:
    """Mean over frames and joints of a head's loss: values (N, J, 1 or 6), errors (N, J, 3) m -> nats (scalar).

    uao: ||e|| exp(-s) + s, least where exp(s) = E||e||. laplace and gaussian: negative log likelihood (densities.py)
    but for its constant, with d = ||W e||.
    """
    if loss == "uao":
        log_sigma, norm = values[..., 0], error.square().sum(-1).sqrt()
        return (norm * torch.exp(-log_sigma) + log_sigma).mean()
    log_volume = -values[..., :3].sum(-1)
    white = (precision_factor(values) @ error.unsqueeze(-1)).squeeze(-1)
    if loss == "laplace":
        return (2 * white.square().sum(-1).add(1e-12).sqrt() + log_volume).mean()
    return (0.5 * white.square().sum(-1) + log_volume).mean()


ESTIMATOR = Posthoc
