"""The help is complete, true and fast."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from poseda import adapt, calibrate, evaluate, export, models, predict, prepare, train
from poseda.cli.discover import configs_folder
from poseda.cli.schema import JOBS, StageChoice
from poseda.data.domains import DomainConfig
from poseda.lifters import lifter_class, list_lifters
from poseda.metrics.protocols import PROTOCOLS
from poseda.stages import list_stages, stage_class

COMMANDS = {"train": train, "adapt": adapt, "evaluate": evaluate, "predict": predict}
COMMANDS |= {"prepare": prepare, "export": export, "calibrate": calibrate, "models": models}
ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^    ([a-z_0-9.]+)=(\S*) +(\S+)(?: +|\n +)(\S.*)$", re.MULTILINE)


def help_of(name: str, capsys: Any) -> str:
    assert COMMANDS[name].main(["--help"]) == 0
    return str(capsys.readouterr().out)


def keys_of(config: Any, prefix: str) -> set[str]:
    """Dotted keys of a dataclass instance, from the objects themselves."""
    found: set[str] = set()
    for field in fields(config):
        value = getattr(config, field.name)
        found |= keys_of(value, f"{prefix}{field.name}.") if is_dataclass(value) else {f"{prefix}{field.name}"}
    return found


def expected_keys(name: str) -> set[str]:
    job = JOBS[name]()
    keys = keys_of(job, "")
    keys = {key for key in keys if not key.startswith(("lifter.", "stage_configs", "source.", "target."))}
    owners = [side for side in ("source", "target") if hasattr(job, side)]
    if owners:
        keys |= {key for key in keys_of(DomainConfig(), f"{owners[0]}.") if not key.endswith(".name")}
    if hasattr(job, "lifter"):
        keys |= {key for lifter in list_lifters() for key in keys_of(lifter_class(lifter).Config(), "lifter.")}
    if hasattr(job, "stages"):
        choices = [StageChoice(stage, stage_class(stage).Config()) for stage in list_stages()]
        keys |= {key for choice in choices for key in keys_of(choice.config, f"{choice.name}.")}
    return keys


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_stands_there_with_type_default_and_meaning(name: str, capsys: Any) -> None:
    rows = {row[0] for row in ROW.findall(help_of(name, capsys))}
    assert rows == expected_keys(name)


def test_the_defaults_that_it_shows_are_those_of_the_objects(capsys: Any) -> None:
    shown = {row[0]: row[1] for row in ROW.findall(help_of("adapt", capsys))}
    job = JOBS["adapt"]()
    for key in ("seed", "train.steps", "adapt.lr", "source.every", "data.root", "gpa.refine_iters"):
        value: Any = stage_class("gpa").Config() if key.startswith("gpa.") else job
        for part in key.removeprefix("gpa.").split("."):
            value = getattr(value, part)
        assert shown[key] == str(value), key
    assert (shown["oracle"], shown["flip"], shown["source.path"]) == ("false", "null", "")
    assert shown["stages"] == f"[{','.join(job.stages)}]"  # type: ignore[attr-defined]


def test_every_preset_and_protocol_is_named(capsys: Any) -> None:
    text = help_of("adapt", capsys)
    for path in configs_folder().rglob("*.yaml"):
        assert re.search(rf"^  {re.escape(path.stem)}\b", text, re.MULTILINE), path
    for name in PROTOCOLS:
        assert name in text


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_the_usual_words_ask_for_help_and_nothing_is_wider_than_a_terminal(word: str, capsys: Any) -> None:
    assert adapt.main([word]) == 0
    text = capsys.readouterr().out
    assert "python -m poseda.adapt source=h36m target=3dhp" in text
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize(
    ("words", "prefixes"),
    [
        (["tto"], {"tto"}),
        (["gpa.turn=ray", "adapt"], {"gpa", "adapt"}),
        (["stages=[ema,coral]"], {"ema", "coral"}),
        (["lifter=mixste"], {"lifter"}),
        (["source", "train"], {"source", "train"}),
    ],
)
def test_a_part_can_be_asked_for_by_name(words: list[str], prefixes: set[str], capsys: Any) -> None:
    whole = {row[0] for row in ROW.findall(help_of("adapt", capsys))}
    assert adapt.main(["--help", *words]) == 0
    rows = {row[0] for row in ROW.findall(capsys.readouterr().out)}
    assert {key.partition(".")[0] for key in rows} == prefixes
    others = prefixes - {"lifter"}
    assert {key for key in whole if key.partition(".")[0] in others} <= rows <= whole


def test_presets_show_what_they_pin_and_an_unknown_part_gets_the_nearest(capsys: Any) -> None:
    assert adapt.main(["--help", "experiment=best", "lifter=motionbert_lite"]) == 0
    shown = capsys.readouterr().out
    assert "tto: {lengths: person}" in shown and "mlp_ratio: 4.0" in shown
    assert adapt.main(["--help", "ttoo"]) == 1
    assert "There is no part of the help 'ttoo'. Did you mean 'tto'?" in capsys.readouterr().err
    assert models.main(["--help", "tto"]) == 1


def test_help_imports_neither_torch_nor_hydra_and_takes_under_two_seconds() -> None:
    code = (
        "import sys\nfrom poseda.adapt import main\nassert main(['--help']) == 0\n"
        "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert time.perf_counter() - start < 2
