"""Small files made to cost much time or memory are refused in one line; what official files may do is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poseda.errors import CheckpointError, PosedaError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.official import load_official_checkpoint
from tests.lifters.official.synthetic import same_outputs, write


def small() -> Lifter:
    return create_lifter("mixste", seed=0, frames=3, dim=8, depth=1, sigma=False)


def refused(path: Path, message: str) -> None:
    with pytest.raises(PosedaError, match=message) as caught:
        load_official_checkpoint(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_dictionary_that_many_others_hold_is_looked_at_once(tmp_path: Path) -> None:
    held: object = {"w": torch.zeros(1)}
    for _ in range(3):
        held = {str(number): held for number in range(2000)}
    torch.save(held, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "weights of no known layout")


def test_a_file_of_very_many_dictionaries_of_weights_is_refused(tmp_path: Path) -> None:
    torch.save({str(number): {"w": torch.zeros(1)} for number in range(33)}, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "more than 32 dictionaries of weights")


def test_the_tensors_of_an_optimisers_state_are_no_weights(tmp_path: Path) -> None:
    """Since torch 1.12 each parameter's state, under its number, holds tensors alone."""
    lifter = small()
    optimiser = torch.optim.Adam(lifter.parameters())
    lifter(torch.rand(1, 3, 17, 2)).pose.sum().backward()
    optimiser.step()
    torch.save({"optimizer": optimiser.state_dict(), "model_pos": lifter.state_dict()}, tmp_path / "m.bin")
    official = load_official_checkpoint(tmp_path / "m.bin")
    same_outputs(official.lifter, lifter)
    assert not any("not used" in remark for remark in official.remarks)


def test_a_few_prefixes_are_taken_off_and_thousands_are_refused(tmp_path: Path) -> None:
    lifter = small()
    path = write(tmp_path / "m.bin", lifter.state_dict(), prefix="module.model.")
    same_outputs(load_official_checkpoint(path).lifter, lifter)
    torch.save({"module." * 3000 + "w": torch.zeros(1)}, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "weights of no known layout")


def test_weights_that_share_their_numbers_are_refused_before_any_is_read(tmp_path: Path) -> None:
    """The numbers of the largest weight, for all of them."""
    lifter = create_lifter("mixste", seed=0, frames=3, dim=256, depth=2, sigma=False)
    shapes = {key: value.shape for key, value in lifter.state_dict().items()}
    numbers = torch.zeros(max(shape.numel() for shape in shapes.values()) + len(shapes))
    overlapping = {
        key: numbers[start : start + shape.numel()].view(shape) for start, (key, shape) in enumerate(shapes.items())
    }
    refused(write(tmp_path / "m.bin", overlapping), "its tensors have .* numbers and only .* are stored")


def test_tied_weights_and_parts_of_one_storage_are_read(tmp_path: Path) -> None:
    lifter = small()
    state = lifter.state_dict()
    state["Temporal_norm.weight"] = state["Spatial_norm.weight"]
    lifter.load_state_dict(state)
    flat = torch.cat([value.flatten() for value in state.values()])
    parts = flat.split([value.numel() for value in state.values()])
    whole = {key: part.view(value.shape) for (key, value), part in zip(state.items(), parts, strict=True)}
    for weights in (state, whole):
        same_outputs(load_official_checkpoint(write(tmp_path / "m.bin", weights)).lifter, lifter)


def test_wrong_shapes_are_told_before_any_number_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = small().state_dict() | {"head.1.bias": torch.ones(4)}
    monkeypatch.setattr("poseda.lifters.official.read_tensors", None)
    with pytest.raises(CheckpointError, match=r"head.1.bias is float32 \(4,\), must be float32 \(3,\)"):
        load_official_checkpoint(write(tmp_path / "m.bin", weights))
