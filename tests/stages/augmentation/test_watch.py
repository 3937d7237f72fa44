"""The watch stops a collapsed run with one sentence, and no healthy one."""

from __future__ import annotations

import pytest
import torch

from poseda.errors import PosedaError
from poseda.stages.augmentation.watch import CollapseWatch, share_at_limit

HEALTHY = {"at_limit": 0.02, "variety": 0.9, "seen": 0.8, "generator_loss": 3.0}


def scalars(**changes):
    return {name: torch.tensor(value) for name, value in (HEALTHY | changes).items()}


def test_a_healthy_run_goes_on():
    CollapseWatch("lpa", 1, "").look(0, scalars(), 256)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"generator_loss": float("nan")}, "generator_loss is nan"),
        ({"at_limit": 0.97}, "97 % of its proposals lie at their limits"),
        ({"variety": 0.01}, "all windows are changed alike"),
        ({"seen": 0.001}, "the camera sees 0.1 %"),
    ],
)
def test_a_collapse_is_said_in_one_sentence_with_what_to_do(change, reason):
    with pytest.raises(PosedaError, match=rf"lpa has collapsed at step 50: .*{reason}.*Raise lpa\.weight") as caught:
        CollapseWatch("lpa", 50, "Raise lpa.weight_prior.").look(49, scalars(**change), 256)
    assert "\n" not in str(caught.value)


def test_a_few_windows_that_nobody_sees_are_chance():
    CollapseWatch("lpa", 1, "").look(0, scalars(seen=0.0), 16)


def test_it_looks_on_every_nth_step_and_never_for_0():
    broken = scalars(at_limit=1.0)
    CollapseWatch("lpa", 50, "").look(48, broken, 256)
    CollapseWatch("lpa", 0, "").look(49, broken, 256)


def test_the_share_at_limits_counts_what_is_free_alone():
    values = torch.tensor([[0.96, 0.5, 0.0], [-1.0, 1.9, 0.0]])
    assert float(share_at_limit(values, torch.tensor([1.0, 2.0, 0.0]))) == pytest.approx(2 / 4)
    values = torch.tensor([[0.96, 0.5, 0.0], [-1.0, 1.95, 0.0]])
    assert float(share_at_limit(values, torch.tensor([1.0, 2.0, 0.0]))) == pytest.approx(3 / 4)
    assert float(share_at_limit(values, torch.zeros(3))) == 0.0
