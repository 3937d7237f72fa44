"""Files from anywhere: readers that run nothing from a file and check sizes first; atomic writing."""
