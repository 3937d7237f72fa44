"""3dhp: MPI-INF-3DHP from a prepared archive, else its stand-in."""

from __future__ import annotations

from pathlib import Path

from poseda.data.domains import Domain, DomainConfig, read_prepared
from poseda.data.standin.domains import make_3dhp_standin
from poseda.errors import MissingDataError

USES = ("path",)
STANDIN = make_3dhp_standin


def load(config: DomainConfig, root: str) -> Domain:
    """The archives of <root>/3dhp, or of the folder `path`."""
    folder = Path(config.path) if config.path else Path(root) / "3dhp"
    if not config.path and not any((folder / f"{part}.safetensors").exists() for part in ("train", "test")):
        raise MissingDataError(
            f"MPI-INF-3DHP is not prepared: no {folder}/train.safetensors. Its licence forbids handing it "
            "on: get it from vcai.mpi-inf.mpg.de/3dhp-dataset, then write an archive as docs/archive.md "
            "shows; or use the stand-in (data.require=any) or real motion "
            "(motion with path=<npz> rig=3dhp_vnect8)."
        )
    return read_prepared(folder, "3dhp")
