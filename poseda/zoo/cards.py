"""Cards of source models as text: what a model is, what it was trained on, what it does on people it has not seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from poseda.zoo import read_source_card
from poseda.zoo.index import Entry, find_entry

METRICS = {
    "mpjpe": "MPJPE mm",
    "pa_mpjpe": "PA-MPJPE mm",
    "n_mpjpe": "N-MPJPE mm",
    "mpjpe_action_mean": "MPJPE mm, mean over actions",
    "pck": "PCK %",
    "auc": "AUC %",
}
NOT_RECORDED = "not recorded"


def models_page(names: Sequence[str]) -> str:
    """All cards, behind a table of them, as Markdown. Cards of models that are not here yet say so."""
    cards = [(find_entry(name), _card(name)) for name in names]
    rows = [f"| [{entry.name}](#{entry.name}) | {_row(entry, card)} |" for entry, card in cards]
    head = [
        "# Source models",
        "",
        "Written from the models' own cards: `python -m poseda.models output=docs/models.md`.",
        "",
        "| model | lifter | trained on | 2D | MPJPE mm, held-out people | MB |",
        "|---|---|---|---|---:|---:|",
    ]
    titles = _shared_titles([card for _, card in cards if card is not None])
    parts = [render_card(entry, card, titles.get(_terms(card)) if card else None) for entry, card in cards]
    parts += [f"## {title}\n\n{terms}\n" for terms, title in titles.items()]
    return "\n".join([*head, *rows, *("\n" + part for part in parts)]) + "\n"


def models_table(names: Sequence[str]) -> list[Mapping[str, object]]:
    """One row a model, for a table on the terminal."""
    rows: list[Mapping[str, object]] = []
    for name in names:
        entry, card = find_entry(name), _card(name)
        cells: dict[str, object] = {"model": name, "size": entry.size / 1e6, "where": "hub" if entry.url else "package"}
        if card is not None:
            about = card["data"]
            cells |= {"lifter": card["lifter"], "data": f"{about['name']} ({about['kind']})"}
            cells |= {"keypoints": card["keypoints"], "mpjpe": card["metrics"]["mpjpe"]}
        rows.append(cells)
    return rows


def render_card(entry: Entry, card: Mapping[str, Any] | None, terms_at: str | None = None) -> str:
    """One card as Markdown; None for a model that has not been fetched. `terms_at` names the section of the same page
    that says its protocol, limits and licence, None: it says them itself."""
    if card is None:
        fetch = f"`python -m poseda.models model={entry.name} fetch=true`"
        return f"## {entry.name}\n\n{entry.size / 1e6:.1f} MB, not fetched yet: {fetch}.\n"
    lines = [f"- {key}: {value}" for key, value in _facts(entry, card).items()]
    terms = f"[{terms_at}](#{_anchor(terms_at)})." if terms_at else _terms(card)
    return "\n".join([f"## {entry.name}", "", *lines, "", _metrics(card), "", terms, ""])


def _terms(card: Mapping[str, Any]) -> str:
    """What the models of one data set have in common: the protocol of their figures, their limits, the licence."""
    limits = [f"- {limit}" for limit in card["limits"]]
    return "\n".join([card["protocol"], "", "Known limits:", "", *limits, "", f"> {card['data']['licence']}"])


def _shared_titles(cards: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Terms that several cards have in common -> title of the section that says them once."""
    titles: dict[str, str] = {}
    for card in cards:
        if sum(_terms(other) == _terms(card) for other in cards) > 1:
            title = f"Protocol, limits and licence of models trained on {card['data']['name']}"
            taken = sum(known.startswith(title) for terms, known in titles.items() if terms != _terms(card))
            titles.setdefault(_terms(card), f"{title} ({taken + 1})" if taken else title)
    return titles


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _facts(entry: Entry, card: Mapping[str, Any]) -> dict[str, str]:
    data, held, half, check = card["data"], card["held_out"], card["half_precision"], card["check"]
    joints = f"{card['skeleton']}, {len(card['joints'])} joints, root {card['joints'][0]}"
    ranges = {
        "lifter": f"{card['lifter']}, {card['parameters'] / 1e6:.2f} million weights, "
        f"{_frames(card['frames'])}, {'with' if card['sigma'] else 'without'} an uncertainty head",
        "joints": f"{joints}; poses in mm, relative to the root, camera axes",
        "normalisation": card["normalisation"],
        "data": f"{data['name']}, {data['kind']}; {data['notes']}",
        "rig": card["rig"],
        "2D": card["keypoints"],
        "subjects": f"trained on {', '.join(card['subjects'])}; held out {', '.join(held['subjects'])} "
        f"({held['frames']} frames)",
        "command": f"`{card['command']}`",
        "training": _training(card["settings"]["train"]),
        "seed": str(card["seed"]),
        "hardware and time": _time(card.get("time")),
        "spread": _spread(card.get("spread")),
        "published": card.get("published", ""),
        "half precision": _half(half),
        "uncertainty": _uncertainty(card.get("uncertainty")),
        "check": f"{check['mpjpe']:.2f} mm MPJPE ({check['protocol']}) on {check['set']}: {check['frames']} frames "
        "that the package makes itself",
        "file": f"{entry.size / 1e6:.2f} MB, SHA-256 `{entry.sha256}`",
    }
    return {key: value for key, value in ranges.items() if value}


def _frames(frames: int) -> str:
    return "one frame" if frames == 1 else f"windows of {frames} frames"


def _training(train: Mapping[str, Any]) -> str:
    turned = ", people turned about the vertical at random" if train.get("rotate") else ""
    noise = train.get("noise", "none")
    noisy = f", {noise} noise on the 2D drawn anew in each step" if noise != "none" else ""
    return f"{train['steps']} steps of {train['batch_size']} windows, Adam from {train['lr']:g} to 0{turned}{noisy}"


def _time(time: Mapping[str, Any] | None) -> str:
    if time is None:
        return NOT_RECORDED
    return (
        f"{time['device']}, {time['threads']} thread(s), torch {time['torch']}; {time['seconds']:.0f} s of wall time, "
        f"{time['cpu_seconds']:.0f} s of processor time; {time['utilisation']}"
    )


def _spread(spread: Mapping[str, Any] | None) -> str:
    if spread is None:
        return "one seed only"
    runs = ", ".join(f"seed {seed}: {value:.2f} mm" for seed, value in spread["mpjpe"].items())
    return f"the same command with other seeds, full weights: {runs}"


def _half(values: Mapping[str, Any]) -> str:
    """What halving the weights costs, and whether it was done."""
    kept = "with those stored" if values["stored"] == "float16" else "with half the bits: stored in full"
    return f"{values['full']:.2f} mm with the full weights, {values['half']:.2f} mm {kept}"


def _uncertainty(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    raw, fitted, curves = found["as trained"], found["one factor a joint"], found["sparsification"]
    left = ", ".join(f"{removed} gone {value:.1f} mm" for removed, value in curves["curve"].items() if removed != "0 %")
    return (
        f"calibration error {raw['calibration_error']:.1f} % as trained (law {found['law']}, mean sigma "
        f"{raw['sharpness']:.1f} mm, mean error {raw['mean_error']:.1f} mm), {fitted['calibration_error']:.1f} % with "
        "one factor a joint, fitted on half of the held-out takes, scored on the others (python -m poseda.calibrate); "
        f"AUSE {fitted['ause']:.3f}; the least certain joints removed: {left}"
    )


def _metrics(card: Mapping[str, Any]) -> str:
    known = {title: card["metrics"][key] for key, title in METRICS.items() if key in card["metrics"]}
    head = "| " + " | ".join(known) + " |\n|" + "---:|" * len(known)
    return f"{head}\n| " + " | ".join(f"{value:.1f}" for value in known.values()) + " |"


def _row(entry: Entry, card: Mapping[str, Any] | None) -> str:
    if card is None:
        return f"not fetched | | | | {entry.size / 1e6:.1f}"
    data = card["data"]
    cells = [card["lifter"], f"{data['name']}, {data['kind']}", card["keypoints"], f"{card['metrics']['mpjpe']:.1f}"]
    return " | ".join([*cells, f"{entry.size / 1e6:.1f}"])


def _card(name: str) -> dict[str, Any] | None:
    """A card with what the file's header says of the lifter; None for a model that has not been fetched."""
    entry = find_entry(name)
    if entry.url and not entry.file().is_file():
        return None
    return read_source_card(name)[1]
