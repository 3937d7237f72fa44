"""A new stage or rig is one file, and nothing else is edited."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources

import pytest
import torch

import poseda.stages
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.rigs import load_rig
from poseda.stages import create_stage, list_stages, stage_class
from poseda.stages.base import Stage
from poseda.stages.pipeline import AdaptConfig, adapt_lifter

NEW_STAGE = '''
"""Source people moved sideways by a random step."""

from dataclasses import dataclass, replace

import torch

from poseda.stages.base import Stage


@dataclass(frozen=True)
class SidestepConfig:
    """Options of the sidestep."""

    width_mm: float = 100.0
    """Largest step."""


class Sidestep(Stage):
    Config = SidestepConfig
    name = "sidestep"
    label = "sidestep"

    def __init__(self, config=None):
        self.config = config or SidestepConfig()
        self.calls = 0

    def align(self, source, target, generator):
        self.calls += 1
        step = (2 * torch.rand(len(source.poses), 1, 1, 1, generator=generator) - 1) * self.config.width_mm
        return replace(source, poses=source.poses + step * torch.tensor([1.0, 0.0, 0.0]))


STAGE: type[Stage] = Sidestep
'''


@pytest.fixture
def dropped_file(tmp_path, monkeypatch):
    """A folder on the package's path with one new stage file and a helper that is none."""
    (tmp_path / "sidestep.py").write_text(NEW_STAGE)
    (tmp_path / "sidestep_helper.py").write_text("STAGES = 3\n")
    monkeypatch.setattr(poseda.stages, "__path__", [*poseda.stages.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("poseda.stages.sidestep", None)


def test_the_stages_of_the_package_are_found_and_helpers_are_not():
    assert {"ema", "gpa", "lpa", "tto"} <= set(list_stages())
    assert not {"base", "pipeline"} & set(list_stages())


def test_every_stage_can_be_made_without_options_and_says_its_name():
    for name in list_stages():
        stage = create_stage(name)
        assert isinstance(stage, Stage)
        assert stage.name == name
        assert stage.label
        assert stage_class(name) is type(stage)
        assert isinstance(stage.config, type(stage).Config)


def test_every_option_of_every_stage_has_a_line_of_help():
    import ast
    import inspect

    for name in list_stages():
        config = stage_class(name).Config
        body = ast.parse(inspect.getsource(config)).body[0].body
        for here, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(here, ast.AnnAssign):
                documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                assert documented, f"{name}.{here.target.id} has no line of help"


def test_a_stage_file_dropped_into_the_package_is_found_and_runs(dropped_file, tiny_clips, small_lifter):
    assert "sidestep" in list_stages()
    assert "sidestep_helper" not in list_stages()
    stage = create_stage("sidestep", width_mm=250.0)
    source, target = tiny_clips
    lifter = small_lifter()
    before = lifter.w1.weight.clone()
    config = AdaptConfig(steps=3, batch_size=8)
    adapted = adapt_lifter(lifter, source, target.unlabelled(), [create_stage("gpa"), stage], config)
    assert stage.calls == 3
    assert not torch.equal(adapted.w1.weight, before)


def test_listing_stages_imports_no_stage_and_no_torch():
    code = (
        "import sys, poseda.stages as s; s.list_stages(); "
        "assert not {'torch', 'numpy', 'poseda.stages.gpa'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gap", {}, "Did you mean 'gpa'"),
        ("gpa", {"refine_iter": 1}, "option of gpa 'refine_iter'. Did you mean 'refine_iters'"),
        ("base", {}, "no stage 'base'"),
    ],
)
def test_mistakes_are_answered_in_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_stage(name, **options)
    assert "\n" not in str(caught.value)


# --- rigs ---


@pytest.fixture
def own_rig(tmp_path):
    """A user's rig file: two cameras of a published one, moved and with another focal length."""
    text = (resources.files("poseda.geometry") / "rigs" / "3dhp_ts1-4.json").read_text()
    camera = json.loads(text)["cameras"][0]
    cameras = [camera | {"id": "left", "fx": 900.0}, camera | {"id": "right", "t": [1.0, 2.0, 3000.0]}]
    path = tmp_path / "studio.json"
    path.write_text(json.dumps({"source": "mine", "fps": 30, "centre_mm": [0, 0, 900], "cameras": cameras}))
    return path


def test_a_rig_file_of_the_user_is_a_rig(own_rig, make_clips):
    rig = load_rig(str(own_rig))
    assert rig.camera_names == ("left", "right")
    assert rig.fps == 30
    assert rig.cameras.fx[0] == 900.0
    assert rig.cameras.t[1].tolist() == [1.0, 2.0, 3000.0]
    clips = make_clips(sequences=2, cameras=rig.cameras)
    assert bool(clips.keypoints.isfinite().all())


def test_a_rig_file_that_is_missing_or_broken_is_named(own_rig, tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.json"):
        load_rig(str(tmp_path / "none.json"))
    own_rig.write_text(own_rig.read_text().replace('"fx": 900.0', '"fx": "wide"'))
    with pytest.raises(DataError, match="'fx'") as caught:
        load_rig(str(own_rig))
    assert "\n" not in str(caught.value)
