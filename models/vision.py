"""torchvision's datasets, also where torchvision was built for another torch than the one installed."""

import importlib
from types import ModuleType

MISSING_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def datasets() -> ModuleType:
    """Return the module `torchvision.datasets`.

    Beside a CPU-only torch the import may fail with "operator torchvision::nms does not exist", although
    downloads need no operator: the names are then declared and the import repeated. Raises ImportError.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _declare_operators()
    return importlib.import_module("torchvision.datasets")


def _declare_operators() -> None:
    import torch  # noqa: PLC0415 - only a download needs it

    for name, signature in MISSING_OPERATORS.items():
        try:
            torch.library.define(f"torchvision::{name}", signature)
        except RuntimeError as error:  # declared by an earlier try
            if "multiple times" not in str(error):
                raise
