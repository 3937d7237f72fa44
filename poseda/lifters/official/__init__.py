"""The weights that the lifters' authors published, loaded into our lifters: one file here converts one layout.

A file that sets OFFICIAL to a `Converter` is found by its name; nothing else is edited for a new one. What is in a
checkpoint is told from the names and shapes of its weights, and every weight is used exactly once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from poseda.errors import CheckpointError, PosedaError
from poseda.files.opening import printable
from poseda.files.pickles import Record
from poseda.files.torch_files import StoredTensor, TorchFile, open_torch, read_tensors
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter, one_line
from poseda.lifters.official.layout import Converter, Layout, Reading
from poseda.plugins import list_plugins, load_plugin

__all__ = ["OfficialCheckpoint", "list_official_layouts", "load_official_checkpoint"]

MARKER = "OFFICIAL"
_WRAPPERS = ("state_dict", "model_pos", "model", "model_pos_train", "net", "network", "model_state_dict")
"""Names under which repositories keep the weights, best first."""
_PREFIXES = ("module.", "model.", "net.", "network.")
_DEEPEST = 3
_MOST = 32
"""Dictionaries of weights in one file; published ones hold up to three."""
_COUNTER = "num_batches_tracked"
"""A batch norm's count of training steps: not in files older than torch 0.4.1, and without effect on outputs."""


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A lifter (CPU, float32, eval mode) with published weights, and what was recognised of them."""

    lifter: Lifter
    repository: str
    """Owner and name on GitHub."""
    recognised: str
    """One sentence: network, joint set, window, normalisation, units."""
    remarks: tuple[str, ...]
    """What the file does not tell and was assumed, and what differs from the original."""


@dataclass(frozen=True)
class _Found:
    """A dictionary of weights inside a file."""

    place: str
    layout: Layout
    weights: Mapping[str, StoredTensor]


def list_official_layouts() -> tuple[str, ...]:
    """Names of the layouts that are recognised, sorted."""
    return list_plugins(__path__, MARKER)


def load_official_checkpoint(path: str | Path) -> OfficialCheckpoint:
    """The lifter of a checkpoint that the authors' code wrote with torch.save, in either of torch's formats.

    Nothing in the file is executed. Raises MissingDataError, DataError for a damaged or hostile file, and
    CheckpointError where the weights are of no known layout, or not exactly those of the one recognised.
    """
    path = Path(path)
    found = _weights(open_torch(path))
    converters = {name: load_plugin(__name__, name, MARKER) for name in list_official_layouts()}
    known = [(each, c) for each in found for c in converters.values() if c.recognises(each.layout)]
    if not known:
        raise CheckpointError(_unknown(path, found, converters))
    chosen, converter = known[0]
    reading = converter.read(chosen.layout)
    lifter = _lifter(chosen, reading)
    unused = [f"The weights under '{each.place}' are not used." for each in found if each is not chosen]
    repository = reading.repository or converter.repository
    sentence = _sentence(chosen, lifter, repository, reading.units)
    return OfficialCheckpoint(lifter, repository, sentence, (*reading.remarks, *unused))


def _weights(file: TorchFile) -> list[_Found]:
    """All dictionaries of weights in a file, the likeliest first. Raises CheckpointError where there is none."""
    found = list(islice(_search(file, file.root, "", {}, set()), _MOST + 1))
    if len(found) > _MOST:
        raise CheckpointError(f"{file.path}: holds more than {_MOST} dictionaries of weights; it is no one network's.")
    if not found:
        held = file.root.name if isinstance(file.root, Record) else type(file.root).__name__
        keys = ", ".join(printable(str(key), 30) for key in list(file.root)[:5]) if isinstance(file.root, dict) else ""
        raise CheckpointError(
            f"{file.path}: holds no dictionary of weights ({printable(held)}{': ' if keys else ''}{keys}); "
            "save the network's state_dict()."
        )
    order = {name: place for place, name in enumerate(_WRAPPERS)}
    return sorted(found, key=lambda each: order.get(each.place.rpartition(".")[2], len(order)))


def _search(
    file: TorchFile, value: object, place: str, holder: Mapping[object, object], seen: set[int], depth: int = 0
) -> Iterator[_Found]:
    """The dictionaries of weights in a value. One that many others hold is looked at once, or a small file could take
    hours; what lies under a number is an optimiser's."""
    if id(value) in seen:
        return
    seen.add(id(value))
    weights = file.tensors(value)
    if weights is not None:
        weights = _stripped(weights)
        shapes = {key: tensor.shape for key, tensor in weights.items()}
        beside = frozenset(str(key) for key, other in holder.items() if other is not value)
        yield _Found(place, Layout(file.path, shapes, beside), weights)
    elif isinstance(value, dict) and depth < _DEEPEST:
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _search(file, inner, f"{place}.{key}".lstrip("."), value, seen, depth + 1)


def _stripped(weights: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without the prefixes, a few at most, that DataParallel and the like put before every name."""
    for _ in _PREFIXES:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in weights)), "")
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _unknown(path: Path, found: list[_Found], converters: Mapping[str, Converter]) -> str:
    """The message for weights of no known layout: the nearest, and what was seen."""
    layout = found[0].layout
    tops = " ".join(sorted({key.partition(".")[0] for key in layout.shapes}))

    def nearness(name: str) -> tuple[float, float]:
        words = " ".join(sorted(key.partition(".")[0] for key in converters[name].keys))
        return converters[name].share(layout), difflib.SequenceMatcher(None, tops, words).ratio()

    nearest = max(sorted(converters), key=nearness)
    seen = ", ".join(printable(key, 60) for key in list(layout.shapes)[:3])
    places = ", ".join(printable(each.place, 40) or "the file itself" for each in found[:4])
    return (
        f"{path}: weights of no known layout; nearest is {nearest} ({converters[nearest].repository}, with "
        f"{', '.join(converters[nearest].keys)}). Looked in {places}; first names: {seen}."
    )


def _lifter(found: _Found, reading: Reading) -> Lifter:
    """The lifter with its weights. Raises CheckpointError for a name too few or too many, or of another shape."""
    path = found.layout.path
    try:
        with torch.device("meta"):
            expected = create_lifter(reading.lifter, seed=0, **reading.options).state_dict()
    except PosedaError as error:
        raise CheckpointError(f"{path}: its shapes make no {reading.lifter}: {one_line(error)}") from error
    renamed = {reading.rename(key): tensor for key, tensor in found.weights.items()}
    _check_names(path, reading.lifter, set(renamed), set(expected))
    if reading.change is None:  # else the shapes are the lifter's only after it
        _check_shapes(path, renamed, expected)
    weights = read_tensors(renamed)  # no more than the file holds
    if reading.change is not None:
        try:
            weights = reading.change(weights)
        except (RuntimeError, IndexError) as error:
            raise CheckpointError(f"{path}: its shapes make no {reading.lifter}: {one_line(error)}") from error
        _check_shapes(path, weights, expected)
    for key, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: the weight {key} is not finite; this checkpoint cannot be used.")
    weights |= {key: torch.zeros_like(expected[key], device="cpu") for key in expected.keys() - weights.keys()}
    lifter = create_lifter(reading.lifter, seed=0, **reading.options)
    lifter.load_state_dict({key: v.float() if v.is_floating_point() else v for key, v in weights.items()})
    return lifter.eval()


def _check_names(path: Path, lifter: str, found: set[str], expected: set[str]) -> None:
    missing = {key for key in expected - found if not key.endswith(_COUNTER)}
    for what, keys in (("lacks", missing), ("has besides", found - expected)):
        if keys:
            first = printable(min(keys), 80)
            raise CheckpointError(f"{path}: recognised as {lifter}, but it {what} {len(keys)} weight(s): {first} ...")


def _check_shapes(path: Path, found: Mapping[str, StoredTensor | Tensor], expected: Mapping[str, Tensor]) -> None:
    for key, tensor in found.items():
        due = expected[key]
        if tuple(tensor.shape) != due.shape or tensor.dtype.is_floating_point != due.dtype.is_floating_point:
            held, must = (f"{each.dtype} {tuple(each.shape)}".removeprefix("torch.") for each in (tensor, due))
            raise CheckpointError(f"{path}: {key} is {held}, must be {must}; not the published network.")


def _sentence(found: _Found, lifter: Lifter, repository: str, units: str) -> str:
    if lifter.frames == 1:
        window = "single frames"
    else:
        window = f"windows of {lifter.frames} frames, a pose for "
        window += "each frame" if lifter.output == "seq2seq" else "the central frame"
    return (
        f"{found.layout.path.name} holds the lifter {lifter.name} of {repository}: joints {lifter.skeleton.name}; "
        f"{window}; 2D input normalised by the image width; output in {units}."
    )
