"""`idml-models`: fetch data, list and export architectures, look into snapshots and measure them."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from models.data import default_root, load, verified_folder
from models.errors import (
    BadInput,
    DatasetCorrupt,
    DatasetMissing,
    MalformedSnapshot,
    ModelsError,
    SnapshotFault,
    UnknownArchitecture,
    UnknownDataset,
)
from models.evaluate import BATCH_SIZE, Evaluation, Evaluator
from models.fetch import fetch
from models.options import CIFAR_10, FASHION_MNIST, Codec, known_datasets
from models.packing import unpack
from models.registry import Architecture, architectures, families, named, user_graphs
from models.snapshot import Snapshot, claimed_architecture, decode, parse, size_bytes

OK = 0
FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_FILE_BYTES = 1 << 30
CHUNK_IMAGES = 1000

EPILOG = """examples:
  idml-models fetch fashion-mnist            get the data, or say at once that it is there
  idml-models list                           architectures with their digests, and which data is here
  idml-models inspect model.snapshot         what is in a snapshot, every byte checked
  idml-models evaluate model.snapshot --dataset fashion-mnist
  idml-models evaluate model.snapshot --dataset folder:/home/me/images
  idml-models export cnn6 --input 1x64x64    a graph for images of your own size

data lies in $IDML_DATA, else in the user's cache;
exported graphs in $IDML_GRAPHS, else in the user's data folder
exit codes: 0 done, 1 failed, 2 bad usage or input, 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except (BadInput, MalformedSnapshot, UnknownArchitecture, UnknownDataset) as error:
        return _failed(error, BAD_INPUT)
    except (ModelsError, OSError) as error:
        return _failed(error, FAILED)
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    return OK


def _failed(reason: object, code: int) -> int:
    print(f"idml-models: {reason}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="idml-models",
        description=__doc__.split(": ", 1)[1].capitalize() if __doc__ else None,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fetching = commands.add_parser("fetch", help="get a dataset onto this machine")
    fetching.add_argument("name", metavar="NAME", help=f"one of: {', '.join(known_datasets())}")
    fetching.set_defaults(command=_fetch)

    listing = commands.add_parser("list", help="list architectures and datasets")
    listing.set_defaults(command=_list)

    exporting = commands.add_parser("export", help="export a weight-less graph (needs torch and onnx)")
    exporting.add_argument("family", metavar="FAMILY", help=f"one of: {', '.join(families())}, or your own")
    exporting.add_argument("--input", type=_input_shape, required=True, metavar="CxHxW", help="e.g. 1x28x28")
    exporting.add_argument("--classes", type=_classes, default=10, help="number of labels (default: 10)")
    exporting.add_argument("--out", type=Path, help="folder to write to (default: $IDML_GRAPHS, see below)")
    exporting.set_defaults(command=_export)

    inspecting = commands.add_parser("inspect", help="check a snapshot and say what is in it")
    inspecting.add_argument("snapshot", type=Path, metavar="SNAPSHOT", help="file, packed or not")
    inspecting.set_defaults(command=_inspect)

    evaluating = commands.add_parser("evaluate", help="measure a snapshot on test images")
    evaluating.add_argument("snapshot", type=Path, metavar="SNAPSHOT", help="file, packed or not")
    evaluating.add_argument("--dataset", required=True, metavar="NAME", help="a name, or folder:PATH")
    evaluating.add_argument("--batch-size", type=_classes, default=BATCH_SIZE, help="images per run (default: 100)")
    evaluating.set_defaults(command=_evaluate)

    for with_data in (fetching, listing, evaluating):
        with_data.add_argument("--root", type=Path, help="where data lies (default: $IDML_DATA, see below)")
    return parser


def _input_shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(extent) for extent in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not CHANNELSxHEIGHTxWIDTH, e.g. 1x28x28") from None
    if min(channels, height, width) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} has an extent below 1")
    return channels, height, width


def _classes(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _fetch(options: argparse.Namespace) -> None:
    console = Console(stderr=True)
    with console.status(f"{options.name}") as status:
        folder = fetch(options.name, options.root, progress=status.update)
    print(f"{options.name} is in {folder}")


def _list(options: argparse.Namespace) -> None:
    print(f"{'architecture':<18} {'parameters':>10}  graph SHA-256")
    for arch in architectures():
        print(f"{arch.name:<18} {arch.parameters:>10,}  {arch.digest.hex()}")
    root = options.root or default_root()
    print(f"\ndatasets in {root}")
    for name in known_datasets():
        print(f"{name:<18} {_presence(name, root)}")


def _presence(name: str, root: Path) -> str:
    if name not in (FASHION_MNIST, CIFAR_10):
        return "from an entry point"
    try:
        verified_folder(name, root)
    except DatasetMissing:
        return "not fetched"
    except DatasetCorrupt as error:
        return f"damaged: {error}"
    return "here"


def _export(options: argparse.Namespace) -> None:
    try:
        from models.export import export_to  # noqa: PLC0415 - the only command that needs torch
    except ImportError as error:
        raise ModelsError(f"export needs torch and onnx ({error.msg}): install both and try again") from error
    graph = export_to(options.out or user_graphs(), options.family, options.input, options.classes)
    print(f"wrote {graph} and {graph.with_suffix('.json').name}")


def _inspect(options: argparse.Namespace) -> None:
    arch, snapshot = _read(options.snapshot)
    print(f"architecture  {snapshot.architecture} ({arch.parameters:,} parameters)")
    print(f"codec         {snapshot.codec}")
    print(f"digest        {snapshot.digest.hex()}")
    print(f"size          {len(snapshot.data):,} bytes, {options.snapshot.stat().st_size:,} in the file")
    print(f"\n{'tensor':<22} {'shape':<18} {'smallest':>11} {'largest':>11}")
    for name, tensor in decode(snapshot, arch).items():
        print(f"{name:<22} {tensor.shape!s:<18} {tensor.min():>11.4g} {tensor.max():>11.4g}")


def _evaluate(options: argparse.Namespace) -> None:
    arch, snapshot = _read(options.snapshot)
    dataset = load(options.dataset, options.root)
    if (dataset.input_shape, dataset.classes) != (arch.input_shape, arch.classes):
        raise BadInput(
            f"{arch.name} takes images {arch.input_shape} of {arch.classes} classes, {dataset.name} has "
            f"{dataset.input_shape} of {dataset.classes}: choose a dataset that fits"
        )
    weights = decode(snapshot, arch)
    evaluator = Evaluator(arch)
    chunks = range(0, len(dataset.test_labels), CHUNK_IMAGES)
    correct = 0
    for start in track(chunks, f"{arch.name} on {dataset.name}", console=Console(stderr=True)):
        part = slice(start, start + CHUNK_IMAGES)
        correct += evaluator.accuracy(
            weights, dataset.test_images[part], dataset.test_labels[part], options.batch_size
        ).correct
    measured = Evaluation(correct=correct, total=len(dataset.test_labels))
    print(f"accuracy {measured.accuracy:.4f} ({measured.correct} of {measured.total} test images)")


def _read(path: Path) -> tuple[Architecture, Snapshot]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MalformedSnapshot(SnapshotFault.TOO_LARGE, f"{path} has more than {MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}): give the file of a snapshot") from error
    if data.startswith(ZSTD_MAGIC):
        largest = max((size_bytes(arch, Codec.FLOAT32) for arch in architectures()), default=0)
        data = unpack(data, largest)
    arch = named(claimed_architecture(data))
    return arch, parse(data, arch)


if __name__ == "__main__":
    sys.exit(main())
