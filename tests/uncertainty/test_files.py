"""Uncertainty files: the same numbers again, for the same weights alone, and a clear word for anything else."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from poseda.errors import CheckpointError, ConfigError, MissingDataError
from poseda.lifters import create_lifter
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.calibrated import fit_uncertainty
from poseda.uncertainty.files import HEADER, load_uncertainty, open_uncertainty, save_uncertainty, weights_digest
from tests.uncertainty.test_estimators import made

OPTIONS = {"own": {}, "constant": {}, "flip": {}, "jitter": {"passes": 1}, "posthoc": {"hidden": 8, "steps": 3}}


@pytest.fixture
def path(tmp_path, lifter, seen):
    file = tmp_path / "u.safetensors"
    save_uncertainty(file, fit_uncertainty(made("constant", lifter), seen), lifter, {"data": "made"})
    return file


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("method", ["temperature", "isotonic", "conformal"])
def test_what_is_written_says_the_same_again(name, method, lifter, seen, tmp_path):
    found = fit_uncertainty(made(name, lifter, **OPTIONS[name]), seen, seen, recalibrate=method)
    save_uncertainty(tmp_path / "u.safetensors", found, lifter, {})
    again = load_uncertainty(tmp_path / "u.safetensors", lifter)
    first, second = (u.of(seen, inflate=True) for u in (found, again))
    assert torch.equal(first.stated.sigma, second.stated.sigma)
    assert torch.equal(first.radius90(), second.radius90())
    assert first.score() == second.score()


def test_an_estimator_that_learns_is_not_recalibrated_on_what_it_learned_from(lifter, seen):
    with pytest.raises(ConfigError, match="give trained_on="):
        fit_uncertainty(made("posthoc", lifter, steps=1), seen)


def rewritten(path, change):
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()[HEADER])
    change(tensors, header)
    other = path.with_name("changed.safetensors")
    save_file(tensors, other, metadata={HEADER: json.dumps(header)})
    return other


WRONG = {
    "lacks 1 tensor": lambda t, h: t.pop("reference"),
    "has unknown 1 tensor": lambda t, h: t.update(extra=torch.ones(1)),
    "recalibration.scale is": lambda t, h: t.update({"recalibration.scale": torch.ones(3)}),
    "reference is not finite": lambda t, h: t["reference"].fill_(torch.nan),
    "lacks one of": lambda t, h: h.pop("density"),
    "format 2": lambda t, h: h.update(format=2),
    "density": lambda t, h: h.update(density="normal"),
    "make no estimator": lambda t, h: h.update(options={"steps": 3}),
    "no uncertainty 'none'": lambda t, h: h.update(estimator="none"),
    "another lifter .frames": lambda t, h: h["lifter"].update(frames=9),
    "other weights": lambda t, h: h.update(weights="0" * 64),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_file_that_is_not_right_is_refused(message, path, lifter):
    with pytest.raises(CheckpointError, match=message):
        load_uncertainty(rewritten(path, WRONG[message]), lifter)


def test_other_weights_of_the_same_lifter_are_refused_however_little_they_differ(path, lifter):
    before = weights_digest(lifter)
    with torch.no_grad():
        lifter.w2.weight[0, 0] += 1e-6
    assert weights_digest(lifter) != before
    with pytest.raises(CheckpointError, match=r"python -m poseda\.calibrate"):
        load_uncertainty(path, lifter)
    with pytest.raises(CheckpointError, match="another lifter"):
        load_uncertainty(path, create_lifter("simplebaseline", seed=0, hidden=8))


def test_what_is_no_such_file_is_refused(tmp_path, lifter):
    with pytest.raises(MissingDataError, match="calibrate"):
        load_uncertainty(tmp_path / "nothing", lifter)
    (tmp_path / "text").write_text("hello, hello, hello")
    with pytest.raises(CheckpointError):
        load_uncertainty(tmp_path / "text", lifter)
    save_file({"a": torch.ones(1)}, tmp_path / "plain")
    with pytest.raises(CheckpointError, match="no uncertainty"):
        load_uncertainty(tmp_path / "plain", lifter)


def test_flip_and_inflation_must_fit(path, lifter, clips):
    with pytest.raises(ConfigError, match="add flip=false"):
        open_uncertainty(str(path), lifter, flip=True, inflate=False)
    with pytest.raises(ConfigError, match="uncertainty=FILE"):
        open_uncertainty("own", lifter, flip=False, inflate=True)
    own = open_uncertainty("own", lifter, flip=True, inflate=False)
    seen = Lifting.of(lifter, clips, flip=True)
    torch.testing.assert_close(own.of(seen).stated.sigma, seen.lifted.sigma[:, 1:])
