"""Compiled softmax kernels."""
