"""The adversarial game: losses, gradient penalty, replay pool, and the pair of a discriminator with its optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from poseda.engine.descent import adam

Game = Literal["lsgan", "wgan_gp"]


def discriminator_loss(real: Tensor, fake: Tensor, game: str) -> Tensor:
    """Discriminator's loss for scores of real and fake samples -> scalar. LSGAN (Mao 2017), WGAN (Gulrajani 2017)."""
    if game == "lsgan":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor, game: str) -> Tensor:
    """Loss of the generator for scores of its samples -> scalar."""
    return (fake - 1).square().mean() if game == "lsgan" else -fake.mean()


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """E (||grad critic(x)|| - 1)² on random mixtures of real and fake samples (Gulrajani et al. 2017) -> scalar.

    Of a critic with several scores, the gradient is that of their mean, which is what both players see.
    """
    share = torch.rand(len(real), generator=generator, device=generator.device, dtype=real.dtype).to(real.device)
    share = share.view(-1, *[1] * (real.ndim - 1))
    mixed = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    score = critic(mixed).flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(score, mixed, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norms - 1).square().mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients pass through the module inside, and none reaches its weights."""
    wanted = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, value in wanted:
            parameter.requires_grad_(value)


class ReplayPool:
    """Ring buffer of generated samples on the device, so that a discriminator does not forget earlier fakes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.samples: Tensor | None = None
        self.next = 0
        self.filled = 0

    def exchange(self, fresh: Tensor, generator: torch.Generator) -> Tensor:
        """Store `fresh` (B, ...) and give back (B, ...): half of it, and as many samples drawn from the pool."""
        if self.size == 0:
            return fresh
        if self.samples is None:
            self.samples = fresh.new_zeros(self.size, *fresh.shape[1:])
        self.samples = self.samples.to(fresh.device)  # a resumed run reads them on the CPU
        count = min(len(fresh), self.size)
        places = (torch.arange(count, device=fresh.device) + self.next) % self.size
        self.samples.index_copy_(0, places, fresh[:count])
        self.next = (self.next + count) % self.size
        self.filled = min(self.size, self.filled + count)
        half = len(fresh) // 2
        drawn = torch.randint(self.filled, (half,), generator=generator, device=generator.device).to(fresh.device)
        return torch.cat([fresh[half:], self.samples[drawn]])

    def state_dict(self) -> dict[str, Any]:
        """Samples and place of the ring."""
        return {"samples": self.samples, "next": self.next, "filled": self.filled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.samples, self.next, self.filled = state["samples"], int(state["next"]), int(state["filled"])


class Adversary:
    """A discriminator of features (B, ...), its optimiser and its pool of earlier fakes."""

    def __init__(self, network: nn.Module, *, game: str, lr: float, pool: int, penalty: float = 10.0) -> None:
        """Adam with the betas of each game's authors: (0.9, 0.999) for lsgan, (0.5, 0.9) for wgan_gp."""
        self.network = network
        self.game = game
        self.penalty = penalty
        betas = (0.9, 0.999) if game == "lsgan" else (0.5, 0.9)
        self.optimizer = adam(network.parameters(), lr, betas)
        self.pool = ReplayPool(pool)

    def learn(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One step on real (B, ...) and fake (B, ...) samples; returns loss and accuracies, detached."""
        real, fake = real.detach(), self.pool.exchange(fake.detach(), generator)
        real_score, fake_score = self.network(real), self.network(fake)
        loss = discriminator_loss(real_score, fake_score, self.game)
        if self.game == "wgan_gp":
            loss = loss + self.penalty * gradient_penalty(self.network, real, fake, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        middle = 0.5 if self.game == "lsgan" else (real_score.mean() + fake_score.mean()).detach() / 2
        right = {"real": (real_score > middle).float().mean(), "fake": (fake_score < middle).float().mean()}
        return {"loss": loss.detach()} | {f"accuracy_{name}": value.detach() for name, value in right.items()}

    def judge(self, fake: Tensor) -> Tensor:
        """The generator's loss for its samples -> scalar; no gradient reaches the discriminator's weights."""
        with frozen(self.network):
            return generator_loss(self.network(fake), self.game)

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser and pool."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pool": self.pool.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pool.load_state_dict(state["pool"])


class Adversaries:
    """The 3D and the 2D adversary of one generator; everything comes as a pair of 3D and 2D features (B, ...)."""

    def __init__(
        self, networks: tuple[nn.Module, nn.Module], *, weights: tuple[float, float], game: str, lr: float, pool: int,
        penalty: float = 10.0,
    ) -> None:  # fmt: skip
        """`weights` are those of the verdicts in the generator's loss; the rest is as for an `Adversary`."""
        self.weights, self.lr = weights, lr
        self.of_3d, self.of_2d = (Adversary(each, game=game, lr=lr, pool=pool, penalty=penalty) for each in networks)

    def learn(
        self, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step of both, and their scalars for the log."""
        scalars: dict[str, Tensor] = {}
        for name, adversary, true, made in zip(("3d", "2d"), (self.of_3d, self.of_2d), real, fake, strict=True):
            learned = adversary.learn(true, made, generator)
            scalars |= {f"discriminator_{name}_{key}": value for key, value in learned.items()}
        return scalars

    def judge(self, fake: tuple[Tensor, Tensor]) -> Tensor:
        """The generator's loss for its samples -> scalar."""
        return self.weights[0] * self.of_3d.judge(fake[0]) + self.weights[1] * self.of_2d.judge(fake[1])

    def anneal(self, share: float) -> None:
        """Set both learning rates to this share of what they are at the start."""
        for adversary in (self.of_3d, self.of_2d):
            for group in adversary.optimizer.param_groups:
                group["lr"] = share * self.lr

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and pools."""
        return {"3d": self.of_3d.state_dict(), "2d": self.of_2d.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.of_3d.load_state_dict(state["3d"])
        self.of_2d.load_state_dict(state["2d"])
