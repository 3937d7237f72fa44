"""When an earlier run may go on, and when it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from poseda.adapt import main
from poseda.cli.runs import run_folder
from poseda.errors import ConfigError, DataError, PosedaError

FOLDER = Path("runs/h36m-3dhp/default/seed0")


def contents() -> dict[str, str]:
    """Files of the run folder."""
    return {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}


def finished() -> dict[str, str]:
    """The files of a run that has come to its end."""
    assert main([]) == 0
    (FOLDER / "results.json").write_text("old")
    (FOLDER / "lifter.safetensors").write_text("old")
    return contents()


def test_the_same_command_goes_on_in_the_same_folder(jobs: Any) -> None:
    assert main([]) == 0
    (FOLDER / "state").write_text("half way")
    assert main([]) == 0
    assert (FOLDER / "state").read_text() == "half way"


@pytest.mark.parametrize("word", ["device=cpu", "threads=1", "oracle=true"])
def test_options_that_do_not_change_the_run_may_change(jobs: Any, word: str) -> None:
    assert main([]) == 0
    assert main([word]) == 0


def test_other_settings_in_the_same_folder_are_refused_with_a_way_out(jobs: Any, capsys: Any) -> None:
    assert main([]) == 0
    before = (FOLDER / "config.yaml").read_bytes()
    assert main(["gpa.refine_iters=7"]) == 1
    err = capsys.readouterr().err
    assert "gpa.refine_iters: 2 -> 7" in err
    assert "name=NEW" in err
    assert "resume=never" in err
    assert len(jobs) == 1
    assert (FOLDER / "config.yaml").read_bytes() == before


def test_resume_never_drops_the_earlier_run(jobs: Any) -> None:
    assert main([]) == 0
    (FOLDER / "state").write_text("old")
    assert main(["gpa.refine_iters=7", "resume=never"]) == 0
    assert [path.name for path in FOLDER.iterdir()] == ["config.yaml"]
    assert [path.name for path in FOLDER.parent.iterdir()] == ["seed0"]


def test_resume_never_keeps_the_earlier_run_when_the_new_one_cannot_start(jobs: Any) -> None:
    assert main([]) == 0
    (FOLDER / "state").write_text("old")
    jobs.fails = DataError("no data")
    assert main(["gpa.refine_iters=7", "resume=never"]) == 1
    assert (FOLDER / "state").read_text() == "old"


@pytest.mark.parametrize("end", [PosedaError("lr"), KeyboardInterrupt(), ZeroDivisionError()])
def test_an_earlier_run_comes_back_however_a_new_one_ends_that_leaves_nothing(
    end: BaseException, jobs: Any, capsys: Any
) -> None:
    earlier = finished()

    def fail() -> None:
        (FOLDER / "source").mkdir()
        (FOLDER / "source" / "metrics.jsonl").touch()
        raise end

    jobs.does = fail
    assert main(["gpa.refine_iters=7", "resume=never"]) != 0
    assert contents() == earlier
    err = capsys.readouterr().err
    assert "the earlier run is back" in err and "To go on where it stopped" not in err


@pytest.mark.parametrize("kept", ["source/state.pt", "results.json"])
def test_an_earlier_run_is_dropped_once_the_new_one_has_something(kept: str, jobs: Any) -> None:
    finished()

    def fail() -> None:
        (FOLDER / kept).parent.mkdir(exist_ok=True)
        (FOLDER / kept).write_text("new")
        raise KeyboardInterrupt

    jobs.does = fail
    assert main(["gpa.refine_iters=7", "resume=never"]) == 130
    assert contents().keys() == {"config.yaml", kept}
    assert [path.name for path in FOLDER.parent.iterdir()] == ["seed0"]


@pytest.mark.parametrize("words", [[], ["gpa.refine_iters=9"], ["gpa.refine_iters=9", "resume=never"]])
def test_what_a_killed_run_has_set_aside_comes_back_with_the_next(words: list[str], jobs: Any, capsys: Any) -> None:
    earlier = finished()
    FOLDER.rename(FOLDER.with_name(".seed0.replaced"))
    FOLDER.mkdir()
    (FOLDER / "config.yaml").write_text("seed: 0")
    jobs.fails = DataError("no data")
    assert main(words) == 1
    assert contents() == earlier
    assert "the earlier run is back" in capsys.readouterr().err


def test_two_runs_at_once_in_one_folder_are_refused(jobs: Any) -> None:
    refused = []

    def start_another() -> None:
        with pytest.raises(ConfigError, match=rf"^{FOLDER} is in use by another run"), run_folder(jobs[-1]):
            pass
        refused.append(True)

    jobs.does = start_another
    assert main([]) == 0 and main(["resume=never"]) == 0 and refused == [True, True]
    assert [path.name for path in FOLDER.parent.iterdir()] == ["seed0"]


def test_what_a_failed_job_has_written_stays(jobs: Any) -> None:
    def fail(job: Any, progress: Any) -> None:
        (job.folder / "state").write_text("half way")
        raise DataError("no data")

    jobs.run = fail
    import sys

    sys.modules["poseda.cli.adaptation"].run_adaptation = fail  # type: ignore[attr-defined]
    assert main([]) == 1
    assert (FOLDER / "state").exists()


def test_a_folder_that_is_no_run_is_left_alone(jobs: Any, capsys: Any) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / "thesis.tex").write_text("mine")
    assert main(["resume=never"]) == 1
    assert "no run" in capsys.readouterr().err
    assert (FOLDER / "thesis.tex").read_text() == "mine"


def test_a_broken_config_is_one_line(jobs: Any, capsys: Any) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / "config.yaml").write_text("{")
    assert main([]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_step_that_needs_no_label_to_be_chosen_has_a_row_of_its_own(archive: Path, capsys: Any) -> None:
    words = ["source=archive", f"source.path={archive}", "target=3dhp", "target.max_frames=200", "stages=[gpa,tto]"]
    words += ["lifter.hidden=8", "lifter.blocks=1", "train.steps=3", "train.batch_size=4"]
    assert main([*words, "adapt.steps=4", "adapt.batch_size=4", "adapt.select_every=2"]) == 0
    said = capsys.readouterr().out
    assert "+ GPA (selected)" in said and "+ TTO (selected)" in said
    assert "of 4, by reprojection, symmetry, constancy and source error; no target label" in said
    results = json.loads(next(Path("runs").glob("*/default/seed0/results.json")).read_text())["results"]
    assert [look["step"] for look in results["selections"]["GPA"]["curve"]] == [0, 2, 4]
