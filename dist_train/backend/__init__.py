"""The only place that knows which array library runs: devices, and the registry of numeric kernels."""
