"""Every lifter from the command line: trained, adapted, refined and evaluated, with its options given as words."""

import json
from pathlib import Path

import pytest

from poseda import adapt, evaluate
from poseda.cli import adaptation
from poseda.data.archive import save_archive
from poseda.lifters import list_lifters
from tests.lifters.test_every_lifter import SMALL


@pytest.fixture(scope="module")
def archives(tiny_source, tiny_target, tmp_path_factory) -> dict[str, str]:
    """Sixty frames of each stand-in's people as archives of train and test clips."""
    folder = tmp_path_factory.mktemp("archives")
    for name, clips in (("first", tiny_source), ("second", tiny_target)):
        subjects = sorted({sequence.subject for sequence in clips.sequences})
        (folder / name).mkdir()
        for part, some in (("train", subjects[:1]), ("test", subjects[1:])):
            chosen = clips.select(lambda sequence, some=some: sequence.subject in some)
            save_archive(folder / name / f"{part}.safetensors", chosen.limit(60))
    return {name: str(folder / name) for name in ("first", "second")}


@pytest.mark.parametrize("name", list_lifters())
def test_it_is_trained_adapted_and_evaluated_by_commands(name, archives, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adaptation, "save_figures", lambda *args, **options: None)  # the slowest part, tested elsewhere
    source = ["source=archive", f"source.path={archives['first']}"]
    target = ["target=archive", f"target.path={archives['second']}"]
    lifter = [f"lifter={name}", *(f"lifter.{key}={value}" for key, value in SMALL[name].items())]
    small = ["train.steps=1", "train.batch_size=2", "adapt.steps=1", "adapt.batch_size=2", "tto.steps=1", "rows=last"]
    assert adapt.main([*source, *target, *lifter, *small, "threads=1", "data.root=none"]) == 0, capsys.readouterr().err
    folder = next(Path("runs").rglob("results.json")).parent
    rows = json.loads((folder / "results.json").read_text())["results"]["rows"]
    assert list(rows) == ["source only", "+ bodies + GPA + LPA + mean teacher", "+ TTO"]
    assert evaluate.main([f"checkpoint={folder}/source.safetensors", *target, "output=numbers.json", "threads=1"]) == 0
    scored = json.loads(Path("numbers.json").read_text())["results"]["target"]["values"]
    assert scored["mpjpe"] == pytest.approx(rows["source only"]["values"]["mpjpe"], rel=1e-4)
