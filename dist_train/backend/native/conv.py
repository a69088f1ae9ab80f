"""Compiled conv kernels."""
