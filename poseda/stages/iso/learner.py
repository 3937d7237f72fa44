"""One step of inference-stage optimisation for many copies of a lifter at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.stages.iso.copies import Copies
from poseda.stages.iso.cycle import CycleLosses, Seen, cycle_losses, draw_views
from poseda.stages.iso.pieces import context


@dataclass(frozen=True)
class Recipe:
    """What is learned from, and how much of each."""

    steps: int
    views: int
    yaw: float
    tilt: float
    weight_3d: float
    weight_2d: float
    weight_adversarial: float


class Learner:
    """Moves copies of weights by the self-supervised losses of what each copy sees."""

    def __init__(self, lifter: Lifter, recipe: Recipe, critic: nn.Module | None) -> None:
        if not lifter.sees_screen or lifter.reads_confidence:
            raise ConfigError("iso reprojects onto the screen: it takes lifters of view=screen without confidence.")
        self.lifter, self.recipe = lifter, recipe
        self.critic = critic if recipe.weight_adversarial > 0 else None
        self.before, self.after = context(lifter)

    def learn(self, copies: Copies, wide: Tensor, seen: Seen, real: Tensor, generator: torch.Generator) -> None:
        """`steps` steps of the first C copies: wide (C, G, W, J, 2), `seen` of C G pieces, real (C, G) bool.

        The views of a step are the same for all copies, so that none feels which others are there.
        """
        for _ in range(self.recipe.steps):
            views = draw_views(self.recipe.views, self.recipe.yaw, self.recipe.tilt, generator, wide)
            weights = copies.taken(len(wide))
            with torch.enable_grad():
                loss = self.loss(copies, weights, wide, seen, views)  # (C G,)
                share = real / real.sum(1, keepdim=True).clamp_min(1)
                total = (loss.view_as(share) * share).sum()
            copies.step(weights, total)

    def loss(
        self,
        copies: Copies,
        weights: dict[str, Tensor],
        wide: Tensor,
        seen: Seen,
        views: Tensor,
        root: Tensor | None = None,
    ) -> Tensor:
        """Weighted loss (C G,) of the pieces; `root` (C G, L, 3) mm as `cycle_losses` takes it."""
        count, length = len(wide), seen.pixels.shape[1]
        pose = copies.lift(weights, wide, length).flatten(0, 1)

        def lift(turned: Tensor) -> Tensor:
            padded = self.padded(turned)
            flat = padded.view(count, -1, *padded.shape[2:])  # (C, G K, W, J, 2)
            return copies.lift(weights, flat, length).view(*turned.shape[:-1], 3)

        losses = cycle_losses(pose, lift, seen, views, self.critic, self.lifter.skeleton.root, root)
        return self._weighted(losses)

    def padded(self, turned: Tensor) -> Tensor:
        """Turned pieces (N, K, L, J, 2), edge frames repeated where the lifter looks beyond -> (N, K, W, J, 2)."""
        length = turned.shape[2]
        place = torch.arange(-self.before, length + self.after, device=turned.device).clamp(0, length - 1)
        return turned.index_select(2, place)

    def _weighted(self, losses: CycleLosses) -> Tensor:
        recipe = self.recipe
        total = recipe.weight_3d * losses.three_d + recipe.weight_2d * losses.two_d
        return total + recipe.weight_adversarial * losses.plausible
