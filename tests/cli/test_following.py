"""`predict follow=true`: lines, broken lines, growing files, a real pipe, Ctrl-C."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from poseda import predict
from poseda.cli.following import LONGEST_LINE, LineReader, read_lines
from poseda.data.archive import load_archive
from poseda.data.detections.options import DetectionOptions
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.errors import ConfigError, DataError
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips
from poseda.metrics.calibration import get_density
from poseda.skeleton import get_skeleton
from poseda.uncertainty import estimator_class
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.calibrated import Uncertainty
from poseda.uncertainty.files import save_uncertainty
from poseda.uncertainty.recalibration import Recalibration
from poseda.uncertainty.stream import StreamingUncertainty

SIZE = ["width=1000", "height=1000", "focal=[1000]", "layout=h36m17", "threads=1"]
SIZE += ["stream.jump=0", "stream.scale_jump=0"]


def line(keypoints: torch.Tensor, **more: Any) -> str:
    return json.dumps({"keypoints": [[*point, 1.0] for point in keypoints.tolist()], **more})


@pytest.fixture
def lines(archive: Path) -> list[str]:
    """The 12 frames of the archive's two sequences, with a reset between them."""
    keypoints = load_archive(archive).keypoints
    return [*map(line, keypoints[:6]), '{"reset": true}', *map(line, keypoints[6:])]


def poses_of(text: str) -> torch.Tensor:
    return torch.tensor([json.loads(row)["pose"] for row in text.splitlines()])


def test_a_file_is_answered_as_predict_does(archive: Path, checkpoint: Path, lines: list[str], capsys: Any) -> None:
    Path("in.jsonl").write_text("\n".join([*lines[:3], "{not json", "", *lines[3:], '{"keypoints": []}']))
    words = [f"checkpoint={checkpoint}", "follow=true", "input=in.jsonl", "stream.idle=0.1", *SIZE]
    assert predict.main([*words, "output=out.jsonl"]) == 0
    rows = [json.loads(row) for row in Path("out.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [*range(6), *range(7)] and rows[-1]["pose"] is None
    clips, (lifter, _) = load_archive(archive), load_lifter(checkpoint)
    expected = lift_clips(lifter, clips)
    torch.testing.assert_close(torch.tensor([row["pose"] for row in rows[:-1]]), expected.poses, rtol=0, atol=0.01)
    torch.testing.assert_close(torch.tensor([row["sigma"] for row in rows[:-1]]), expected.sigma, rtol=0, atol=0.01)
    assert all(row["root"] is None or len(row["root"]) == 3 for row in rows[:-1])
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[0].startswith("line 4: no JSON: {not json")
    assert "13 frames answered, 1 lines not understood, 2 stretches" in said.err


def test_a_pipe_is_answered_line_by_line_and_ends_cleanly(checkpoint: Path, lines: list[str]) -> None:
    words = [sys.executable, "-m", "poseda.predict", f"checkpoint={checkpoint}", "follow=true", "input=-", *SIZE]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    for number in range(3):  # each answer is there before the next question is asked
        process.stdin.write(lines[number] + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["frame"] == number
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert process.stderr.read().splitlines() == [
        "interrupted",
        "3 frames answered, 0 lines not understood, 1 stretches without a reset.",
    ]
    process.stdin.close()
    process.stdout.close()
    process.stderr.close()


def test_learning_along_the_stream_changes_poses_and_ends_with_a_reset(
    archive: Path, lines: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    lifter, clips = create_lifter("simplebaseline", seed=0, hidden=8, blocks=1), load_archive(archive)
    with torch.no_grad():  # poses that a root before the camera fits: there is something to learn from
        lifter.w2.weight.mul_(0.01)
        lifter.w2.bias.copy_(((clips.poses[0] - clips.poses[0, :1])[1:] / 1000).flatten())
    save_lifter("standing.safetensors", lifter, {"data": "none"})
    for words in ([], ["stream.adapt=iso"]):
        text = "\n".join([lines[0], lines[0], '{"reset": true}', lines[0], lines[0]]).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert predict.main(["checkpoint=standing.safetensors", "follow=true", "input=-", *SIZE, *words]) == 0
        found.append(poses_of(capsys.readouterr().out))
    assert not torch.equal(*found) and bool(found[1].isfinite().all())
    assert torch.equal(found[1][:2], found[1][2:])


def test_a_calibrated_file_says_of_a_stream_what_it_says_of_the_whole_file(
    archive: Path, checkpoint: Path, lines: list[str]
) -> None:
    clips, (lifter, _) = load_archive(archive), load_lifter(checkpoint)
    seen = Lifting.of(lifter, clips)
    estimator = estimator_class("own")(estimator_class("own").Config(), lifter)
    scale = torch.linspace(0.5, 2, 16)
    reference = torch.full((17,), 5.0)
    found = Uncertainty(estimator, get_density("laplace"), False, Recalibration("temperature", scale), reference)
    save_uncertainty("own.safetensors", found, lifter, {})
    Path("in.jsonl").write_text("\n".join(lines))
    words = [f"checkpoint={checkpoint}", "follow=true", "input=in.jsonl", "stream.idle=0.1", *SIZE]
    assert predict.main([*words, "output=out.jsonl", "uncertainty=own.safetensors"]) == 0
    rows = [json.loads(row) for row in Path("out.jsonl").read_text().splitlines()]
    expected = found.of(seen).lifted()
    for key in ("sigma", "radius90"):
        told = torch.tensor([row[key] for row in rows])
        torch.testing.assert_close(told, getattr(expected, key), rtol=1e-3, atol=0.01)


def test_what_looks_at_whole_clips_cannot_follow(checkpoint: Path, capsys: Any) -> None:
    lifter = load_lifter(checkpoint)[0]
    cls = estimator_class("flip")
    found = Uncertainty(cls(cls.Config(), lifter), get_density("laplace"), False, None, torch.ones(17))
    with pytest.raises(ConfigError, match="whole clips"):
        StreamingUncertainty(found, lifter)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["input=-", "uncertainty=none.safetensors"], "no such file"),
        (["input=-", "inflate=true"], "uncertainty=FILE"),
        (["input=clip.mp4"], "input=FILE.jsonl"),
        (["input=none.jsonl"], "no such file"),
        (["input=-", "output=poses.npz2"], "output=FILE.jsonl"),
        (["input=-", "refine=true"], "leave them out"),
        (["input=-", "person=longest"], "person has no meaning"),
        (["input=-", "flip=true", "stream.adapt=iso"], "leave flip out"),
        (["input=-", "stream.latency=full"], "half_window"),
    ],
)
def test_what_a_stream_cannot_have_is_said_in_one_line(
    checkpoint: Path, words: list[str], message: str, capsys: Any
) -> None:
    assert predict.main([f"checkpoint={checkpoint}", "follow=true", "width=10", "height=10", *words]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_closed_stream_is_told_in_one_line(
    name: str, checkpoint: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, name, None)  # as Python has it after <&- or >&-
    assert predict.main([f"checkpoint={checkpoint}", "follow=true", "input=-", *SIZE]) == 1
    error = capsys.readouterr().err.strip()
    assert "is closed; give " in error and "\n" not in error


def test_the_size_of_the_image_must_be_said(checkpoint: Path, capsys: Any) -> None:
    assert predict.main([f"checkpoint={checkpoint}", "follow=true", "input=-"]) == 1
    assert "give width= in pixels" in capsys.readouterr().err


def reader(**options: Any) -> LineReader:
    return LineReader(DetectionOptions(**options), get_skeleton("h36m17"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "JSON object"),
        ("\\xff", "no JSON"),
        ("{}", "keypoints"),
        ('{"keypoints": 3}', r"\[\[x, y, confidence\]"),
        ('{"keypoints": [[1, 2]]}', r"\[\[x, y, confidence\]"),
        ('{"keypoints": [["a", 2, 1]]}', "keypoints"),
        ('{"keypoints": [[1, 2, 1]]}', "layout="),
        (json.dumps({"keypoints": [[1, 2, 3]] * 17}), r"outside \[0, 1\]"),
        (json.dumps({"keypoints": [[1, 2, 1]] * 17, "frame": "x"}), "whole number"),
        (json.dumps({"keypoints": [[1, 2, 1]] * 17, "frame": -1}), "above the last"),
    ],
)
def test_broken_lines_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        reader().read(text.encode())
    assert "\n" not in str(caught.value)


def test_lines_count_on_unless_they_say_their_frame() -> None:
    lines, some = reader(), [[1, 2, 1]] * 17
    asked = [json.dumps({"keypoints": some, **more}).encode() for more in ({}, {}, {"frame": 9}, {})]
    assert [lines.read(text).number for text in asked] == [0, 1, 9, 10]
    assert lines.read(b'{"reset": true}').reset
    assert lines.read(json.dumps({"keypoints": some}).encode()).number == 0


def test_joints_below_the_confidence_asked_for_are_missing_and_coco_becomes_human36m() -> None:
    points = [[float(n), 2.0 * n, 0.9] for n in range(17)]
    points[9][2] = 0.1  # COCO's left wrist
    found = reader(min_confidence=0.3).read(json.dumps({"keypoints": points}).encode())
    names = get_skeleton("h36m17").joints
    assert found.keypoints is not None and found.confidence is not None
    assert float(found.confidence[names.index("lwrist")]) == 0
    assert found.keypoints[names.index("lelbow")].tolist() == [7.0, 14.0]
    assert reader().read(json.dumps({"keypoints": [[5, 5, 0.9]] * 3 + [[5, 5, 0]] * 14}).encode()).keypoints is None


def test_long_lines_are_dropped_without_being_kept() -> None:
    source = io.BytesIO(b"a\n" + b"x" * (3 * LONGEST_LINE) + b"\n\nb")
    assert list(read_lines(source, 0, growing=False)) == [(1, b"a\n"), (2, None), (4, b"b")]


def test_a_growing_file_is_waited_for_and_half_lines_are_put_together() -> None:
    source, more = io.BytesIO(b'{"a"'), [b": 1}\n", b"", b"last"]

    def wait(_: float) -> None:
        if more:
            place = source.tell()
            source.seek(0, io.SEEK_END)
            source.write(more.pop(0))
            source.seek(place)

    assert list(read_lines(source, 0.2, growing=True, wait=wait)) == [(1, b'{"a": 1}\n'), (2, b"last")]
