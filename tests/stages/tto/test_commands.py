"""Every option from the command line: accepted and refused; predict takes them too; UAO's preset is flagged."""

from __future__ import annotations

import json

import pytest
import torch

from poseda import adapt, predict
from poseda.engine.checkpoint import save_lifter
from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.stages.base import Stage
from poseda.stages.tto import TTO, TTOConfig
from tests.stages.tto.people import first_guess

TINY = [
    "source.max_frames=400", "target.max_frames=60", "train.steps=2", "train.batch_size=16", "data.root=/nowhere",
    "lifter.hidden=8", "stages=[tto]", "threads=1",
]  # fmt: skip
ACCEPTED = [
    {"latent": "input", "root": "least_squares"},
    {"latent": "feature", "module": "linear_stages.0"},
    {"latent": "lowrank", "directions": 2, "lr": 0.1},
    {"root": "size_prior", "resize": True, "camera": "pinhole"},
    {"root": "ground", "weight_limits": 1.0, "reprojection": "geman_mcclure"},
    {"camera": "weak", "anchor": "laplace", "reprojection": "square"},
    {"height_mm": 1700.0, "root": "size_prior", "sigma_mm": 60.0, "weight_anchor": 0.5},
]
FROM_THE_COMMAND_LINE = [
    ["tto.latent=tail", "tto.module=linear_stages.1", "tto.flip=true"],
    ["tto.root=oracle", "tto.solver=gn", "tto.steps=1", "tto.trust=1", "tto.discrepancy=true", "tto.noise_px=3"],
]


@pytest.mark.parametrize("options", ACCEPTED, ids=str)
def test_options_do_something(options, people, small_lifter):
    """Each setting refines, and not as the default does."""
    lifter, guess, results = small_lifter().double().eval(), first_guess(people), []
    for config in (TTOConfig(steps=1), TTOConfig(steps=1, **options)):
        stage = TTO(config)
        stage.calibrate(lifter, people)
        results.append(stage.refine(lifter, people.unlabelled(), guess).poses)
        assert bool(results[-1].isfinite().all())
        assert float((results[-1] - guess.poses).norm(dim=-1).mean()) > 1e-3
    assert not torch.allclose(*results)


@pytest.mark.parametrize("words", FROM_THE_COMMAND_LINE, ids=lambda words: words[0])
def test_options_are_accepted_at_the_command_line(words, tmp_path, capsys):
    assert adapt.main([*TINY, *words, f"out={tmp_path}"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert ("TTO (oracle root)" in said) == ("tto.root=oracle" in words)
    assert ("is run again" in said) == any("module" in word for word in words)


REFUSED = [
    ({"latent": "features"}, "Did you mean 'feature'"),
    ({"latent": "tail"}, "needs tto.module"),
    ({"module": "head"}, "tto.module=head is for"),
    ({"flip": True}, "runs no network"),
    ({"latent": "input", "solver": "gn"}, "moves the pose itself"),
    ({"solver": "gn", "anchor": "published"}, "smooth anchor"),
    ({"camera": "weak", "root": "ground"}, "has no root"),
    ({"resize": True}, "needs tto.root"),
    ({"reprojection": "l1"}, "huber"),
    ({"anchor": "gauss"}, "mahalanobis"),
    ({"camera": "fisheye"}, "pinhole"),
    ({"trust": -1.0}, "trust"),
    ({"robust": 0.0}, "robust"),
    ({"directions": 0}, "directions"),
    ({"path_frames": 0.0}, "path_frames"),
    ({"weight_jerk": float("nan")}, "weight_jerk"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TTOConfig(**options)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there_is_one_line_at_the_command_line(tmp_path, capsys):
    words = ["tto.latent=tail", "tto.module=linear_stages.9", f"out={tmp_path}"]
    assert adapt.main([*TINY, *words]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert "linear_stages.1" in said[-1]  # beside the progress that was printed before
    assert not any("Traceback" in line for line in said)


def test_uao_as_published_runs_on_the_stand_ins_and_is_flagged(tmp_path, capsys):
    words = ["experiment=uao", "lifter.channels=4", "lifter.blocks=1", f"out={tmp_path}", "name=tiny"]
    small = [word for word in TINY if not word.startswith(("lifter", "stages"))]
    assert adapt.main([*small, *words]) == 0, capsys.readouterr().err
    assert "+ TTO (oracle root)" in capsys.readouterr().out
    (results,) = tmp_path.rglob("results.json")
    assert "+ TTO (oracle root)" in json.loads(results.read_text())["results"]["rows"]


def test_predict_refines_with_the_same_options(tmp_path, capsys, tiny_target):
    from poseda.data.archive import save_archive

    lifter = create_lifter("simplebaseline", seed=0, hidden=8)
    save_lifter(tmp_path / "lifter.safetensors", lifter, {})
    confidence = tiny_target.confidence.clone()
    confidence[:, 4] = 0
    clips = tiny_target.with_keypoints(tiny_target.keypoints, confidence, "made").limit(60)
    save_archive(tmp_path / "clips.safetensors", clips)
    words = [f"checkpoint={tmp_path / 'lifter.safetensors'}", f"input={tmp_path / 'clips.safetensors'}", "threads=1"]
    poses = []
    for number, options in enumerate((["refine=false"], ["refine=true"], ["refine=true", "tto.steps=0"])):
        output = tmp_path / f"poses{number}.json"
        assert predict.main([*words, *options, f"output={output}"]) == 0, capsys.readouterr().err
        poses.append(output.read_text())
    assert poses[0] != poses[1]
    assert poses[0] == poses[2]
    assert "60 joints are missing" in capsys.readouterr().out
    assert predict.main([*words, "refine=true", "tto.root=oracle"]) == 1
    assert "only an evaluation has them" in capsys.readouterr().err


def test_stages_ask_for_the_true_root_by_a_hook_and_say_nothing_by_default():
    class Quiet(Stage):
        name, label = "quiet", "Quiet"

    assert not Quiet().wants_oracle_root
    assert Quiet().remark() == ""
    stage = TTO(TTOConfig(root="oracle"))
    assert stage.wants_oracle_root
    stage.take_oracle_root(torch.zeros(3, 3))
    assert stage.oracle_root.shape == (3, 3)


def test_missing_joints_and_hopeless_frames_are_counted(people, small_lifter):
    from poseda.lifters.inference import LiftedClips

    confidence = people.confidence.clone()
    confidence[:, 3] = 0
    confidence[6] = 0
    guess = first_guess(people)
    stage = TTO()
    seen = people.with_keypoints(people.keypoints, confidence, "made").unlabelled()
    refined = stage.refine(small_lifter(), seen, guess)
    assert "64 joints are missing" in stage.remark()
    assert "1 frames have no root before the camera" in stage.remark()
    assert torch.equal(refined.poses[6], guess.poses[6])
    middle = people.keypoints[:, :1]
    behind = people.with_keypoints(2 * middle - people.keypoints, people.confidence, "made")
    stage.refine(small_lifter(), behind.unlabelled(), LiftedClips(guess.poses, guess.sigma))
    assert "have no root before the camera" in stage.remark()
