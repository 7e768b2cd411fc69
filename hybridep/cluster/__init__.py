"""Ray clusters for studies: what a machine offers to trials, who may use it, and the Ray node that is started and stopped on it."""
