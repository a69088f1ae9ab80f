"""Compiled image kernels."""
