"""Adaptation from a source model without any source data, by the library and from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from poseda import adapt, evaluate, export, predict, train
from poseda.cli.compose import imply
from poseda.data.archive import save_archive
from poseda.engine.checkpoint import load_lifter, read_card
from poseda.engine.facts import SourceFacts, facts_of, measure_facts
from poseda.errors import CheckpointError, ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips
from poseda.skeleton import get_skeleton
from poseda.stages import create_stage, list_stages, stage_class
from poseda.stages.pipeline import AdaptConfig, adapt_lifter, lift_with_stages
from poseda.zoo import load_source_model

H36M = get_skeleton("h36m17")
MODEL = "simplebaseline_small-h36m-standin"
TARGET = ["target=3dhp", "target.every=10", "target.max_frames=600", "threads=1"]
SHORT = ["adapt.steps=4", "adapt.batch_size=64", "adapt.log_every=2", "adabn.batches=2", "adabn.batch_size=64"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_command_adapts_a_source_model_without_its_source(capsys: Any) -> None:
    words = [f"source_model={MODEL}", *TARGET, *SHORT, "stages=[adabn,mean_teacher,ema,tto]"]
    assert adapt.main(words) == 0
    printed = capsys.readouterr().out
    for row in ("source only", "+ AdaBN", "+ mean teacher", "+ EMA", "+ TTO"):
        assert f"\n{row} " in printed
    assert f"no source clips -> 3dhp (stand-in); 2D: gt; source model: {MODEL}" in printed
    folder = Path("runs/none-3dhp/default/seed0")
    results = json.loads((folder / "results.json").read_text())
    assert len(results["data"]) == 1 and results["data"][0]["name"] == "3dhp"
    rows = {name: row["values"]["mpjpe"] for name, row in results["results"]["rows"].items()}
    assert rows["+ mean teacher"] < 2 * rows["source only"], "nothing flies away in a few steps"
    card = read_card(folder / "lifter.safetensors")[1]
    assert card["subjects"] == ["S1", "S5", "S6", "S7", "S8"], "whom the model saw stands on the adapted one's card too"
    assert card["settings"]["source_model"] == MODEL and card["settings"]["lifter"]["hidden"] == 512
    given, kept = load_source_model(MODEL)[1]["facts"], card["facts"]
    assert kept["joint_error_mm"] == given["joint_error_mm"], "what the source was like is handed on"
    assert (folder / "plots" / "domain_gap.png").is_file()


def test_other_test_time_stages_work_without_its_source_too(capsys: Any) -> None:
    words = [f"source_model={MODEL}", *TARGET, "stages=[iso,hypotheses]", "hypotheses.draws=1"]
    assert adapt.main(words) == 0
    printed = capsys.readouterr().out
    assert "\n+ ISO (online) " in printed and "\n+ hypotheses " in printed


def test_the_preset_measures_people_beside_those_of_the_card(capsys: Any) -> None:
    words = [f"source_model={MODEL}", "target=3dhp", "target.max_frames=6000", "threads=1", *SHORT]
    assert adapt.main([*words, "experiment=source_free", "rows=last"]) == 0
    printed = capsys.readouterr().out
    measured = re.search(r"mean_teacher: bones of (\d+) of 8 people measured on their 2D", printed)
    assert measured is not None and int(measured[1]) > 0
    assert "\n+ mean teacher " in printed and "\n+ TTO " in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stages=[tto,gpa]"], "gpa works on source clips, and there are none: give source=NAME"),
        ([], "bodies, gpa, lpa work on source clips, and there are none: give source=NAME"),
        (["stages=[pseudo_labels]"], "pseudo_labels works on source clips"),
        (["stages=[tto]", "lifter=semgcn"], "brings its own lifter: leave lifter=semgcn out"),
        (["stages=[tto]", "checkpoint=x.safetensors"], "name two lifters"),
        (["stages=[mean_teacher]", "adapt.select_every=2", *SHORT], "select_every judges by source error too"),
        (["stages=[iso]", "iso.weight_adversarial=0.1"], "trains a discriminator on source clips: give source=NAME"),
        (["stages=[hypotheses]", "hypotheses.flow=4"], "learns the lifter's errors from source clips"),
    ],
)
def test_what_needs_a_source_is_refused_in_one_line(words: list[str], said: str, capsys: Any) -> None:
    assert adapt.main([f"source_model={MODEL}", *TARGET, *words]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error


def test_no_source_and_no_model_is_refused_and_a_wrong_name_gets_the_nearest(capsys: Any) -> None:
    assert adapt.main(["source=none", *TARGET, "stages=[tto]"]) == 1
    assert "source=none needs a trained lifter" in capsys.readouterr().err
    for command in (adapt, evaluate):
        assert command.main([f"source_model={MODEL}s", *TARGET]) == 1
        assert f"Did you mean '{MODEL}'" in capsys.readouterr().err
    assert train.main(["source_model=none"]) == 1
    assert "There is no source model 'none'" in capsys.readouterr().err


def test_with_its_source_given_a_source_model_takes_every_stage(capsys: Any) -> None:
    words = [f"source_model={MODEL}", "source=h36m", "source.max_frames=600", *TARGET, *SHORT, "stages=[gpa]"]
    assert adapt.main([*words, "rows=last"]) == 0
    printed = capsys.readouterr().out
    assert "\n+ GPA " in printed and f"h36m -> 3dhp (stand-in); 2D: gt; source model: {MODEL}" in printed
    assert Path("runs/h36m-3dhp/default/seed0/lifter.safetensors").is_file()


def test_a_source_model_is_evaluated_predicts_is_exported_and_trained_on(tiny_target: Any, capsys: Any) -> None:
    model = f"source_model={MODEL}"
    assert evaluate.main([model, *TARGET, "output=numbers.json"]) == 0
    assert json.loads(Path("numbers.json").read_text())["results"]["card"]["name"] == MODEL
    save_archive("clips.safetensors", tiny_target.limit(50).unlabelled())
    assert predict.main([model, "input=clips.safetensors", "output=poses.npz"]) == 0
    assert export.main([model, "output=lifter.pt2"]) == 0
    words = ["source=h36m", "source.max_frames=600", "train.steps=1", "train.batch_size=16", "train.lr=1e-9"]
    assert train.main([model, *words, "threads=1"]) == 0
    weights = load_lifter("runs/h36m/default/seed0/lifter.safetensors")[0].state_dict()
    torch.testing.assert_close(weights["w2.weight"], load_source_model(MODEL)[0].state_dict()["w2.weight"])
    capsys.readouterr()
    assert evaluate.main(TARGET) == 1
    assert "checkpoint=FILE or source_model=NAME is needed" in capsys.readouterr().err


def test_source_model_implies_no_source_unless_one_is_given() -> None:
    model = "source_model=x"
    assert imply("adapt", [model]) == [model, "source=none"]
    beside = [model, "source=none", "target=3dhp", "--cfg", "job"]  # Hydra takes no option behind a flag
    assert imply("adapt", [model, "target=3dhp", "--cfg", "job"]) == beside
    assert imply("adapt", [model, "source=h36m"]) == [model, "source=h36m"]
    assert imply("adapt", [model, "source.every=2"]) == [model, "source.every=2"]
    assert imply("evaluate", [model]) == [model]
    assert imply("adapt", ["target=3dhp", "source_model="]) == ["target=3dhp", "source_model="]


def test_a_stage_says_whether_it_needs_the_source() -> None:
    free = {name for name in list_stages() if not stage_class(name).needs_source}
    assert {"tto", "adabn", "ema", "mean_teacher", "iso", "hypotheses"} <= free
    assert not free & {"gpa", "lpa", "pseudo_labels", "coral", "mmd", "dann", "poseaug", "adaptpose"}


# --- what the card says in place of the source ---


@pytest.fixture
def blind() -> Any:
    """A lifter without a scale head."""
    return create_lifter("simplebaseline", seed=0, hidden=16, blocks=0, sigma=False)


def test_facts_stand_for_what_tto_would_measure_on_the_source(blind: Any, tiny_source: Any, tiny_target: Any) -> None:
    clips = tiny_target.limit(60).unlabelled()
    facts = measure_facts(blind, tiny_source, tiny_source)
    relative = tiny_source.poses - tiny_source.poses[:, :1]
    by_hand = (lift_clips(blind, tiny_source).poses - relative).norm(dim=-1).mean(0)
    torch.testing.assert_close(facts.joint_error_mm, by_hand)
    known, measured = create_stage("tto", steps=3), create_stage("tto", steps=3)
    config = AdaptConfig(steps=1)
    adapt_lifter(blind, None, clips, [known], config, facts=facts_of({"facts": facts.to_card()}, H36M))
    adapt_lifter(blind, tiny_source, clips, [measured], config)
    first, second = (lift_with_stages(blind, clips, [stage]).poses for stage in (known, measured))
    assert float((first - second).abs().mean()) < 0.05  # the same people, and numbers of three decimals


def test_a_card_without_facts_is_said_and_wrong_ones_are_refused(blind: Any, tiny_target: Any) -> None:
    clips = tiny_target.limit(60).unlabelled()
    with pytest.raises(ConfigError, match="tto needs each joint's error on the source"):
        lift_with_stages(blind, clips, [create_stage("tto")])
    for card in ({}, {"facts": {}}):
        facts = facts_of(card, H36M)
        assert (facts.joint_error_mm, facts.bone_mm, facts.people) == (None, None, None)
    for wrong in ([1.0] * 16, [-1.0] * 17, [float("nan")] * 17, "many", [None] * 17):
        with pytest.raises(CheckpointError, match="joint_error_mm must be 17 numbers"):
            facts_of({"facts": {"joint_error_mm": wrong}}, H36M)
    with pytest.raises(CheckpointError, match="no object"):
        facts_of({"facts": [1.0]}, H36M)


def test_without_a_source_a_stage_that_asks_for_it_is_refused(blind: Any, tiny_target: Any) -> None:
    with pytest.raises(ConfigError, match="coral works on source clips"):
        adapt_lifter(blind, None, tiny_target.unlabelled(), [create_stage("coral")])
    assert SourceFacts().to_card() == {}


def test_train_leaves_a_card_that_a_source_free_run_can_use(capsys: Any) -> None:
    words = ["source=h36m", "source.every=10", "source.max_frames=300", "lifter.hidden=16", "lifter.sigma=false"]
    assert train.main([*words, "train.steps=2", "train.batch_size=16", "threads=1"]) == 0
    checkpoint = "checkpoint=runs/h36m/default/seed0/lifter.safetensors"
    assert {"joint_error_mm", "people"} <= set(read_card(checkpoint.partition("=")[2])[1]["facts"])
    lifter = ["lifter.hidden=16", "lifter.sigma=false"]
    assert adapt.main(["source=none", checkpoint, *lifter, *TARGET, "stages=[tto]", "tto.steps=2"]) == 0
    capsys.readouterr()
