"""The methods of experiments/comparison: words that adapt takes, and the presets' own numbers behind their names."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from poseda.adapt import main
from poseda.stages import create_stage

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "comparison" / "run.py"
PRESETS = {"best": "best", "poseda": "poseda", "poseaug": "poseaug", "adaptpose": "adaptpose", "dh-aug": "dh_aug",
           "daf-dg": "daf_dg", "iso, online": "iso"}  # fmt: skip


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    spec = importlib.util.spec_from_file_location("comparison_run", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def words_of(module: ModuleType, recipe: dict[str, Any]) -> list[str]:
    stages, view = ",".join(recipe["stages"]), module.view_of(recipe)
    return [f"stages=[{stages}]", f"lifter.view={view}", *recipe.get("options", [])]


def test_every_method_is_made_of_stages_and_options_that_exist(comparison: ModuleType) -> None:
    for name, recipe in comparison.read_methods().items():
        given: dict[str, dict[str, Any]] = {stage: {} for stage in recipe["stages"]}
        for option in recipe.get("options", []):
            key, value = option.split("=", 1)
            owner, _, field = key.partition(".")
            if owner not in ("adapt", "oracle"):
                given[owner][field] = yaml.safe_load(value)  # KeyError: an option of a stage that is not among them
        assert [create_stage(stage, **options).name for stage, options in given.items()] == recipe["stages"], name


@pytest.mark.parametrize("name", PRESETS)
def test_a_method_with_a_preset_is_that_preset(comparison: ModuleType, jobs: Any, name: str) -> None:
    recipe = comparison.read_methods()[name]
    assert main([f"experiment={PRESETS[name]}"]) == main(words_of(comparison, recipe)) == 0
    preset, method = jobs
    assert preset.stages == method.stages
    assert preset.lifter.options["view"] == method.lifter.options["view"]
    assert preset.adapt == method.adapt
    for stage in preset.stages:
        assert preset.stage_configs[stage] == method.stage_configs[stage], stage


def test_a_variant_takes_what_it_does_not_say_from_its_base(comparison: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "methods.json"
    whole = {"stages": ["gpa", "lpa"], "view": "rays", "options": ["gpa.turn=ray", "lpa.steps=2", "adapt.steps=9"]}
    parts = {"a": whole, "b": {"of": "a", "without": ["lpa"]}, "c": {"of": "b", "options": ["gpa.turn=none"]},
             "d": {"of": "a", "stages": ["lpa", "tto"]}}  # fmt: skip
    file.write_text(json.dumps(parts))
    methods = comparison.read_methods(file)
    assert methods["a"] == whole
    assert (methods["b"]["stages"], methods["b"]["view"]) == (["gpa"], "rays")
    assert methods["b"]["options"] == ["gpa.turn=ray", "adapt.steps=9"]
    assert methods["c"]["options"] == ["gpa.turn=none", "adapt.steps=9"]
    assert (methods["d"]["stages"], methods["d"]["options"]) == (["lpa", "tto"], ["lpa.steps=2", "adapt.steps=9"])
