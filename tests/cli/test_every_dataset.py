"""Every layout of every raw data set from the command line: prepared, looked at by the doctor, and scored."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poseda import evaluate, prepare
from poseda.cli import preparing
from poseda.data.archive import load_archive
from poseda.data.clips import LabelledClips
from poseda.data.prepare import list_raw_datasets, raw_reader
from poseda.data.recordings import RawDataset, Unit
from tests.cli.raw_cases import CASES, Array, Written


def found_in(output: Path) -> Iterator[tuple[str, LabelledClips, int, int]]:
    """Sequences of both archives: name, the clips that have it, its first frame, and the one after its last."""
    for path in sorted(output.glob("*.safetensors")):
        clips = load_archive(path)
        assert isinstance(clips, LabelledClips)
        bounds = clips.bounds.tolist()
        for sequence, start, stop in zip(clips.sequences, bounds[:-1], bounds[1:], strict=True):
            yield sequence.name, clips, start, stop


def shared_joints(clips: LabelledClips, joints: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Places of the joints that both name, in the archive and in the known poses."""
    both = [joint for joint in clips.skeleton.joints if joint in joints]
    assert len(both) >= 14
    return [clips.skeleton.index(joint) for joint in both], [joints.index(joint) for joint in both]


def assert_seen(output: Path, written: Written) -> None:
    """The archives hold each known sequence, joint by joint of the same name."""
    missing = set(written.seen)
    for name, clips, start, stop in found_in(output):
        if name in written.seen:
            ours, known = shared_joints(clips, written.joints)
            poses, expected = clips.poses[start:stop, ours], written.seen[name][:, known]
            np.testing.assert_allclose(poses, expected, rtol=0, atol=written.within, err_msg=name)
            missing.remove(name)
    assert not missing


def assert_on_the_floor(output: Path, written: Written) -> None:
    """Each known take is seen by a camera from its first frame on, with the figure that it has there."""
    missing = set(written.world)
    for name, clips, start, _ in found_in(output):
        take, _, piece = name.partition("/camera")
        if take in written.world and piece.endswith("/piece0"):
            camera = clips.cameras_at(torch.tensor([start])).to(dtype=torch.float64)
            points = camera.camera_to_world(clips.poses[start, None, None].double())[0, 0].numpy()
            ours, known = shared_joints(clips, written.joints)
            assert_same_figure(points[ours], written.world[take][known], written.within)
            missing.discard(take)
    assert not missing


def assert_same_figure(points: Array, known: Array, within: float) -> None:
    """Two poses (J, 3) mm, z up, are the same but for where they stand and which way they face."""
    np.testing.assert_allclose(points[:, 2], known[:, 2], rtol=0, atol=within)
    away, wanted = (np.linalg.norm(pose[:, None] - pose[None], axis=-1) for pose in (points, known))
    np.testing.assert_allclose(away, wanted, rtol=0, atol=within)


@pytest.mark.parametrize("name", CASES)
def test_raw_to_archives_to_a_page_to_numbers(name: str, checkpoint: Path, capsys: Any) -> None:
    raw, output = Path("raw").resolve(), Path("prepared")
    raw.mkdir()
    written = CASES[name].write(raw)
    assert prepare.main([f"dataset={CASES[name].dataset}", f"raw={raw}", f"output={output}", *written.options]) == 0
    said = capsys.readouterr().out
    assert written.said in said and "licence: " in said and not (output / ".parts").exists()
    assert_seen(output, written)
    assert_on_the_floor(output, written)
    for check, said in (
        ([f"check={output}"], "made from: "),
        ([f"check={raw}", f"dataset={CASES[name].dataset}", *written.options], "licence: "),
    ):
        code, page = prepare.main(check), capsys.readouterr()  # random figures may well look wrong to the doctor
        assert said in page.out and "Traceback" not in page.err + page.out
        assert code == (1 if "error: " in page.err else 0)
    words = [f"checkpoint={checkpoint}", "target=archive", f"target.path={output / written.test}"]
    assert evaluate.main([*words, "output=numbers.json", "threads=1"]) == 0
    numbers = json.loads(Path("numbers.json").read_text())["results"]["target"]["values"]
    assert math.isfinite(numbers["mpjpe"])


def test_every_layout_that_a_reader_lists_has_a_case() -> None:
    lines = {(name, line) for name in list_raw_datasets() for line in raw_reader(name).LAYOUTS}
    tried = {(case.dataset, start) for case in CASES.values() for start in case.lines}
    untried = {(name, line) for name, line in lines if not any(name == of and line.startswith(s) for of, s in tried)}
    assert not untried
    assert all(any(name == of and line.startswith(start) for of, line in lines) for name, start in tried)


def test_cmu_s_index_names_what_is_done() -> None:
    raw = Path("raw")
    raw.mkdir()
    CASES["cmu_asf_amc"].write(raw)
    assert prepare.main(["dataset=cmu", f"raw={raw}", "output=prepared"]) == 0
    actions = {action for _, clips, _, _ in found_in(Path("prepared")) for action in clips.actions}
    assert actions == {"walk on a line", "run"}


def test_an_interrupted_preparation_says_how_to_go_on_and_does(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    reads: list[str] = []
    open_raw_dataset = preparing.open_raw_dataset

    def read(unit: Unit) -> Any:
        reads.append(unit.name)
        if len(reads) == 2:
            raise KeyboardInterrupt
        return unit.read()

    def opened(*words: Any) -> RawDataset:
        dataset = open_raw_dataset(*words)
        units = tuple(dataclasses.replace(unit, read=partial(read, unit)) for unit in dataset.units)
        return dataclasses.replace(dataset, units=units)

    monkeypatch.setattr(preparing, "open_raw_dataset", opened)
    raw = Path("raw")
    raw.mkdir()
    written = CASES["mpi_test"].write(raw)
    assert prepare.main(["dataset=3dhp", f"raw={raw}", "output=prepared", "cameras=[]"]) == 130
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("Interrupted. To go on where it stopped: python -m poseda.prepare dataset=3dhp")
    assert not Path("prepared/test.safetensors").exists() and Path("prepared/.parts/00000.safetensors").is_file()
    again = shlex.split(said[-1].partition("poseda.prepare ")[2])
    assert prepare.main(again) == 0
    assert reads == ["TS1", "TS6", "TS6"]  # what was read is not read again
    assert_seen(Path("prepared"), written)
    assert not Path("prepared/.parts").exists()
