"""What the words on the command line become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poseda.adapt import main
from poseda.cli.schema import AdaptJob
from poseda.stages.gpa import GPAConfig


def only(jobs: list[Any]) -> AdaptJob:
    assert len(jobs) == 1
    job = jobs[0]
    assert isinstance(job, AdaptJob)
    return job


def test_a_bare_call_is_the_main_job_with_the_defaults_of_the_dataclasses(jobs: list[Any]) -> None:
    assert main([]) == 0
    job, plain = only(jobs), AdaptJob()
    assert (job.source.name, job.target.name, job.lifter.name) == ("h36m", "3dhp", "simplebaseline")
    for name in ("source", "target", "stages", "train", "adapt", "data", "seed", "protocol", "flip", "out"):
        assert getattr(job, name) == getattr(plain, name), name


def test_each_kind_of_option_reaches_its_owner_with_its_type(jobs: list[Any]) -> None:
    words = "stages=[tto,gpa] gpa.refine_iters=0 lifter=videopose3d lifter.frames=81 seed=3 flip=true oracle=true"
    assert main([*words.split(), "train.lr=1e-4", "source.noise=5", "source.test_subjects=[S1,S2]"]) == 0
    job = only(jobs)
    assert job.stages == ("tto", "gpa")
    assert list(job.stage_configs) == ["tto", "gpa"]
    assert job.stage_configs["gpa"].config == GPAConfig(refine_iters=0)
    assert job.lifter.name == "videopose3d"
    assert job.lifter.options["frames"] == 81
    assert (job.seed, job.flip, job.oracle, job.train.lr) == (3, True, True, 1e-4)
    assert (job.source.noise, job.source.test_subjects) == ("5", ("S1", "S2"))


def test_one_domain_file_serves_as_source_and_as_target(jobs: list[Any]) -> None:
    assert main(["source=3dhp", "target=h36m"]) == 0
    assert (only(jobs).source.name, only(jobs).target.name) == ("3dhp", "h36m")


def test_a_lifter_preset_brings_its_values_and_keeps_the_other_defaults(jobs: list[Any]) -> None:
    assert main(["lifter=simplebaseline_small", "lifter.blocks=1"]) == 0
    options = only(jobs).lifter.options
    assert only(jobs).lifter.name == "simplebaseline"
    assert (options["hidden"], options["blocks"], options["skeleton"]) == (512, 1, "h36m17")


def test_an_experiment_pins_options_and_the_command_line_has_the_last_word(jobs: list[Any]) -> None:
    assert main(["experiment=quick", "adapt.steps=7"]) == 0
    job = only(jobs)
    assert (job.name, job.train.steps, job.adapt.steps) == ("quick", 200, 7)


@pytest.mark.parametrize("lifter", ["videopose3d", "mixste", "gumlp"])
def test_a_quick_look_can_be_had_of_any_lifter(lifter: str, jobs: list[Any]) -> None:
    assert main(["experiment=quick", f"lifter={lifter}"]) == 0
    assert only(jobs).lifter.name == lifter


def test_a_sweep_runs_one_job_after_the_other(jobs: list[Any]) -> None:
    assert main(["-m", "seed=0,1,2", "target=3dhp"]) == 0
    assert [job.seed for job in jobs] == [0, 1, 2]


def test_a_folder_of_presets_of_ones_own_counts_as_much_as_configs(jobs: list[Any], tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for group, name, text in (
        ("domain", "lab", "name: archive\npath: .\n"),
        ("lifter", "wide", "name: simplebaseline\nhidden: 2048\n"),
        ("stage", "gpa_published", "name: gpa\nrefine_iters: 0\n"),
        ("experiment", "paper", "defaults:\n  - override /lifter: wide\nstages: [gpa_published]\n"),
    ):
        (mine / group).mkdir(parents=True)
        (mine / group / f"{name}.yaml").write_text(text)
    words = ["source=h36m", "target=lab", "experiment=paper", "gpa_published.nearest_joint_mm=100"]
    assert main(["--config-dir", str(mine), *words]) == 0
    job = only(jobs)
    assert (job.target.name, job.target.path) == ("archive", ".")
    assert job.lifter.options["hidden"] == 2048
    assert job.stage_configs["gpa_published"].name == "gpa"
    assert job.stage_configs["gpa_published"].config == GPAConfig(refine_iters=0, nearest_joint_mm=100.0)
    assert main(["target=lab"]) == 1, "presets of one call must not stay for the next"


NEW_STAGE = '''
"""A stage in one file."""
from dataclasses import dataclass
from poseda.stages.base import Stage

@dataclass(frozen=True)
class NudgeConfig:
    """Options."""
    distance_mm: float = 10.0
    """How far."""

class Nudge(Stage):
    """Moves everyone a little."""
    Config = NudgeConfig
    name = "nudge"
    label = "NUDGE"

STAGE = Nudge
'''


def test_a_new_stage_is_one_file_and_one_yaml(
    jobs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import poseda.stages

    (tmp_path / "stage").mkdir()
    (tmp_path / "nudge.py").write_text(NEW_STAGE)
    (tmp_path / "stage" / "nudge_far.yaml").write_text("# nudge, further\nname: nudge\ndistance_mm: 50\n")
    monkeypatch.setattr(poseda.stages, "__path__", [*poseda.stages.__path__, str(tmp_path)])
    assert main(["--config-dir", str(tmp_path), "stages=[gpa,nudge,nudge_far]", "nudge.distance_mm=3"]) == 0
    configs = {label: choice.config for label, choice in only(jobs).stage_configs.items()}
    assert (configs["nudge"].distance_mm, configs["nudge_far"].distance_mm) == (3.0, 50.0)
    assert main(["--help"]) == 0
    assert "nudge.distance_mm=10.0" in capsys.readouterr().out


def test_a_preset_that_would_hide_an_option_is_refused(
    jobs: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "train.yaml").write_text("name: ema\n")
    assert main(["--config-dir", str(tmp_path), "train.steps=10"]) == 1
    assert "stage/train.yaml has the name of an option" in capsys.readouterr().err
    assert not jobs


def test_cfg_job_prints_the_options_and_runs_nothing(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "gpa.refine_iters=5"]) == 0
    assert "refine_iters: 5" in capsys.readouterr().out
    assert not jobs
