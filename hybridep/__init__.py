"""Hybrid Equilibrium Propagation: train strategies that mix gradient estimators, and weigh their accuracy against their nudged phases."""

__version__ = "0.1.0"
