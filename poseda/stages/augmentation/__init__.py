"""What augmenting stages share: changes of poses, networks, adversaries, feedback, a watch. This is no stage."""
