"""Domains as whole tensors: clips, archives on disk, motion through published cameras, stand-ins."""
