"""Generated domains that take the place of licence-gated ones, so that everything runs on a fresh machine.

Motion is drawn from statistics of CMU motion capture (means, covariances and autoregressions in
motion_statistics.safetensors; experiments/standin/fit_motion_statistics.py made it) and seen through
published cameras. The data used in this project was obtained from mocap.cs.cmu.edu. The database was
created with funding from NSF EIA-0196217.
"""
