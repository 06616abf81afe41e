"""The convolutional networks of iDML's evaluation: 6, 10 and 14 convolutions, with max pooling and dropout.

iDML gives the depths and no widths; the widths here are this project's, chosen for small processors. The
first convolution has stride 2, so that nothing is wide at full resolution. Pairs of convolutions carry a
shortcut, with the second one small at first: fourteen layers then learn by plain gradient descent without
normalisation, whose running statistics neither merge nor quantise well. Every state tensor is float32.

This module imports torch: only processes that train or export may import it.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.errors import UnknownArchitecture, WeightsDiffer
from models.registry import ENTRY_POINT_GROUP, Architecture, families

Family = Callable[[tuple[int, int, int], int], nn.Module]

STEM_WIDTH = 16
MIDDLE_WIDTH = 32
DROPOUT = 0.2
SHORTCUT_START = 0.1
HEAD_START = 0.1


class Shortcut(nn.Module):
    """Two 3x3 convolutions of one width around which the input is carried: relu(x + f(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        changed: Tensor = self.second(torch.relu(self.first(x)))
        return torch.relu(x + changed)


def cnn6(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a network of six convolutions: (N, *input_shape) normalised images to (N, classes) logits."""
    return _network(input_shape, classes, width=48, shortcuts=0)


def cnn10(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a network of ten convolutions, as `cnn6`."""
    return _network(input_shape, classes, width=40, shortcuts=2)


def cnn14(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return a network of fourteen convolutions, as `cnn6`."""
    return _network(input_shape, classes, width=48, shortcuts=4)


def family(name: str) -> Family:
    """Return the function behind the entry point `name`; raises UnknownArchitecture."""
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        loaded: Family = entry.load()
        return loaded
    raise UnknownArchitecture(
        f"no family {name!r} (known: {', '.join(families())}); "
        f"declare yours as an entry point of the group {ENTRY_POINT_GROUP}"
    )


def build(arch: Architecture, seed: int | None = None) -> nn.Module:
    """Return a network of `arch` with fresh weights, in training mode.

    The same `seed` gives the same weights, and leaves torch's own generator as it was.
    Raises UnknownArchitecture if its family is not installed.
    """
    make = family(arch.family)
    if seed is None:
        return make(arch.input_shape, arch.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(arch.input_shape, arch.classes)


def state_to_weights(module: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Return a copy of the state of `module` as float32 arrays in C order, sorted by name."""
    state = module.state_dict()
    return {name: np.array(state[name].detach().cpu().numpy(), dtype=np.float32, order="C") for name in sorted(state)}


def load_weights(module: nn.Module, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Copy `weights` into `module`; raises WeightsDiffer unless names and shapes are its own."""
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise WeightsDiffer(f"these weights are not of this network: {' '.join(str(error).split())}") from error


def _network(input_shape: tuple[int, int, int], classes: int, width: int, shortcuts: int) -> nn.Module:
    channels, height, image_width = input_shape
    rows, columns = _pooled(height), _pooled(image_width)
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, STEM_WIDTH, 5, stride=2, padding=2),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(STEM_WIDTH, MIDDLE_WIDTH, 3, padding=1),
        "relu2": nn.ReLU(),
        "pair0": Shortcut(MIDDLE_WIDTH),
        "drop1": nn.Dropout(DROPOUT),
        "pool2": nn.MaxPool2d(2),
        "conv3": nn.Conv2d(MIDDLE_WIDTH, width, 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(width, width, 3, padding=1),
        "relu4": nn.ReLU(),
        **{f"pair{number}": Shortcut(width) for number in range(1, shortcuts + 1)},
        "drop2": nn.Dropout(DROPOUT),
        "flatten": nn.Flatten(),
        "head": nn.Linear(width * rows * columns, classes),
    }
    network = nn.Sequential(OrderedDict(layers))
    _initialise(network)
    return network


def _pooled(extent: int) -> int:
    return (extent + 1) // 2 // 2 // 2


def _initialise(network: nn.Sequential) -> None:
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.endswith(".bias"):
                tensor.zero_()
            else:
                nn.init.kaiming_normal_(tensor, nonlinearity="relu")
            if name == "head.weight":  # the first steps then do not overshoot
                tensor.mul_(HEAD_START)
            if name.endswith(".second.weight"):
                tensor.mul_(SHORTCUT_START)
