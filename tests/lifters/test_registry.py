"""Lifters are found by file name, made from plain options, and errors name what would have worked."""

import subprocess
import sys

import pytest
import torch

import poseda.lifters
from poseda.errors import ConfigError
from poseda.lifters import create_lifter, list_lifters

NEW_LIFTER = """
from dataclasses import asdict, dataclass

from torch import nn

from poseda.lifters.base import Lifter


@dataclass(frozen=True)
class Options:
    width: int = 4
    sigma: bool = False


class Tiny(Lifter):
    Config = Options

    def __init__(self, config):
        super().__init__(skeleton="h36m17", frames=1, output="seq2seq", options=asdict(config))
        self.first, self.last = nn.Linear(34, config.width), nn.Linear(config.width, 48)

    def encode(self, keypoints):
        return self.first(keypoints.flatten(2))

    def decode(self, latent):
        return self.to_output(self.last(latent).unflatten(-1, (16, 3)))


LIFTER = Tiny
"""


@pytest.fixture
def dropped_file(tmp_path, monkeypatch):
    """A folder on the package's path with one new lifter file and one helper that is none."""
    (tmp_path / "tiny_new.py").write_text(NEW_LIFTER)
    (tmp_path / "helper_new.py").write_text("LIFTERS_LIKE_ME = 0\n")
    monkeypatch.setattr(poseda.lifters, "__path__", [*poseda.lifters.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("poseda.lifters.tiny_new", None)


def test_built_in_lifters_are_listed_and_helpers_are_not():
    names = set(list_lifters())
    assert {"simplebaseline", "videopose3d"} <= names
    assert names.isdisjoint({"base", "inference", "wrapped", "seeding"})
    assert list_lifters("video*") == ("videopose3d",)


def test_a_file_dropped_into_the_package_is_a_lifter_by_its_name(dropped_file):
    assert "tiny_new" in list_lifters()
    assert "helper_new" not in list_lifters()
    lifter = create_lifter("tiny_new", width=5)
    assert lifter.name == "tiny_new"
    assert lifter.options == {"width": 5, "sigma": False}
    assert lifter(torch.rand(2, 3, 17, 2)[:, :1]).pose.shape == (2, 1, 17, 3)


def test_listing_imports_no_torch_and_no_lifter():
    code = (
        "import sys, poseda.lifters as l; l.list_lifters(); "
        "assert not {'torch', 'numpy', 'poseda.lifters.simplebaseline'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_lifter_of_the_user_is_taken_by_its_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_lifters_here.py").write_text(NEW_LIFTER)
    monkeypatch.syspath_prepend(tmp_path)
    assert create_lifter("my_lifters_here:Tiny").name == "my_lifters_here:Tiny"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simplebaselin", {}, "no lifter 'simplebaselin'. Did you mean 'simplebaseline'"),
        ("simplebaseline", {"hiden": 8}, "option of simplebaseline 'hiden'. Did you mean 'hidden'"),
        ("simplebaseline", {"hidden": "8"}, "option hidden of simplebaseline must be int, got '8'"),
        ("simplebaseline", {"hidden": 8.5}, "option hidden of simplebaseline must be int"),
        ("simplebaseline", {"sigma": 1}, "option sigma of simplebaseline must be bool"),
        ("simplebaseline", {"blocks": True}, "option blocks of simplebaseline must be int"),
        ("simplebaseline", {"skeleton": "h36m18"}, "h36m17"),
        ("no_such_module:Thing", {}, "cannot be imported"),
        ("json:JSONDecoder", {}, "is not a lifter"),
        ("json:Nothing", {}, "cannot be imported"),
    ],
)
def test_mistakes_are_answered_in_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_lifter(name, **options)
    assert "\n" not in str(caught.value)


def test_an_int_is_good_enough_for_a_float_option():
    assert create_lifter("simplebaseline", hidden=4, dropout=0).options["dropout"] == 0


def test_seeded_weights_depend_on_the_seed_alone_and_keep_the_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = create_lifter("simplebaseline", seed=7, hidden=8).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = create_lifter("simplebaseline", seed=7, hidden=8).state_dict()
    other = create_lifter("simplebaseline", seed=8, hidden=8).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["w1.weight"], other["w1.weight"])
