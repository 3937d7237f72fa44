"""Every shipped model is the file that its index and its card say it is; what is not is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from poseda.engine.checkpoint import describe_lifter, load_lifter, read_card
from poseda.engine.facts import facts_of
from poseda.errors import CheckpointError, ConfigError, DataError, MissingDataError
from poseda.skeleton import get_skeleton
from poseda.zoo import index as zoo_index
from poseda.zoo import list_source_models, load_source_model, source_model_path
from poseda.zoo.cards import models_page
from poseda.zoo.check import TOLERANCE_MM, check_entry
from poseda.zoo.index import FOLDER, INDEX, digest, read_index

SHIPPED = sorted(name for name, entry in read_index().items() if not entry.url)
ACKNOWLEDGEMENT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. "
    "The database was created with funding from NSF EIA-0196217."
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_loads_strictly_and_is_what_its_card_says(name: str) -> None:
    lifter, card = load_source_model(name)
    assert digest(source_model_path(name)) == read_index()[name].sha256
    described = json.loads(json.dumps(describe_lifter(lifter)))
    assert {key: card[key] for key in described} == described
    assert card["parameters"] == sum(weight.numel() for weight in lifter.parameters())
    assert card["sigma"] is lifter.has_sigma
    assert all(bool(torch.isfinite(weight).all()) for weight in lifter.parameters())


@pytest.mark.parametrize("name", SHIPPED)
def test_it_gives_its_cards_value_on_the_fixed_set(name: str) -> None:
    lifter, card = load_source_model(name)
    made = check_entry(lifter)
    assert made["mpjpe"] == pytest.approx(card["check"]["mpjpe"], abs=TOLERANCE_MM)
    assert {key: made[key] for key in ("set", "protocol", "frames")} == {
        key: card["check"][key] for key in ("set", "protocol", "frames")
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_says_where_the_model_comes_from_and_how_far_it_can_be_trusted(name: str) -> None:
    card = read_card(source_model_path(name))[1]
    assert not set(card["subjects"]) & set(card["held_out"]["subjects"])
    assert card["held_out"]["frames"] > 5000 and card["limits"] and card["rig"] and card["command"]
    half = card["half_precision"]
    assert half["stored"] == ("float16" if abs(half["half"] - half["full"]) < 0.1 else "float32")
    stored = half["half" if half["stored"] == "float16" else "full"]
    assert card["metrics"]["mpjpe"] == pytest.approx(stored, abs=0.01)
    assert ACKNOWLEDGEMENT in card["data"]["licence"]  # all that is shipped today comes from CMU's motion
    assert "/" not in card["settings"]["source"]["path"], "a path of the machine that trained it"
    facts = facts_of(card, get_skeleton(card["skeleton"]))
    errors = facts.joint_error_mm
    # MPJPE over all joints, the root with its 0 among them, is the mean of the joints' errors
    assert float(errors.mean()) == pytest.approx(card["metrics"]["mpjpe"], abs=0.01)
    assert facts.bone_mm is not None and bool((facts.bone_mm > 20).all() and (facts.bone_mm < 600).all())


def test_the_package_holds_what_the_index_names_and_not_too_much_of_it() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.safetensors")) == SHIPPED
    sizes = [(FOLDER / f"{name}.safetensors").stat().st_size for name in SHIPPED]
    assert max(sizes) < 20e6 and sum(sizes) < 60e6


def test_the_page_of_models_is_that_of_the_cards() -> None:
    assert (ROOT / "docs" / "models.md").read_text() == models_page(list_source_models())


def test_names_are_listed_by_pattern_and_an_unknown_one_gets_the_nearest() -> None:
    assert list_source_models("*-standin") == ("simplebaseline_small-h36m-standin",)
    assert list_source_models("nothing*") == ()
    with pytest.raises(ConfigError, match="Did you mean 'simplebaseline_small-h36m-standin'"):
        load_source_model("simplebaseline_small-h36m-standing")


# --- files that are not what they should be ---


def altered(tmp_path: Path, **changes: object) -> Path:
    """The first shipped model with other fields in its header."""
    source = source_model_path(SHIPPED[0])
    with safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()["poseda"])
    path = tmp_path / "altered.safetensors"
    save_file(load_file(source), path, metadata={"poseda": json.dumps({**header, **changes})})
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"skeleton": "h36m16"}, "skeleton is 'h36m16' in the file, 'h36m17' in the lifter"),
        ({"joints": ["pelvis"]}, r"joints is \['pelvis'\] in the file"),
        ({"normalisation": "z-score"}, "normalisation is 'z-score' in the file, 'screen-width' in the lifter"),
        ({"units": "m"}, "units is 'm' in the file, 'mm' in the lifter"),
    ],
)
def test_other_joints_or_normalisation_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_lifter(altered(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one model in a folder of its own."""
    name = SHIPPED[0]
    (tmp_path / f"{name}.safetensors").write_bytes(source_model_path(name).read_bytes())
    given = json.loads((FOLDER / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps({"shipped": {name: given["shipped"][name]}, "hub": {}}))
    monkeypatch.setattr(zoo_index, "FOLDER", tmp_path)
    return tmp_path


def test_a_damaged_file_is_refused_before_it_is_read(zoo: Path) -> None:
    path = zoo / f"{SHIPPED[0]}.safetensors"
    load_source_model(SHIPPED[0])
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged: its size or SHA-256 is not that of the index"):
            load_source_model(SHIPPED[0])
    path.unlink()
    with pytest.raises(MissingDataError, match="belongs to the package"):
        load_source_model(SHIPPED[0])


def test_a_card_of_another_model_or_lifter_is_refused(zoo: Path) -> None:
    path = zoo / f"{SHIPPED[0]}.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["poseda"])
    weights = load_file(path)
    for changes, said in (({"name": "other"}, "its card is of 'other'"), ({"frames": 27}, "card says frames is 27")):
        card = {**header["card"], **changes}
        save_file(weights, path, metadata={"poseda": json.dumps({**header, "card": card})})
        entry = {"sha256": digest(path), "size": path.stat().st_size}
        (zoo / INDEX).write_text(json.dumps({"shipped": {SHIPPED[0]: entry}, "hub": {}}))
        with pytest.raises(CheckpointError, match=said):
            load_source_model(SHIPPED[0])


@pytest.mark.parametrize("text", ["[]", '{"shipped": {}}', '{"shipped": {"a": {"size": 1}}, "hub": {}}',
                                  '{"shipped": {"../a": {"size": 1, "sha256": "0"}}, "hub": {}}'])  # fmt: skip
def test_an_index_that_is_none_is_refused(zoo: Path, text: str) -> None:
    (zoo / INDEX).write_text(text)
    with pytest.raises(DataError, match=r"index\.json"):
        list_source_models()
