"""archive: a domain in one file, or in a folder with train.safetensors and test.safetensors."""

from __future__ import annotations

from pathlib import Path

from poseda.data.archive import load_archive
from poseda.data.clips import UnlabelledClips
from poseda.data.domains import Domain, DomainConfig, Footage, choose_subjects, read_prepared
from poseda.errors import ConfigError, MissingDataError

USES = ("path",)
STANDIN = None


def load(config: DomainConfig, root: str) -> Domain | Footage:
    """A folder's two archives, or one archive split by subject; one without labels, or of one person, stays whole."""
    if not config.path:
        raise ConfigError("archive needs path=<file.safetensors or folder>; docs/archive.md shows how to write one.")
    path = Path(config.path)
    if path.is_dir():
        return read_prepared(path, path.name)
    if not path.is_file():
        raise MissingDataError(f"no archive {path}: docs/archive.md shows how to write one.")
    clips = load_archive(path)
    if isinstance(clips, UnlabelledClips) or len(clips.subjects) == 1:
        return Footage(clips.provenance.name, clips, str(path))
    train, test = choose_subjects(config, clips.subjects, str(path))
    parts = [clips.select(lambda s, names=set(names): s.subject in names) for names in (train, test)]  # type: ignore[misc]
    return Domain(clips.provenance.name, parts[0], parts[1])
