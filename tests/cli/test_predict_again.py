"""An adapted lifter's poses of other clips: the command that adapt prints makes them as the run's last row was made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseda import adapt, predict
from poseda.data.archive import save_archive
from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.checkpoint import save_lifter
from poseda.lifters import create_lifter

TINY = ["train.steps=4", "train.batch_size=32", "lifter.hidden=16", "adapt.steps=2", "adapt.batch_size=16", "threads=1"]
TINY += ["source.max_frames=2400", "source.every=5", "target=archive", "target.path=target.safetensors"]
TINY += ["target.transductive=true", "rows=last"]
SAID = "Poses of other clips, made as in the last row: python -m poseda.predict "


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    domain = load_domain(DomainConfig(name="3dhp", every=2, max_frames=900), root="nowhere")
    save_archive(Path("target.safetensors"), domain.test.unlabelled())


def adapted(capsys: Any, *words: str) -> str:
    assert adapt.main([*TINY, *words]) == 0, capsys.readouterr().err
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("head", ["true", "false"])
def test_the_printed_command_gives_the_poses_of_the_last_row(capsys: Any, head: str) -> None:
    out = adapted(capsys, "stages=[bodies,gpa,tto]", "tto.lengths=person", "tto.flip=false", f"lifter.sigma={head}")
    measured = next(line for line in out.splitlines() if "bones of" in line)
    (command,) = (line.removeprefix(SAID) for line in out.splitlines() if line.startswith(SAID))
    words = shlex.split(command)
    assert words[1:] == ["input=FILE", "refine=true", "tto.lengths=person"]
    words[1] = "input=target.safetensors"
    assert predict.main([*words, "output=poses.npz", "threads=1"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "people measured on their 2D" in said and said.splitlines()[0] in measured
    (run,) = Path("runs").rglob("poses.npz")
    with np.load(run) as own, np.load("poses.npz") as again:
        away = np.linalg.norm(own["poses"] - again["poses"], axis=-1)
    # errors of joints are measured on fewer source frames for the card than for the run
    assert away.max() < (0.5 if head == "true" else 3.0) and away.mean() < 0.1


def test_what_predict_cannot_do_again_is_not_promised(capsys: Any) -> None:
    assert SAID not in adapted(capsys, "stages=[iso]", "iso.steps=1", "target.max_frames=60")


def test_a_lifter_whose_card_says_nothing_is_held_to_lengths_in_the_clip_or_refused(capsys: Any) -> None:
    for head, code in ((True, 0), (False, 1)):
        save_lifter(Path("own.safetensors"), create_lifter("simplebaseline", seed=0, hidden=8, sigma=head), {})
        words = ["checkpoint=own.safetensors", "input=target.safetensors", "refine=true", "tto.lengths=person"]
        assert predict.main([*words, "threads=1"]) == code
        out, err = capsys.readouterr()
        said = "neither source clips nor a card with people" if head else "give tto.sigma_mm=MM"
        assert said in (out if head else err) and "Traceback" not in err
