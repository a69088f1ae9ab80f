"""Compiled dropout kernels."""
