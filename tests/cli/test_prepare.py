"""prepare, adapt to a detector's keypoints, and predict, from the command line, on small files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from poseda import adapt, evaluate, predict, prepare
from poseda.data.archive import load_archive, open_archive
from poseda.data.mocap.bvh import read_bvh
from poseda.geometry.rigs import load_rig
from poseda.skeleton import get_skeleton

SMALL = ["lifter.hidden=8", "lifter.blocks=1", "train.steps=3", "train.batch_size=4"]
SMALL += ["adapt.steps=3", "adapt.batch_size=4"]


def body(frames: int, seed: int) -> np.ndarray[Any, Any]:
    """Upright people of 32 joints who stand in the middle of the Human3.6M rig: (T, 32, 3) metres."""
    random = np.random.default_rng(seed)
    heights = np.linspace(0.1, 1.7, 32)[None, :, None] * np.array([0.0, 0.0, 1.0])
    still = heights + random.normal(0, 0.1, (1, 32, 3))
    return (still + random.normal(0, 0.01, (frames, 32, 3))).astype(np.float32)


@pytest.fixture
def raw() -> Path:
    """data_3d_h36m.npz of two people, as VideoPose3D keeps it."""
    people = {name: {"Walking": body(12, number)} for number, name in enumerate(("S1", "S9"))}
    path = Path("raw")
    path.mkdir()
    np.savez(path / "data_3d_h36m.npz", positions_3d=np.array(people, dtype=object))
    return path


@pytest.fixture
def detections(archive: Path) -> Path:
    """COCO results of one person, a frozen pose of the archive, who glides through 20 frames of a 1000 x 1000 video."""
    clips = load_archive(archive)
    still = {joint: clips.keypoints[0, j].numpy() for j, joint in enumerate(clips.skeleton.joints)}
    face = {name: still["head"] for name in ("leye", "reye", "lear", "rear")}
    body = np.stack([(still | face)[joint] for joint in get_skeleton("coco17").joints])
    entries = []
    for frame in range(20):
        points = np.concatenate([body + np.array([2 * frame, 0]), np.full((17, 1), 0.9)], axis=1)
        entries.append({"image_id": frame, "category_id": 1, "keypoints": points.flatten().tolist(), "score": 0.9})
    path = Path("results.json")
    path.write_text(json.dumps(entries))
    return path


def test_a_raw_data_set_becomes_archives_that_the_other_commands_find(raw: Path, checkpoint: Path, capsys: Any) -> None:
    assert prepare.main(["dataset=h36m", f"raw={raw}"]) == 0
    said = capsys.readouterr().out
    for part in ("VideoPose3D", "data/h36m/test.safetensors: 48 frames", "licence: Human3.6M", "Use it: target=h36m"):
        assert part in said
    clips = load_archive("data/h36m/test.safetensors")
    camera = clips.cameras[clips.sequences[0].camera]
    world = camera.to(dtype=torch.float64).camera_to_world(clips.poses[:1].double())  # type: ignore[union-attr]
    expected = torch.from_numpy(body(12, 1)[0, [0, 1, 2, 3]] * 1000.0).double()
    torch.testing.assert_close(world[0, :4], expected, rtol=0, atol=0.01)
    assert clips.provenance.kind == "real" and open_archive("data/h36m/train.safetensors").record["read"] == 96
    assert evaluate.main([f"checkpoint={checkpoint}", "target=h36m", "data.require=real"]) == 0
    assert "real" in capsys.readouterr().out


def test_check_looks_at_archives_and_at_raw_data(raw: Path, capsys: Any) -> None:
    prepare.main(["dataset=h36m", f"raw={raw}"])
    capsys.readouterr()
    prepare.main(["check=data/h36m"])
    archives = capsys.readouterr()
    prepare.main([f"check={raw}", "dataset=h36m"])
    unprepared = capsys.readouterr()
    for said in (archives, unprepared):
        assert "48 frames" in said.out.replace(",", "") or "96 frames" in said.out.replace(",", "")
        assert "Human3.6M" in said.out
    assert "made from:" in archives.out and not Path("raw/.parts").exists()


def test_metres_in_an_archive_are_found_and_said_in_a_line(archive: Path, capsys: Any) -> None:
    from tests.cli.conftest import rewrite

    metres = rewrite(archive, lambda tensors: tensors["poses"].div_(1000.0))
    assert prepare.main([f"check={metres}"]) == 1
    said = capsys.readouterr()
    assert "metres" in said.out and "error: " in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give raw=FILE_OR_FOLDER with dataset=NAME to prepare, or check="),
        (["raw=raw"], "dataset=NAME says what it is"),
        (["raw=nowhere", "dataset=h36m"], "raw=nowhere: there is no such file or folder"),
        (["raw=raw", "dataset=h36n"], "Did you mean 'h36m'"),
        (["raw=raw", "dataset=3dhp"], "raw: holds nothing of MPI-INF-3DHP"),
        (["raw=raw", "dataset=h36m", "body_model=x"], "body_model has no meaning for dataset=h36m"),
        (["raw=raw", "dataset=cmu", f"seed={2**32}"], "below 2**32"),
        (["check=raw", "output=x"], "check= writes nothing"),
        (["check=raw"], "raw data want dataset=NAME"),
    ],
)
def test_mistakes_end_in_one_line(raw: Path, words: list[str], message: str, capsys: Any) -> None:
    assert prepare.main(words) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said and len(said.strip().splitlines()) == 1


def test_a_detector_s_file_is_adapted_to_and_poses_are_written(archive: Path, detections: Path, capsys: Any) -> None:
    words = ["source=archive", f"source.path={archive}", "target=keypoints", f"target.path={detections}"]
    words += ["target.width=1000", "target.height=1000", *SMALL]
    words += ["lifter.hidden=64", "train.steps=150", "train.batch_size=12"]
    assert adapt.main(words) == 0
    said = capsys.readouterr().out
    for part in ("COCO", "reprojection px", "+ TTO", "focal length", "cannot be told without labels"):
        assert part in said
    folder = Path("runs/good-results/default/seed0")
    with np.load(folder / "poses.npz", allow_pickle=False) as file:
        assert file["poses"].shape == (20, 17, 3) and np.isfinite(file["poses"]).all()
        assert file["root"].shape == (20, 3)
    assert (folder / "plots" / "skeletons.png").is_file() and not (folder / "plots" / "stages.png").exists()
    rows = json.loads((folder / "results.json").read_text())["results"]["rows"]
    assert set(rows["+ TTO"]["values"]) == {"reprojection", "symmetry", "constancy", "jitter"}
    assert rows["+ TTO"]["values"]["reprojection"] < rows["+ GPA"]["values"]["reprojection"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["oracle=true"], "oracle=true needs labels, and results has none"),
        (["target.test_subjects=[S1]"], "is not split in two; leave train_subjects and test_subjects out"),
        (["target.rig=h36m"], "rig has no meaning for keypoints"),
        (["target.width=0"], "width"),
    ],
)
def test_what_needs_labels_is_refused_for_keypoints(
    archive: Path, detections: Path, words: list[str], message: str, capsys: Any
) -> None:
    start = ["source=archive", f"source.path={archive}", "target=keypoints", f"target.path={detections}", *SMALL]
    assert adapt.main([*start, "target.width=1000", "target.height=1000", *words]) == 1
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1


def test_predict_lifts_a_detector_s_file_to_json_bvh_and_an_animation(
    detections: Path, checkpoint: Path, capsys: Any
) -> None:
    words = [f"checkpoint={checkpoint}", f"input={detections}", "width=1000", "height=1000", "fps=25"]
    assert predict.main([*words, "output=poses.json", "animation=poses.gif"]) == 0
    assert "COCO" in capsys.readouterr().out
    found = json.loads(Path("poses.json").read_text())
    assert len(found["poses"]) == 20 and found["joints"][0] == "pelvis" and found["units"] == "mm"
    with Image.open("poses.gif") as picture:
        assert picture.n_frames == 10 and picture.info["duration"] == 80  # type: ignore[attr-defined]
    assert predict.main([*words, "output=poses.bvh", "refine=true"]) == 0
    motion = read_bvh(Path("poses.bvh"))
    assert motion is not None and "poses.bvh: 20 frames" in capsys.readouterr().out


def test_an_archive_s_camera_cannot_be_overruled(archive: Path, checkpoint: Path, capsys: Any) -> None:
    assert predict.main([f"checkpoint={checkpoint}", f"input={archive}", "width=640"]) == 1
    assert "width has no meaning for an archive" in capsys.readouterr().err
    assert predict.main([f"checkpoint={checkpoint}", f"input={archive}", "output=poses.txt"]) == 1
    assert "output=poses.txt must end in .npz or .json or .bvh" in capsys.readouterr().err


def test_the_help_lists_every_data_set_with_its_layouts(capsys: Any) -> None:
    assert prepare.main(["--help"]) == 0
    said = capsys.readouterr().out
    for part in ("MPI-INF-3DHP", "data_3d_h36m.npz", "allasfamc", "check=", "docs/datasets.md", "body_model="):
        assert part in said


def test_the_rig_s_cameras_are_those_of_the_subject(raw: Path) -> None:
    prepare.main(["dataset=h36m", f"raw={raw}", "cameras=[54138969]"])
    rig = load_rig("h36m")
    clips = load_archive("data/h36m/test.safetensors")
    expected = rig.cameras[rig.groups["S9"][0]]
    torch.testing.assert_close(clips.cameras.fx, expected.fx, rtol=0, atol=1e-3)
