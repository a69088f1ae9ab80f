"""Compiled embedding kernels."""
