"""Geometry on tensors (..., J, 3): cameras, rigs, bones, rotations, rigid alignment, root position, boxes."""
