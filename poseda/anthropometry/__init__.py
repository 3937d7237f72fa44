"""Builds of people measured from 2D: proportions beside those of people of known bodies, and height from the floor."""
