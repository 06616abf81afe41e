"""Getting a dataset onto this machine: checked, all at once or not at all, and once only.

Fashion-MNIST comes from the Debian package `dataset-fashion-mnist` (no root is needed to unpack it), else by
torchvision's download; CIFAR-10 by torchvision's download, or from its archive put into the root by hand.
There is no third way: nothing is ever made up in the place of missing data.
"""

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.cifar import cifar_files
from models.data import (
    CHECKSUMS,
    CIFAR_10_FILES,
    FASHION_MNIST_SHA256,
    check_sha256,
    default_root,
    folder_of,
    load,
    retry,
    verified_folder,
)
from models.errors import DatasetCorrupt, DatasetMissing
from models.options import CIFAR_10, FASHION_MNIST, FOLDER_PREFIX

Progress = Callable[[str], None]
Source = Callable[[Path, Progress], None]

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_INSTALLED = Path("/usr/share/datasets/fashion-mnist")
COMMAND_TIMEOUT_S = 900
SOCKET_TIMEOUT_S = 30
CIFAR_10_ARCHIVE = "cifar-10-python.tar.gz"


class _Unavailable(Exception):
    pass


def fetch(name: str, root: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring the dataset `name` into `root` (default: `data.default_root()`), and return its folder.

    Returns at once if it is there already. `progress` gets a line of text for each thing begun.
    Raises DatasetMissing if no source works, DatasetCorrupt if files are there that are not the dataset,
    UnknownDataset. An interrupted fetch leaves nothing that is taken for a dataset.
    """
    root = default_root() if root is None else root
    if name not in (FASHION_MNIST, CIFAR_10):
        load(name, root)
        return Path(name.removeprefix(FOLDER_PREFIX)) if name.startswith(FOLDER_PREFIX) else root
    with _locked(root, name):
        try:
            return verified_folder(name, root)
        except DatasetMissing:
            _fetch_missing(name, root, progress or (lambda line: None))
        return verified_folder(name, root)


def _fetch_missing(name: str, root: Path, progress: Progress) -> None:
    sources = _SOURCES[name]
    failures = []
    for description, source in sources.items():
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as scratch:
            files = Path(scratch) / "files"
            files.mkdir()
            try:
                progress(f"{name}: {description}")
                source(files, progress)
                _check(name, files)
            except (_Unavailable, DatasetCorrupt) as error:
                failures.append(f"{description}: {error}")
                continue
            _install(name, files, folder_of(name, root))
            return
    raise DatasetMissing(f"cannot get {name}. Tried " + "; ".join(failures) + f". Try again with: {retry(name, root)}")


def _check(name: str, files: Path) -> None:
    if name == FASHION_MNIST:
        for file, expected in FASHION_MNIST_SHA256.items():
            check_sha256(files / file, expected, "this source is no longer the dataset")


def _install(name: str, files: Path, folder: Path) -> None:
    """Move checked files into place; the dataset counts as present once the last one is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in FASHION_MNIST_SHA256 if name == FASHION_MNIST else (*CIFAR_10_FILES, CHECKSUMS):
        (files / file).replace(folder / file)


@contextmanager
def _locked(root: Path, name: str) -> Iterator[None]:
    """Let one process at a time fetch `name`; the others wait, and then find it there."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _from_debian(files: Path, progress: Progress) -> None:
    folder = DEBIAN_INSTALLED
    if not folder.is_dir():
        unpacked = files.parent / "package"
        package = _debian_package(files.parent, progress)
        _run(["dpkg", "-x", str(package), str(unpacked)], files.parent)
        folder = unpacked / DEBIAN_INSTALLED.relative_to("/")
    progress("unpacking")
    for file in FASHION_MNIST_SHA256:
        try:
            with gzip.open(folder / f"{file}.gz") as packed, (files / file).open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        except (OSError, EOFError) as error:
            raise _Unavailable(f"{file}.gz in the package is not readable ({error})") from error


def _debian_package(scratch: Path, progress: Progress) -> Path:
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    download = ["apt-get", "-q", *sandbox, "download", DEBIAN_PACKAGE]
    try:
        _run(download, scratch)
    except _Unavailable:
        # A fresh machine has no package lists, and only root may write them: keep a set of our own.
        progress("reading package lists")
        lists = scratch / "lists"
        cache = scratch / "cache"
        for folder in (lists, cache):
            (folder / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", *sandbox]
        _run(["apt-get", "-q", *own, "update"], scratch)
        _run(["apt-get", "-q", *own, "download", DEBIAN_PACKAGE], scratch)
    for package in scratch.glob("*.deb"):
        return package
    raise _Unavailable("apt-get downloaded no package")


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError as error:
        raise _Unavailable(f"there is no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise _Unavailable(f"{command[0]} took more than {COMMAND_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.startswith("E:")] or ["no reason given"]
        raise _Unavailable(f"{command[0]} failed ({lines[0].removeprefix('E: ')})") from error


def _from_torchvision(files: Path, progress: Progress) -> None:
    with _network_failures():
        from models.vision import datasets  # noqa: PLC0415 - torch is needed here only

        progress("downloading")
        scratch = files.parent / "download"
        datasets().FashionMNIST(str(scratch), download=True)
        for file in FASHION_MNIST_SHA256:
            (scratch / "FashionMNIST" / "raw" / file).replace(files / file)


def _cifar_from_torchvision(files: Path, progress: Progress) -> None:
    with _network_failures():
        from models.vision import datasets  # noqa: PLC0415 - torch is needed here only

        progress("downloading")
        source = datasets().CIFAR10
        archive = files.parent / CIFAR_10_ARCHIVE
        datasets().utils.download_url(source.url, str(files.parent), CIFAR_10_ARCHIVE, source.tgz_md5)
    _convert_cifar(archive, files, progress)


def _cifar_from_root(files: Path, progress: Progress) -> None:
    archive = files.parent.parent / CIFAR_10_ARCHIVE
    if not archive.is_file():
        raise _Unavailable(f"there is no {archive}")
    _convert_cifar(archive, files, progress)


def _convert_cifar(archive: Path, files: Path, progress: Progress) -> None:
    progress("converting")
    try:
        converted = cifar_files(archive)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise _Unavailable(f"{archive.name} is not readable ({error})") from error
    sums = {}
    for file in CIFAR_10_FILES:
        (files / file).write_bytes(converted[file])
        sums[file] = hashlib.sha256(converted[file]).hexdigest()
    (files / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n")


@contextmanager
def _network_failures() -> Iterator[None]:
    """Turn the failures of a download into `_Unavailable`, and let none of them wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT_S)
    try:
        yield
    except (ImportError, OSError, RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Unavailable(f"failed ({reason})") from error
    finally:
        socket.setdefaulttimeout(before)


_SOURCES: dict[str, dict[str, Source]] = {
    FASHION_MNIST: {
        f"the Debian package {DEBIAN_PACKAGE}": _from_debian,
        "torchvision's download": _from_torchvision,
    },
    CIFAR_10: {
        f"the archive {CIFAR_10_ARCHIVE} in the data folder": _cifar_from_root,
        "torchvision's download": _cifar_from_torchvision,
    },
}
