"""Archives: round trips, the example of the guide, and files that are wrong or hostile."""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from poseda.data.archive import load_archive, save_archive
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.domains import DomainConfig, load_domain
from poseda.data.header import header_fields
from poseda.errors import DataError, MissingDataError
from poseda.skeleton import Skeleton


@pytest.fixture
def parts(make_clips, tmp_path):
    """Path, tensors and header of a good archive, to be spoilt."""
    clips = make_clips()
    save_archive(tmp_path / "good.safetensors", clips)
    return tmp_path / "bad.safetensors", load_file(tmp_path / "good.safetensors"), header_fields(clips)


def write(path, tensors, header, version="1"):
    save_file(tensors, path, metadata={"poseda_archive": version, "header": json.dumps(header)})


@pytest.mark.parametrize("labelled", [True, False])
def test_an_archive_returns_what_was_saved(make_clips, tmp_path, labelled):
    clips = make_clips() if labelled else make_clips().unlabelled()
    save_archive(tmp_path / "a" / "b.safetensors", clips)
    read = load_archive(tmp_path / "a" / "b.safetensors")
    assert type(read) is (LabelledClips if labelled else UnlabelledClips)
    for name in ("keypoints", "confidence", "bounds", *(["poses"] if labelled else [])):
        assert torch.equal(getattr(read, name), getattr(clips, name))
    for name in ("sequences", "skeleton", "fps", "provenance"):
        assert getattr(read, name) == getattr(clips, name)
    for name in ("fx", "cy", "width", "radial", "tangential", "tangential_factor", "R", "t"):
        assert torch.equal(getattr(read.cameras, name), getattr(clips.cameras, name))


def test_a_skeleton_of_ones_own_is_kept(make_clips, tmp_path):
    clips = make_clips()
    skeleton = Skeleton("mine", (*clips.skeleton.joints[:16], "tail"), clips.skeleton.parents)
    save_archive(tmp_path / "a.safetensors", replace(clips, skeleton=skeleton))
    assert load_archive(tmp_path / "a.safetensors").skeleton == skeleton


def test_saving_replaces_a_file_and_leaves_nothing_else(make_clips, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    save_archive(path, make_clips())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert load_archive(path).num_frames == 12


def test_a_failed_save_keeps_the_old_file(make_clips, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("poseda.data.archive.save_file", fail)
    with pytest.raises(OSError, match=r"disk full"):
        save_archive(path, make_clips())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"] and path.read_bytes() == b"old"


def test_the_guides_example_writes_a_readable_archive(tmp_path, monkeypatch, make_clips):
    guide = Path(__file__).resolve().parents[2] / "docs" / "archive.md"
    example = re.search(r"```python\n(.*?)```", guide.read_text(), re.S).group(1)
    monkeypatch.chdir(tmp_path)
    poses = make_clips(lengths=(300,), subjects="A").poses
    np.save("poses_mm.npy", poses.numpy())
    exec(compile(example, str(guide), "exec"), {})
    clips = load_archive("mine.safetensors")
    assert torch.equal(clips.poses, poses)
    projected = clips.cameras.project(clips.poses.unsqueeze(0))[0]
    assert torch.allclose(projected, clips.keypoints, atol=1e-2)
    domain = load_domain(DomainConfig("archive", path="mine.safetensors"), root=os.devnull)
    assert (domain.train.subjects, domain.test.subjects) == (("S1",), ("S2",))


def test_the_guide_names_every_field():
    guide = (Path(__file__).resolve().parents[2] / "docs" / "archive.md").read_text()
    from poseda.data.clips import Provenance
    from poseda.data.header import _CAMERA_SHAPES
    from poseda.skeleton import SKELETONS

    for name in (*_CAMERA_SHAPES, *Provenance.__dataclass_fields__, *SKELETONS, *SKELETONS["h36m17"].joints):
        assert re.search(rf"\b{name}\b", guide), name


def test_a_missing_file_is_missing_data(tmp_path):
    with pytest.raises(MissingDataError, match=r"docs/archive\.md"):
        load_archive(tmp_path / "none.safetensors")


HEADER = struct.pack("<Q", 2) + b"{}"
HOSTILE = {
    "empty": b"",
    "text": b"not an archive at all",
    "a header of 2^62 bytes": struct.pack("<Q", 1 << 62) + b"{}",
    "header not JSON": struct.pack("<Q", 8) + b"[[[[[[[[",
    "no metadata": HEADER,
    "a tensor of 2^40 bytes": (lambda h: struct.pack("<Q", len(h)) + h)(
        json.dumps({"keypoints": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
    ),
    "shape and size disagree": (lambda h: struct.pack("<Q", len(h)) + h + b"1234")(
        json.dumps({"keypoints": {"dtype": "F32", "shape": [1 << 38, 17, 2], "data_offsets": [0, 4]}}).encode()
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"x.safetensors") as error:
        load_archive(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(make_clips, tmp_path, share):
    path = tmp_path / "x.safetensors"
    save_archive(path, make_clips())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"not a readable safetensors file"):
        load_archive(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("keypoints", lambda t: t.double(), "keypoints is float64"),
        ("keypoints", lambda t: t[0], r"keypoints is float32 \(17, 2\); expected float32 with 3 dimensions"),
        ("keypoints", lambda t: t[:, :16].contiguous(), "16 joints; the skeleton h36m17 has 17"),
        ("bounds", lambda t: t.int(), "bounds is int32"),
        ("bounds", lambda t: t * 2, "expected 0 to 12"),
        ("confidence", lambda t: None, "lacks the tensor confidence"),
        ("poses", lambda t: t * float("nan"), "clip0, frame 0 has a 3D joint that is not finite"),
        ("extra", lambda t: torch.zeros(1), "unknown tensor 'extra'"),
    ],
)
def test_a_wrong_tensor_is_named(parts, name, change, message):
    path, tensors, header = parts
    changed = change(tensors.get(name))
    tensors = {key: value for key, value in tensors.items() if key != name}
    write(path, tensors if changed is None else {**tensors, name: changed}, header)
    with pytest.raises(DataError, match=message):
        load_archive(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda h: h.pop("fps"), "header lacks fps"),
        (lambda h: h.update(fps="50"), "fps is '50'; expected a finite number"),
        (lambda h: h.update(fps=float("inf")), "fps is inf"),
        (lambda h: h.update(fps=True), "fps is True"),
        (lambda h: h.update(skeleton="h36m18"), "skeleton 'h36m18' is unknown; known: h36m17"),
        (lambda h: h.update(skeleton={"name": "x", "joints": ["a"]}), "skeleton lacks parents"),
        (lambda h: h.update(skeleton={"name": "x", "joints": ["a", "b"], "parents": [1, 0]}), "Skeleton 'x'"),
        (lambda h: h.update(skeleton={"name": "x", "joints": ["a"], "parents": [0.5]}), "whole numbers"),
        (lambda h: h.update(cameras=[]), "cameras is empty"),
        (lambda h: h.update(cameras={}), "cameras is {}; expected a list"),
        (lambda h: h["cameras"][1].pop("fy"), r"cameras\[1\] lacks fy"),
        (lambda h: h["cameras"][1].update(fx=-1.0), r"cameras\[1\].fx is -1.0; expected a positive"),
        (
            lambda h: h["cameras"][0].update(R=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]),
            r"cameras\[0\].R is not a rot",
        ),
        (lambda h: h["cameras"][0].update(t=[1, 2]), r"cameras\[0\].t is \[1, 2\]; expected a list of 3"),
        (lambda h: h["cameras"][0].update(k1=1), r"cameras\[0\].k1 is unknown"),
        (lambda h: h["sequences"][2].update(camera="0"), r"sequences\[2\].camera is '0'"),
        (lambda h: h["sequences"][2].update(camera=7), "clip2 uses camera 7; there are 2"),
        (lambda h: h["sequences"][0].pop("action"), r"sequences\[0\] lacks action"),
        (lambda h: h["sequences"][0].update(name=3), r"sequences\[0\].name is 3; expected text"),
        (lambda h: h["sequences"].pop(), "2 sequences ask for"),
        (
            lambda h: h["provenance"].update(kind="genuine"),
            "provenance.kind is 'genuine'; expected one of real",
        ),
        (lambda h: h["provenance"].update(label_scale=1), "provenance.label_scale is 1; expected text"),
        (lambda h: h["provenance"].update(colour="red"), "provenance.colour is unknown"),
        (lambda h: h["provenance"].pop("licence"), "provenance lacks licence"),
    ],
)
def test_a_wrong_header_field_is_named(parts, spoil, message):
    path, tensors, header = parts
    spoil(header)
    write(path, tensors, header)
    with pytest.raises(DataError, match=f"bad.safetensors: .*{message}") as error:
        load_archive(path)
    assert "\n" not in str(error.value)


def test_version_and_json_are_checked(parts):
    path, tensors, header = parts
    write(path, tensors, header, version="2")
    with pytest.raises(DataError, match=r"version '2'; this poseda reads version 1"):
        load_archive(path)
    save_file(tensors, path, metadata={"poseda_archive": "1", "header": "{" * 100_000})
    with pytest.raises(DataError, match=r"header is not JSON"):
        load_archive(path)
    save_file(tensors, path, metadata={"poseda_archive": "1", "header": '{"a":' * 100_000})
    with pytest.raises(DataError, match=r"bad\.safetensors"):
        load_archive(path)
    save_file(tensors, path)
    with pytest.raises(DataError, match=r"not a poseda archive"):
        load_archive(path)
    write(path, tensors, [1, 2])
    with pytest.raises(DataError, match=r"expected an object"):
        load_archive(path)


def test_a_missing_optional_field_has_its_default(parts):
    path, tensors, header = parts
    for camera in header["cameras"]:
        for name in ("radial", "tangential", "tangential_factor", "R", "t"):
            del camera[name]
    del header["provenance"]["notes"]
    write(path, tensors, header)
    clips = load_archive(path)
    assert clips.cameras.tangential_factor.tolist() == [2.0, 2.0] and clips.provenance.notes == ""
    assert torch.equal(clips.cameras.R, torch.eye(3).expand(2, 3, 3))
