"""Commands run in this process; a job is caught instead of run where only its options matter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from poseda.data.archive import save_archive
from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.skeleton import get_skeleton


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every command of these tests runs in an empty folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


class Caught(list[Any]):
    """Jobs that reached the work, in order; set `fails` to make the work raise, `does` for what else it is to do."""

    fails: BaseException | None = None
    does: Callable[[], object] = staticmethod(lambda: None)

    def run(self, job: Any, progress: Any) -> Any:
        self.append(job)
        self.does()
        if self.fails is not None:
            raise self.fails
        return SimpleNamespace(table=lambda: "the table", sentence=lambda: "the sentence")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Caught:
    """`poseda.adapt` with its work replaced by one that keeps the job."""
    caught = Caught()
    module = ModuleType("poseda.cli.adaptation")
    module.run_adaptation = caught.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "poseda.cli.adaptation", module)
    return caught


def labelled_clips(frames: int = 6, subjects: tuple[str, ...] = ("S1", "S2")) -> LabelledClips:
    """Random upright stick figures four metres from a camera without distortion, one sequence a subject."""
    generator = torch.Generator().manual_seed(0)
    count = frames * len(subjects)
    poses = 400 * torch.randn(count, 17, 3, generator=generator) + torch.tensor([0.0, 0.0, 4000.0])
    camera = Camera.create(fx=1000.0, fy=1000.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0)
    return LabelledClips(
        keypoints=camera.expand(count).project(poses),
        confidence=torch.ones(count, 17),
        bounds=torch.arange(0, count + 1, frames),
        sequences=tuple(Sequence(f"{name} walk", name, "walk", 0) for name in subjects),
        cameras=camera,
        skeleton=get_skeleton("h36m17"),
        fps=50.0,
        provenance=Provenance("made up", "stand-in", "none", "metric", "gt"),
        poses=poses,
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A good archive with 3D."""
    path = tmp_path / "good.safetensors"
    save_archive(path, labelled_clips())
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny untrained lifter."""
    from poseda.engine.checkpoint import save_lifter

    path = tmp_path / "lifter.safetensors"
    save_lifter(path, create_lifter("simplebaseline", seed=0, hidden=8, blocks=1), {"data": "none"})
    return path


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None], replace: tuple[str, str] = ("", "")) -> Path:
    """A copy of a safetensors file with other tensors, and with one word of its header replaced."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        metadata = {key: value.replace(*replace) if replace[0] else value for key, value in file.metadata().items()}
    change(tensors)
    other = path.with_name(f"changed-{path.name}")
    save_file(tensors, other, metadata=metadata)
    return other
