"""h36m: Human3.6M from a prepared archive, else its stand-in."""

from __future__ import annotations

from pathlib import Path

from poseda.data.domains import Domain, DomainConfig, read_prepared
from poseda.data.standin.domains import make_h36m_standin
from poseda.errors import MissingDataError

USES = ("path",)
STANDIN = make_h36m_standin


def load(config: DomainConfig, root: str) -> Domain:
    """The archives of <root>/h36m, or of the folder `path`."""
    folder = Path(config.path) if config.path else Path(root) / "h36m"
    if not config.path and not any((folder / f"{part}.safetensors").exists() for part in ("train", "test")):
        raise MissingDataError(
            f"Human3.6M is not prepared: no {folder}/train.safetensors. Its licence forbids handing it on: "
            "get it from vision.imar.ro/human3.6m, then write an archive as docs/archive.md "
            "shows; or use the stand-in (data.require=any) or real motion "
            "(motion with path=<npz> rig=h36m)."
        )
    return read_prepared(folder, "h36m")
