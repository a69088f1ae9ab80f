"""Compiled activation kernels."""
