"""Compiled norm kernels."""
