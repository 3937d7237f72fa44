"""motion: real motion capture in one npz file, seen through a published rig."""

from __future__ import annotations

from poseda.data.domains import Domain, DomainConfig, choose_subjects
from poseda.data.motion import motion_subjects, read_motion
from poseda.errors import ConfigError
from poseda.geometry.rigs import list_rigs, load_rig

USES = ("path", "rig", "spread_mm")
STANDIN = None


def load(config: DomainConfig, root: str) -> Domain:
    """Subjects of a motion file through a rig; left to itself the last fifth of the subjects is for test."""
    if not config.path:
        raise ConfigError("motion needs path=<file.npz> with 'subject/trial' -> (T, 17, 3) metres, z up.")
    if not config.rig:
        raise ConfigError(f"motion needs rig=<name or JSON file>. Known: {', '.join(list_rigs())}.")
    rig = load_rig(config.rig)
    chosen = choose_subjects(config, motion_subjects(config.path), config.path)
    split = f"train {' '.join(sorted(chosen[0]))}, test {' '.join(sorted(chosen[1]))}"
    parts = []
    for subjects in chosen:
        clips = read_motion(config.path, rig, subjects=subjects, spread_mm=config.spread_mm, seed=config.seed)
        parts.append(clips.with_provenance(notes=f"{clips.provenance.notes}; split by subject: {split}"))
    return Domain(parts[0].provenance.name, parts[0], parts[1])
