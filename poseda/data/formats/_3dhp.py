"""3dhp: MPI-INF-3DHP from a prepared archive, else its stand-in."""

from __future__ import annotations

from poseda.data.domains import Domain, DomainConfig, Footage, read_gated
from poseda.data.standin.domains import make_3dhp_standin

USES = ("path",)
STANDIN = make_3dhp_standin


def load(config: DomainConfig, root: str) -> Domain | Footage:
    """The archives of <root>/3dhp, or of the folder `path`."""
    return read_gated(config, root, "3dhp", "MPI-INF-3DHP", "vcai.mpi-inf.mpg.de/3dhp-dataset", "3dhp_vnect8")
