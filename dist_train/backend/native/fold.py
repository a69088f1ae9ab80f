"""Compiled fold kernels."""
