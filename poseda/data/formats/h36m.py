"""h36m: Human3.6M from a prepared archive, else its stand-in."""

from __future__ import annotations

from poseda.data.domains import Domain, DomainConfig, Footage, read_gated
from poseda.data.standin.domains import make_h36m_standin

USES = ("path",)
STANDIN = make_h36m_standin


def load(config: DomainConfig, root: str) -> Domain | Footage:
    """The archives of <root>/h36m, or of the folder `path`."""
    return read_gated(config, root, "h36m", "Human3.6M", "vision.imar.ro/human3.6m", "h36m")
