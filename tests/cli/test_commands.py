"""train, evaluate and predict on small files, through their files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseda import evaluate, predict, train
from poseda.data.archive import load_archive
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips

SMALL = ["lifter.hidden=8", "lifter.blocks=1", "train.steps=3", "train.batch_size=4"]


def test_predict_writes_millimetres_with_names_bounds_and_units(archive: Path, checkpoint: Path, capsys: Any) -> None:
    assert predict.main([f"checkpoint={checkpoint}", f"input={archive}", "output=out.npz"]) == 0
    with np.load("out.npz", allow_pickle=False) as file:
        found = dict(file)
    clips, (lifter, _) = load_archive(archive), load_lifter(checkpoint)
    expected = lift_clips(lifter, clips)
    np.testing.assert_array_equal(found["poses"], expected.poses.numpy())
    assert expected.sigma is not None
    np.testing.assert_array_equal(found["sigma"], expected.sigma.numpy())
    assert found["joints"].tolist() == list(clips.skeleton.joints)
    assert found["bounds"].tolist() == [0, 6, 12]
    assert found["sequences"].tolist() == ["S1 walk", "S2 walk"]
    assert (found["units"].item(), found["fps"].item()) == ("mm", 50.0)
    assert (found["poses"][:, clips.skeleton.root] == 0).all()
    assert "12 frames" in capsys.readouterr().out


def test_train_writes_a_lifter_with_its_card_that_evaluate_scores_the_same(archive: Path, capsys: Any) -> None:
    assert train.main(["source=archive", f"source.path={archive}", *SMALL]) == 0
    table = capsys.readouterr().out
    folder = Path("runs/good/default/seed0")
    lifter, card = load_lifter(folder / "lifter.safetensors")
    assert lifter.name == "simplebaseline"
    assert card["settings"]["train"]["steps"] == 3
    assert card["data"]["kind"] == "stand-in"
    results = json.loads((folder / "results.json").read_text())
    assert results["seed"] == 0
    words = [f"checkpoint={folder}/lifter.safetensors", "target=archive", f"target.path={archive}"]
    assert evaluate.main([*words, "protocol=h36m17", "output=numbers.json"]) == 0
    assert table.splitlines()[:5] == capsys.readouterr().out.splitlines()[:5]
    scored = json.loads(Path("numbers.json").read_text())["results"]["target"]["values"]
    assert scored["mpjpe"] == card["metrics"]["mpjpe"]


def test_evaluate_gives_the_mean_joint_error(archive: Path, checkpoint: Path) -> None:
    words = [f"checkpoint={checkpoint}", "target=archive", f"target.path={archive}", "protocol=h36m17"]
    assert evaluate.main([*words, "output=numbers.json"]) == 0
    clips, (lifter, _) = load_archive(archive), load_lifter(checkpoint)
    test = clips.select(lambda sequence: sequence.subject == "S2")
    truth = test.poses - test.poses[:, :1]  # type: ignore[union-attr]
    error = (lift_clips(lifter, test).poses - truth).double().norm(dim=-1).mean()
    values = json.loads(Path("numbers.json").read_text())["results"]["target"]["values"]
    torch.testing.assert_close(torch.tensor(values["mpjpe"], dtype=torch.float64), error, rtol=1e-5, atol=0)


def test_training_twice_gives_the_same_weights(archive: Path) -> None:
    words = ["source=archive", f"source.path={archive}", *SMALL, "seed=4"]
    files = []
    for name in ("a", "b"):
        assert train.main([*words, f"out={name}"]) == 0
        lifter, _ = load_lifter(Path(name) / "good/default/seed4/lifter.safetensors")
        files.append(torch.cat([value.flatten() for value in lifter.state_dict().values()]))
    assert torch.equal(*files)


def test_an_official_checkpoint_is_recognised_and_scored_adapted_and_predicted(archive: Path, capsys: Any) -> None:
    from poseda import adapt

    network = create_lifter("videopose3d", seed=0, frames=9, channels=8, sigma=False)
    torch.save({"epoch": 3, "model_pos": network.state_dict(), "lr": np.float64(1e-3)}, "official.bin")
    words = ["target=archive", f"target.path={archive}"]
    assert evaluate.main(["lifter.checkpoint=official.bin", *words, "protocol=h36m17", "output=a.json"]) == 0
    said = capsys.readouterr().out
    assert "VideoPose3D" in said and "MPJPE" in said
    official = json.loads(Path("a.json").read_text())["results"]["card"]["official"]
    assert official["repository"] and official["recognised"]
    assert predict.main(["checkpoint=official.bin", f"input={archive}"]) == 0
    # another archive as target: source and target must differ
    other = archive.with_name("other.safetensors")
    other.write_bytes(archive.read_bytes())
    words = ["source=archive", f"source.path={archive}", "target=archive", f"target.path={other}"]
    assert adapt.main(["checkpoint=official.bin", *words, "stages=[gpa]", "adapt.steps=2", "adapt.batch_size=4"]) == 0
    assert "official.bin (given)" in capsys.readouterr().out


def test_how_windows_are_lifted_and_cut_can_be_chosen(archive: Path, checkpoint: Path, capsys: Any) -> None:
    save_lifter("mixste.safetensors", create_lifter("mixste", seed=0, frames=4, dim=8, depth=1, heads=2), {"data": "x"})
    words = ["checkpoint=mixste.safetensors", "target=archive", f"target.path={archive}", "protocol=h36m17"]
    scores = {}
    for name, more in {"exact": [], "overlap": ["lift.overlap=2"], "mixste": ["tails=mixste"]}.items():
        assert evaluate.main([*words, *more, f"output={name}.json"]) == 0
        scores[name] = json.loads(Path(f"{name}.json").read_text())["results"]["target"]
    assert [scores[name]["frames"] for name in scores] == [6, 6, 8]  # MixSTE's last window counts two frames again
    assert scores["overlap"]["values"]["mpjpe"] != scores["exact"]["values"]["mpjpe"]
    capsys.readouterr()
    assert evaluate.main([*words, "lift.precision=int8"]) == 1
    assert "lift.precision=int8 is none of: float32, tf32, bfloat16" in capsys.readouterr().err
