"""Builds of people measured from 2D: proportions beside the source's, and height from the floor they stand on."""
