"""The training loop. The only module of the agent that imports torch; it runs in the training process alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.data import Images, Labels, normalise


def train(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    start: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    seed: int,
) -> float:
    """Take `steps` steps of SGD in place, and return the mean loss.

    Args:
        network: gets (N, C, H, W) float32, gives logits.
        images: (N, C, H, W) uint8, the device's own; mini-batches go round in them.
        labels: (N,) uint8, matching `images`.
        start: how many images were trained on before.
        steps: mini-batches.
        batch_size: images in each.
        learning_rate: of SGD.
        momentum: of SGD.
        seed: of dropout.
    """
    torch.manual_seed(seed)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=momentum)
    total = 0.0
    for step in range(steps):
        at = start + step * batch_size
        rows = np.arange(at, at + batch_size) % len(labels)
        x = torch.from_numpy(normalise(images[rows]))
        y = torch.from_numpy(labels[rows].astype(np.int64))
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(network(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item()
    return total / max(1, steps)
