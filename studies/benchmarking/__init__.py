"""What the benchmarks compare with: EP by automatic differentiation, and the fastest products that a machine shows."""
