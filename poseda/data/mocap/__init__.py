"""Motion capture files: ASF skeletons with AMC motion, and BVH, read and written; float64, all frames at once."""
