"""How a command behaves around its work: folders, interruption, noise, faults."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseda.adapt import main
from poseda.cli.app import wait_asleep
from poseda.errors import DataError


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_leaves_its_folder_with_the_options_and_nothing_else(jobs: Any, in_empty_folder: Path) -> None:
    assert main(["seed=2", "name=trial", "gpa.refine_iters=4", "stages=[gpa]"]) == 0
    assert files_below(in_empty_folder) == ["runs/h36m-3dhp/trial/seed2/config.yaml"]
    config = yaml.safe_load((in_empty_folder / "runs/h36m-3dhp/trial/seed2/config.yaml").read_text())
    assert (config["seed"], config["source"]["name"], config["lifter"]["hidden"]) == (2, "h36m", 512)
    assert config["gpa"]["refine_iters"] == 4
    assert "lpa" not in config, "a stage that is not used has no place in the record"


def test_the_table_the_sentence_and_the_folder_are_printed(jobs: Any, capsys: Any) -> None:
    main([])
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "the table",
        "the sentence",
        f"All of it is in {Path('runs/h36m-3dhp/default/seed0')}.",
        "Poses of other clips, made as in the last row: python -m poseda.predict "
        f"checkpoint={Path('runs/h36m-3dhp/default/seed0/lifter.safetensors')} input=FILE refine=true",
    ]
    assert err == ""


def test_files_and_rig_name_the_folder_of_motion(jobs: Any, tmp_path: Path, in_empty_folder: Path) -> None:
    for name in ("cmu.npz", "hdm.npz"):
        (tmp_path / name).touch()
    words = [f"{side}={word}" for side, word in (("source", "motion"), ("target", "motion"))]
    words += [f"source.path={tmp_path}/cmu.npz", "source.rig=h36m"]
    words += [f"target.path={tmp_path}/hdm.npz", "target.rig=3dhp_test"]
    assert main(words) == 0
    assert files_below(in_empty_folder) == ["runs/cmu@h36m-hdm@3dhp_test/default/seed0/config.yaml"]


def test_an_interruption_says_how_to_go_on_and_exits_130(jobs: Any, capsys: Any) -> None:
    jobs.fails = KeyboardInterrupt()
    assert main(["seed=1", "resume=never"]) == 130
    err = capsys.readouterr().err
    assert "python -m poseda.adapt seed=1" in err
    assert "resume=never" not in err, "that would start afresh"
    assert "Traceback" not in err


def test_a_failed_job_leaves_nothing_behind(jobs: Any, in_empty_folder: Path, capsys: Any) -> None:
    jobs.fails = DataError("the file x\nis broken")
    assert main([]) == 1
    assert capsys.readouterr().err == "error: the file x is broken\n"
    assert [*in_empty_folder.iterdir()] == []


def test_a_fault_of_ours_shows_its_trace(jobs: Any, capsys: Any) -> None:
    jobs.fails = ZeroDivisionError("a bug")
    assert main([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_poseda_debug_shows_the_trace_of_any_error(jobs: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEDA_DEBUG", "1")
    jobs.fails = DataError("broken")
    assert main([]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: broken\n")


def test_one_failed_point_of_a_sweep_is_told_and_the_others_run(jobs: Any, capsys: Any) -> None:
    assert main(["-m", "target=3dhp,h36m", "source=h36m"]) == 1
    assert [job.target.name for job in jobs] == ["3dhp"]
    assert "same domain" in capsys.readouterr().err


def test_warnings_of_libraries_do_not_reach_the_terminal(
    jobs: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def warn(job: Any, progress: Any) -> Any:
        warnings.warn("a library is deprecated", UserWarning, stacklevel=1)
        return jobs.run(job, progress)

    monkeypatch.setattr(sys.modules["poseda.cli.adaptation"], "run_adaptation", warn)
    assert main([]) == 0
    assert len(recwarn) == 0


def test_a_command_leaves_argv_and_environment_as_they_were(jobs: Any) -> None:
    before = (list(sys.argv), dict(os.environ))
    main(["seed=1"])
    assert (sys.argv, dict(os.environ)) == before


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_openmp_waits_asleep_unless_the_user_says_how(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    wait_asleep()
    assert os.environ == given  # PyTorch is here: OpenMP has read its settings
    monkeypatch.delitem(sys.modules, "torch")
    wait_asleep()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
