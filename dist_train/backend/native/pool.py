"""Compiled pool kernels."""
