"""The game against hand-written formulas: losses, gradient penalty, replay pool, one adversary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from poseda.engine.checkpoint import load_state, save_state
from poseda.stages.augmentation.adversarial import (
    Adversary,
    ReplayPool,
    discriminator_loss,
    frozen,
    generator_loss,
    gradient_penalty,
)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_adversarial_losses_are_the_published_formulas():
    real, fake = torch.tensor([[0.9], [0.4]]), torch.tensor([[0.2], [-0.5]])
    assert float(discriminator_loss(real, fake, "lsgan")) == pytest.approx(
        0.5 * ((0.1**2 + 0.6**2) / 2 + (0.2**2 + 0.5**2) / 2)
    )
    assert float(generator_loss(fake, "lsgan")) == pytest.approx((0.8**2 + 1.5**2) / 2)
    assert float(discriminator_loss(real, fake, "wgan_gp")) == pytest.approx(-0.15 - 0.65)
    assert float(generator_loss(fake, "wgan_gp")) == pytest.approx(0.15)


def test_gradient_penalty_of_a_linear_critic_is_in_closed_form():
    critic = nn.Linear(12, 1)
    real, fake = torch.randn(6, 4, 3, generator=draws()), torch.randn(6, 4, 3, generator=draws(1))
    penalty = gradient_penalty(nn.Sequential(nn.Flatten(), critic), real, fake, draws())
    norm = float(critic.weight.detach().norm())
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (norm - 1) / norm * critic.weight.detach())


def test_gradient_penalty_agrees_with_finite_differences_between_real_and_fake():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    share = torch.rand(4, generator=draws(7), dtype=torch.float64)[:, None]
    mixed = share * real + (1 - share) * fake
    norms = []
    for point in mixed:
        slopes = [(critic(point + 1e-6 * e) - critic(point - 1e-6 * e)).item() / 2e-6 for e in torch.eye(3).double()]
        norms.append(np.linalg.norm(slopes))
    expected = np.mean((np.array(norms) - 1) ** 2)
    penalty = gradient_penalty(critic, real, fake, draws(7)).detach()
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-6)


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1)


def test_the_pool_gives_back_half_fresh_and_half_earlier_samples():
    pool, generator = ReplayPool(100), draws()
    given = set()
    for step in range(20):
        fresh = numbered(*range(10 * step, 10 * step + 10))
        given |= set(fresh.flatten().tolist())
        out = pool.exchange(fresh, generator)
        assert out.shape == fresh.shape
        assert torch.equal(out[:5], fresh[5:])
        assert set(out.flatten().tolist()) <= given
    earlier = [value for value in out[5:].flatten().tolist() if value < 190]
    assert earlier, "nothing came back from earlier steps"


def test_the_pool_is_a_ring_that_forgets_the_oldest():
    pool, generator = ReplayPool(6), draws()
    for step in range(5):
        pool.exchange(numbered(*range(4 * step, 4 * step + 4)), generator)
    assert sorted(pool.samples.flatten().tolist()) == [14.0, 15.0, 16.0, 17.0, 18.0, 19.0]
    pool.exchange(numbered(*range(100, 110)), generator)  # more than it holds
    assert len(pool.samples) == 6
    assert bool((pool.samples >= 100).all())


def test_a_pool_of_size_0_gives_back_what_it_is_given():
    fresh = numbered(1, 2, 3)
    assert ReplayPool(0).exchange(fresh, draws()) is fresh


def make_adversary(game="lsgan", pool=8):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
    return Adversary(network, game=game, penalty=10.0, lr=1e-2, pool=pool)


def test_a_verdict_reaches_the_samples_and_not_the_discriminator():
    adversary = make_adversary()
    fake = torch.randn(5, 6, generator=draws()).requires_grad_(True)
    adversary.judge(fake).backward()
    assert float(fake.grad.abs().sum()) > 0
    assert all(p.grad is None and p.requires_grad for p in adversary.network.parameters())


@pytest.mark.parametrize("game", ["lsgan", "wgan_gp"])
def test_a_discriminator_learns_to_tell_real_from_fake(game):
    adversary, generator = make_adversary(game), draws()
    real, fake = (torch.randn(64, 6, generator=generator) + shift for shift in (1.0, -1.0))
    fake.requires_grad_(True)
    for _ in range(60):
        learned = adversary.learn(real, fake, generator)
    assert min(float(learned["accuracy_real"]), float(learned["accuracy_fake"])) > 0.9
    assert not learned["loss"].requires_grad
    assert fake.grad is None  # the samples are detached


def test_an_adversary_goes_on_from_a_saved_state_as_if_nothing_had_happened(tmp_path):
    first, second, generator = make_adversary(), make_adversary(), draws()
    batches = [torch.randn(2, 4, 6, generator=generator) for _ in range(6)]
    for real, fake in batches[:3]:
        first.learn(real, fake, draws(5))
    save_state(tmp_path / "state.pt", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    for real, fake in batches[3:]:
        a, b = (adversary.learn(real, fake, draws(6)) for adversary in (first, second))
        assert torch.equal(a["loss"], b["loss"])
    assert torch.equal(first.pool.samples, second.pool.samples)


def test_the_penalty_of_several_scores_is_that_of_their_mean():
    critic, features = nn.Linear(12, 5), torch.randn(6, 12, generator=draws())
    penalty = gradient_penalty(critic, features, features.flip(0), draws())
    assert float(penalty.detach()) == pytest.approx((float(critic.weight.detach().mean(0).norm()) - 1) ** 2, rel=1e-5)


def test_the_betas_are_those_of_each_games_authors():
    assert make_adversary("lsgan").optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert make_adversary("wgan_gp").optimizer.param_groups[0]["betas"] == (0.5, 0.9)


def test_frozen_gives_each_parameter_its_own_wish_back():
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    with frozen(network):
        assert not any(p.requires_grad for p in network.parameters())
    assert network.weight.requires_grad and not network.bias.requires_grad
