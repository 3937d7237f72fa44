"""The masks are PyTorch's, to the last bit, and so is everything that is trained with them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from poseda.data.clips import LabelledClips
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.lifters import create_lifter, dropout
from poseda.lifters.dropout import Dropout, draws_alike, dropped


@pytest.fixture
def alike() -> None:
    if not draws_alike():
        pytest.skip("this PyTorch draws its masks in another way, and nn.Dropout is taken")


@pytest.mark.usefixtures("alike")
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.3, 0.5, 0.9, 1 / 3])
def test_masks_gradients_and_what_is_drawn_next_are_pytorchs(rate: float) -> None:
    results = []
    for form in (dropped, F.dropout):
        values = torch.linspace(-2, 2, 7 * 500).view(7, 500).requires_grad_()
        torch.manual_seed(3)
        given = form(values, rate)
        given.square().sum().backward()
        results.append((given.detach(), values.grad, torch.rand(4)))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.usefixtures("alike")
@pytest.mark.parametrize("form", [lambda x: x.mT, lambda x: x[:, ::2], lambda x: x.view(5, 4, 30).permute(0, 2, 1)])
def test_masks_are_pytorchs_however_the_values_lie(form) -> None:
    values = form(torch.randn(20, 30))
    torch.manual_seed(3)
    found = dropped(values, 0.25)
    torch.manual_seed(3)
    assert torch.equal(found, F.dropout(values, 0.25))


@pytest.mark.usefixtures("alike")
def test_training_is_the_same_to_the_last_bit(tiny_source: LabelledClips, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for own in (True, False):
        monkeypatch.setattr(dropout, "draws_alike", lambda own=own: own)
        lifter = create_lifter("simplebaseline", seed=0, hidden=32)
        train_lifter(lifter, tiny_source, TrainConfig(steps=5, batch_size=16))
        weights.append(lifter.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])


def test_nothing_is_dropped_in_evaluation_and_the_trial_leaves_the_generator_alone() -> None:
    layer, values = Dropout(0.5), torch.randn(50)
    assert torch.equal(layer.eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values) and not Dropout(1.0)(values).any()
    draws_alike.cache_clear()
    torch.manual_seed(1)
    draws_alike()
    first = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), first)


def test_other_types_go_to_pytorch() -> None:
    torch.manual_seed(0)
    found = Dropout(0.5)(torch.ones(1000, dtype=torch.float64))
    torch.manual_seed(0)
    assert torch.equal(found, F.dropout(torch.ones(1000, dtype=torch.float64), 0.5))
