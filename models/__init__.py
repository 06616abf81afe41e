"""Architectures, weights as snapshots, data and evaluation: everything about models but the training loop.

No network protocol and no chain. Only `models.cnn` and `models.export` import torch; a device that
validates and never trains needs numpy, onnxruntime, safetensors' format and zstandard alone.
"""
