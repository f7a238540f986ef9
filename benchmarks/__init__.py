"""Speed as ratios: ours against a named alternative, both in one run on the same inputs."""
