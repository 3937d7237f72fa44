"""Exported programs give the lifter's poses, at any batch, and say what they take."""

import json

import pytest
import torch

from poseda.data.clips import Provenance, Sequence, UnlabelledClips
from poseda.engine import export as module
from poseda.engine.checkpoint import save_lifter
from poseda.engine.export import export_lifter
from poseda.errors import ConfigError
from poseda.export import main
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.lifters import create_lifter, list_lifters
from poseda.lifters.inference import lift_clips
from tests.lifters.test_every_lifter import SMALL

SHALLOW = {
    "semgcn": {"blocks": 1},
    "gumlp": {"blocks": 1},
    "glagcn": {"frames": 3},
    "convformer": {"spatial_blocks": 1, "temporal_blocks": 1},
    "videopose3d": {"frames": 3},
    "mixste": {"depth": 1},
    "ktpformer": {"depth": 1},
    "motionbert": {"depth": 1},
    "motionagformer": {"layers": 1},
    "poseformer": {"depth": 1},
    "poseformerv2": {"depth": 1},
    "hot": {"depth": 2},
}
"""One layer of each kind: tracing takes its time for every layer."""


def tiny(name, **options):
    return create_lifter(name, seed=0, **SMALL[name] | SHALLOW.get(name, {}) | options)


ATTENTION = {"convformer", "mixste", "ktpformer", "motionbert", "motionagformer", "poseformer", "poseformerv2"}
ATTENTION |= {"hot", "hot_motionbert", "hot_motionagformer"}


@pytest.mark.parametrize("name", list_lifters())
@torch.no_grad()
def test_every_lifter_can_be_traced_and_only_attention_limits_the_batch(name):
    lifter = tiny(name).eval()
    keypoints = torch.rand(5, lifter.frames, 17, 2)
    expected = lifter(keypoints)
    traced, most = module._traced(lifter)
    assert most == (65535 // lifter.frames if name in ATTENTION else None)
    program = traced.module()
    for batch in (1, 5):
        poses, sigma = program(keypoints[:batch])
        torch.testing.assert_close(poses, expected.pose[:batch], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(sigma, expected.log_sigma.exp()[:batch], rtol=1e-4, atol=1e-2)


VARIANTS = [
    ("semgcn", {"non_local": True}),
    ("motionbert", {"units": "image"}),
    ("videopose3d", {"frames": 1}),
    ("convformer", {"padding": "circular", "mixing": "sum"}),
    ("hot", {"ties": "none"}),
    ("mixste", {"prior": "ktp"}),
    ("poseformer", {"prior": "ktp"}),
]
"""Options that put other operations into the program."""


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_variants_are_written_and_read_back(name, options, tmp_path):
    assert export_lifter(tiny(name, **options), tmp_path / "lifter.pt2").difference_mm <= 1e-3


SEEN = [("screen", True), ("cliff", True), ("canonical", False), ("pcl", False), ("perspective", False)]


@pytest.mark.parametrize(("view", "confidence"), SEEN)
def test_a_program_makes_the_view_by_itself(view, confidence, tmp_path):
    """Its poses are those that the library lifts of the same clips: other cameras, lenses, missing joints."""
    lifter = tiny("simplebaseline", view=view, confidence=confidence).eval()
    cameras = Camera.cat([load_rig(name).cameras for name in ("3dhp_ts5-6", "3dhp_ts1-4", "h36m")])[:6]
    generator = torch.Generator().manual_seed(3)
    keypoints = 200 + 600 * torch.rand(6, 17, 2, generator=generator)
    sure = (torch.rand(6, 17, generator=generator) - 0.3).clamp_min(0)
    clips = UnlabelledClips(
        keypoints=keypoints, confidence=sure, bounds=torch.arange(7), cameras=cameras, skeleton=lifter.skeleton,
        sequences=tuple(Sequence(str(n), "somebody", "", n) for n in range(6)), fps=25.0,
        provenance=Provenance(name="made", kind="stand-in", licence="none", label_scale="metric", keypoints="gt"),
    )  # fmt: skip
    expected = lift_clips(lifter, clips, flip=False)
    export_lifter(lifter, tmp_path / "lifter.pt2")
    said = json.loads((tmp_path / "lifter.pt2.json").read_text())["inputs"]
    numbers = {f"k{n + 1}": cameras.radial[:, n] for n in range(3)}
    numbers |= {f"p{n + 1}": cameras.tangential[:, n] for n in range(2)}
    camera = torch.stack([numbers[n] if n in numbers else getattr(cameras, n) for n in said["camera"]["what"]], -1)
    program = torch.export.load(tmp_path / "lifter.pt2").module()
    poses, sigma = program(keypoints[:, None], sure[:, None], camera)
    torch.testing.assert_close(poses[:, 0], expected.poses, rtol=0, atol=0.05)
    assert expected.sigma is not None
    torch.testing.assert_close(sigma[:, 0], expected.sigma, rtol=1e-4, atol=1e-2)


def test_an_exported_program_runs_without_the_lifter(tmp_path):
    lifter = tiny("simplebaseline")
    export_lifter(lifter, tmp_path / "lifter.pt2")
    program = torch.export.load(tmp_path / "lifter.pt2").module()
    keypoints = torch.rand(3, 1, 17, 2)
    with torch.no_grad():
        expected = lifter.eval()(keypoints)
    poses, sigma = program(keypoints)
    torch.testing.assert_close(poses, expected.pose)
    torch.testing.assert_close(sigma, expected.log_sigma.exp())


@pytest.mark.parametrize("name", ["semgcn", "hot"])
def test_onnx_programs_give_the_same_poses(name, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    lifter = tiny(name)
    assert export_lifter(lifter, tmp_path / "lifter.onnx").difference_mm <= 0.05
    session = runtime.InferenceSession(str(tmp_path / "lifter.onnx"), providers=["CPUExecutionProvider"])
    keypoints = torch.rand(4, lifter.frames, 17, 2)
    with torch.no_grad():
        expected = lifter.eval()(keypoints).pose
    poses = session.run(["poses"], {"keypoints": keypoints.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(poses), expected, rtol=1e-4, atol=0.05)
    properties = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "lifter.onnx")).metadata_props}
    assert json.loads(properties["poseda"])["lifter"] == name


def test_the_description_says_what_goes_in_and_comes_out(tmp_path):
    lifter = create_lifter("simplebaseline", seed=0, hidden=8, sigma=False)
    written = export_lifter(lifter, tmp_path / "lifter.pt2")
    said = json.loads(written.description.read_text())
    assert said["joints"] == list(lifter.skeleton.joints)
    assert said["normalisation"] == "screen-width" and said["units"] == "mm" and said["frames"] == 1
    assert said["inputs"]["keypoints"]["shape"] == ["batch", 1, 17, 2]
    assert list(said["outputs"]) == ["poses"]
    extra = {"poseda.json": ""}
    torch.export.load(tmp_path / "lifter.pt2", extra_files=extra)
    assert json.loads(extra["poseda.json"])["lifter"] == "simplebaseline"


def test_a_program_that_differs_from_its_lifter_is_not_written(tmp_path, monkeypatch):
    as_pt2 = module._FORMATS[".pt2"]

    def shifted(program, description):
        data, run = as_pt2(program, description)
        return data, lambda inputs: [output + 0.1 for output in run(inputs)]

    monkeypatch.setitem(module._FORMATS, ".pt2", shifted)
    with pytest.raises(ConfigError, match=r"not written, .* up to 0\.1 mm from the lifter"):
        export_lifter(create_lifter("simplebaseline", seed=0, hidden=8), tmp_path / "lifter.pt2")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_both_files_and_prints_the_difference(tmp_path, capsys):
    lifter = create_lifter("simplebaseline", seed=0, hidden=8)
    save_lifter(tmp_path / "lifter.safetensors", lifter, {})
    words = [f"checkpoint={tmp_path}/lifter.safetensors", f"output={tmp_path}/program.pt2"]
    assert main(words) == 0
    assert "mm from the lifter on random keypoints" in capsys.readouterr().out
    assert (tmp_path / "program.pt2").is_file() and (tmp_path / "program.pt2.json").is_file()
    assert main([words[0], "output=program.tflite"]) == 1
    assert "output=program.tflite must end in .pt2 or .onnx" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "output" in capsys.readouterr().out


def test_the_most_windows_are_said_where_attention_limits_them(tmp_path, capsys):
    save_lifter(tmp_path / "lifter.safetensors", tiny("mixste"), {})
    assert main([f"checkpoint={tmp_path}/lifter.safetensors", f"output={tmp_path}/program.pt2"]) == 0
    assert "up to 7281 windows at a time" in capsys.readouterr().out
    assert json.loads((tmp_path / "program.pt2.json").read_text())["max_batch"] == 7281
    program = torch.export.load(tmp_path / "program.pt2").module()
    assert program(torch.rand(3, 9, 17, 2))[0].shape == (3, 9, 17, 3)
    with pytest.raises(AssertionError):
        program(torch.zeros(7282, 9, 17, 2))


def test_a_program_without_attention_takes_more_than_a_kernel_would(tmp_path):
    written = export_lifter(create_lifter("simplebaseline", seed=0, hidden=8), tmp_path / "lifter.pt2")
    assert written.max_batch is None and "max_batch" not in json.loads(written.description.read_text())
    program = torch.export.load(tmp_path / "lifter.pt2").module()
    assert program(torch.zeros(70_000, 1, 17, 2))[0].shape == (70_000, 1, 17, 3)


def test_a_file_with_the_programs_stem_is_left_alone(tmp_path):
    (tmp_path / "results.json").write_text("a run's")
    written = export_lifter(create_lifter("simplebaseline", seed=0, hidden=8), tmp_path / "results.pt2")
    assert (tmp_path / "results.json").read_text() == "a run's"
    assert written.description == tmp_path / "results.pt2.json"


def test_a_lifter_of_another_precision_is_written_in_it(tmp_path):
    lifter = create_lifter("simplebaseline", seed=0, hidden=8).double()
    export_lifter(lifter, tmp_path / "lifter.pt2")
    keypoints = torch.rand(3, 1, 17, 2).double()
    poses, _ = torch.export.load(tmp_path / "lifter.pt2").module()(keypoints)
    with torch.no_grad():
        torch.testing.assert_close(poses, lifter.eval()(keypoints).pose)


@pytest.mark.parametrize("name", ["hot", "hot_motionbert", "hot_motionagformer"])
def test_a_lifter_that_draws_at_random_is_refused_with_what_to_take(name, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_traced", None)
    with pytest.raises(ConfigError, match=f"{name} draws at random in .*ties=random; take ties=first") as caught:
        export_lifter(tiny(name, ties="random"), tmp_path / "lifter.pt2")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.pt2 or \.onnx"):
        export_lifter(create_lifter("simplebaseline", hidden=8), tmp_path / "lifter.pt")
