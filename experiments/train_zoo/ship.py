"""From a trained checkpoint to a source model: half precision where it costs nothing, the card, the check."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from recipe import Model

from poseda.cli.calibrating import split_takes, take_name
from poseda.data.clips import LabelledClips
from poseda.data.domains import Domain, DomainConfig, load_domain
from poseda.data.noise import add_detector_noise
from poseda.engine.checkpoint import atomic_write, describe_lifter, load_lifter, save_lifter
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.facts import FACTS, measure_facts
from poseda.errors import CheckpointError
from poseda.lifters.base import Lifter
from poseda.metrics.calibration.sparsification import sparsify
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.calibrated import fit_uncertainty
from poseda.uncertainty.own import Own, OwnConfig
from poseda.zoo.check import check_entry
from poseda.zoo.index import FOLDER, INDEX, digest

HALF_LIMIT_MM = 0.1
LARGEST_FILE = 20_000_000
LARGEST_PACKAGE = 60_000_000


def domain_of(card: Mapping[str, Any], path: str, root: str) -> Domain:
    """The domain that a card's model was trained on; the 2D of its test clips is as good as what it was trained on.

    `path` is where the motion file lies now, `root` where prepared data do.
    """
    source = card["settings"]["source"]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in source.items()}
    given["path"] = path if given["path"] else ""
    domain = load_domain(DomainConfig(**given), root=root, skeleton=card["settings"]["lifter"]["skeleton"])
    noise = card["settings"]["train"].get("noise", "none")
    if noise == "none":
        return domain
    return replace(domain, test=add_detector_noise(domain.test, noise, torch.Generator().manual_seed(given["seed"])))


def write_model(
    checkpoint: Path, output: Path, model: Model, domain: Domain, *, time: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Write `output`, with half the bits where that costs under 0.1 mm on test clips, and return its card.

    Raises CheckpointError for a file that is too large for the package.
    """
    lifter, trained = load_lifter(checkpoint)
    test = domain.test
    full = evaluate_lifter(lifter, test).values["mpjpe"]
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "half.safetensors"
        save_lifter(trial, lifter, {}, half=True)
        halved = load_lifter(trial)[0]
    cost = evaluate_lifter(halved, test).values["mpjpe"]
    half = abs(cost - full) < HALF_LIMIT_MM
    card = make_card(halved if half else lifter, trained, model, domain)
    card["half_precision"] = {"full": full, "half": cost, "stored": "float16" if half else "float32"}
    card["time"] = dict(time) if time else None
    save_lifter(output, lifter, card, half=half)
    if output.stat().st_size > LARGEST_FILE:
        raise CheckpointError(f"{output}: {output.stat().st_size / 1e6:.1f} MB, more than a shipped file may have.")
    return card


def make_card(lifter: Lifter, trained: Mapping[str, Any], model: Model, domain: Domain) -> dict[str, Any]:
    """All that a card says but time, spread and half precision, of the weights as they are stored."""
    test = domain.test
    evaluation = evaluate_lifter(lifter, test)
    settings = {**trained["settings"], "source": dict(trained["settings"]["source"])}
    settings["source"]["path"] = Path(settings["source"]["path"]).name  # where it lay is nobody's business
    return {
        "name": model.name,
        **describe_lifter(lifter),
        "parameters": sum(parameter.numel() for parameter in lifter.parameters()),
        "sigma": lifter.has_sigma,
        "data": trained["data"],
        "subjects": trained["subjects"],
        "keypoints": test.provenance.keypoints,
        "rig": model.rig,
        "held_out": {"subjects": list(test.subjects), "frames": evaluation.frames},
        "command": model.command,
        "settings": settings,
        "seed": settings["seed"],
        "protocol": evaluation.describe(),
        "metrics": evaluation.values,
        "uncertainty": _uncertainty(lifter, test),
        "check": check_entry(lifter),
        FACTS: measure_facts(lifter, test, domain.train).to_card(),
        "published": model.published,
        "limits": list(model.limits),
    }


def _uncertainty(lifter: Lifter, test: LabelledClips) -> dict[str, Any] | None:
    """How well the expected errors E||error|| of the lifter's own head hold, the root left out; None without a head, or
    with one held-out take only.

    One factor a joint is fitted on every second held-out take; the others are scored, as the head says it and with it.
    """
    if not lifter.has_sigma or len({take_name(sequence) for sequence in test.sequences}) < 2:
        return None
    fit, score = split_takes(test, 0.5)
    assert score is not None
    held_out, seen = Lifting.of(lifter, fit), Lifting.of(lifter, score)
    calibrated = fit_uncertainty(Own(OwnConfig(), lifter), held_out, recalibrate="temperature")
    stated = {
        "as trained": replace(calibrated, recalibration=None).of(seen),
        "one factor a joint": calibrated.of(seen),
    }
    joints = calibrated.of(seen)
    curve = sparsify(seen.error().norm(dim=-1).flatten(), joints.stated.sigma.flatten())
    return {
        "law": calibrated.density.name,
        "frames": score.num_frames,
        **{name: predicted.score().values for name, predicted in stated.items()},
        "sparsification": {
            name: {f"{removed} %": float(getattr(curve, name)[removed]) for removed in (0, 10, 25, 50, 75, 90)}
            for name in ("curve", "oracle")
        },
    }


def add_spread(model: Path, runs: Mapping[int, Path], test: LabelledClips) -> None:
    """Put into a model's card what its command gave with several seeds, full weights, on the clips of its metrics."""
    values = {str(n): evaluate_lifter(load_lifter(run)[0], test).values["mpjpe"] for n, run in sorted(runs.items())}
    lifter, card = load_lifter(model)
    half = card["half_precision"]["stored"] == "float16"
    save_lifter(model, lifter, {**card, "spread": {"mpjpe": values}}, half=half)


def put_into_package(models: Mapping[str, Path], folder: Path = FOLDER) -> None:
    """Copy model files into the package and write the index anew. Raises CheckpointError for a package too large."""
    index = json.loads((folder / INDEX).read_text()) if (folder / INDEX).is_file() else {"shipped": {}, "hub": {}}
    for name, path in models.items():
        index["shipped"][name] = {"sha256": digest(path), "size": path.stat().st_size}
    total = sum(entry["size"] for entry in index["shipped"].values())
    if total > LARGEST_PACKAGE:
        raise CheckpointError(f"all shipped models: {total / 1e6:.1f} MB, more than the package may hold; use the hub.")
    for name, path in models.items():
        atomic_write(folder / f"{name}.safetensors", path.read_bytes())
    index["shipped"] = dict(sorted(index["shipped"].items()))
    atomic_write(folder / INDEX, (json.dumps(index, indent=2) + "\n").encode())
