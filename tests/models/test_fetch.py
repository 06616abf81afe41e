import gzip
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError

import pytest

import models.fetch
import models.vision
from models.data import FASHION_MNIST_SHA256, default_root, folder_of, load
from models.errors import DatasetCorrupt, DatasetMissing, UnknownDataset
from models.fetch import DEBIAN_INSTALLED, Progress, fetch

pytestmark = pytest.mark.usefixtures("fashion_mnist")


def copy_real(files: Path, progress: Progress) -> None:
    for name in FASHION_MNIST_SHA256:
        shutil.copy(folder_of("fashion-mnist", default_root()) / name, files / name)


def use_sources(monkeypatch: pytest.MonkeyPatch, *sources: models.fetch.Source) -> None:
    named = {f"source {number}": source for number, source in enumerate(sources, 1)}
    monkeypatch.setattr(models.fetch, "_SOURCES", {"fashion-mnist": named})


def test_what_is_there_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    use_sources(monkeypatch)
    started = time.monotonic()
    assert fetch("fashion-mnist") == folder_of("fashion-mnist", default_root())
    assert time.monotonic() - started < 3


def test_the_second_source_is_used_when_the_first_does_not_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(files: Path, progress: Progress) -> None:
        copy_real(files, progress)
        (files / "t10k-labels-idx1-ubyte").write_bytes(b"other data")

    use_sources(monkeypatch, broken, copy_real)
    said: list[str] = []
    fetch("fashion-mnist", tmp_path, said.append)
    assert said == ["fashion-mnist: source 1", "fashion-mnist: source 2"]
    assert load("fashion-mnist", tmp_path).train_images.shape[0] == 60_000


def test_without_a_source_one_message_names_each_and_the_retry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_apt(command: list[str], folder: Path) -> None:
        raise models.fetch._Unavailable(f"there is no {command[0]} here")

    class Datasets:
        @staticmethod
        def FashionMNIST(root: str, download: bool) -> None:  # noqa: N802
            raise URLError("no route to host")

    monkeypatch.setattr(models.fetch, "DEBIAN_INSTALLED", tmp_path / "not installed")
    monkeypatch.setattr(models.fetch, "_run", no_apt)
    monkeypatch.setattr(models.vision, "datasets", lambda: Datasets)
    with pytest.raises(DatasetMissing) as caught:
        fetch("fashion-mnist", tmp_path)
    text = str(caught.value)
    assert "Debian package dataset-fashion-mnist: there is no apt-get here" in text
    assert "torchvision's download: failed (<urlopen error no route to host>)" in text
    assert f"idml-models fetch fashion-mnist --root {tmp_path}" in text
    assert "\n" not in text
    assert [entry.name for entry in tmp_path.iterdir()] == [".fashion-mnist.lock"]


def test_an_interrupted_fetch_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(files: Path, progress: Progress) -> None:
        copy_real(files, progress)
        raise KeyboardInterrupt

    use_sources(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("fashion-mnist", tmp_path)
    with pytest.raises(DatasetMissing):
        load("fashion-mnist", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [".fashion-mnist.lock"]


def test_changed_data_is_not_overwritten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_sources(monkeypatch, copy_real)
    folder = fetch("fashion-mnist", tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"mine")
    with pytest.raises(DatasetCorrupt, match="remove"):
        fetch("fashion-mnist", tmp_path)
    assert (folder / "train-labels-idx1-ubyte").read_bytes() == b"mine"


def test_two_at_once_fetch_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[Path] = []

    def slow(files: Path, progress: Progress) -> None:
        fetched.append(files)
        time.sleep(0.2)
        copy_real(files, progress)

    use_sources(monkeypatch, slow)
    both = [threading.Thread(target=fetch, args=("fashion-mnist", tmp_path)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(fetched) == 1
    load("fashion-mnist", tmp_path)


@pytest.mark.parametrize("level", [1, 9])
def test_the_package_is_accepted_however_it_was_compressed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, level: int
) -> None:
    """Distributors recompress: sums of compressed files, such as torchvision's, do not hold."""
    package = tmp_path / "package.deb"

    def apt_and_dpkg(command: list[str], folder: Path) -> None:
        if command[0] == "apt-get":
            (folder / package.name).touch()
            return
        unpacked = Path(command[-1]) / DEBIAN_INSTALLED.relative_to("/")
        unpacked.mkdir(parents=True)
        for name in FASHION_MNIST_SHA256:
            real = folder_of("fashion-mnist", default_root()) / name
            # Images take seconds to compress; a level below 1 stores them.
            packed = gzip.compress(real.read_bytes(), level if "labels" in name else 0, mtime=0)
            (unpacked / f"{name}.gz").write_bytes(packed)

    monkeypatch.setattr(models.fetch, "_run", apt_and_dpkg)
    use_sources(monkeypatch, models.fetch._from_debian)
    if not DEBIAN_INSTALLED.is_dir():
        fetch("fashion-mnist", tmp_path / "root")


def test_a_command_that_fails_gives_its_reason(tmp_path: Path) -> None:
    for command, reason in (
        (["sh", "-c", "echo 'E: no such package' >&2; exit 100"], r"sh failed \(no such package\)"),
        (["no-such-command-anywhere"], "there is no no-such-command-anywhere here"),
    ):
        with pytest.raises(models.fetch._Unavailable, match=reason):
            models.fetch._run(command, tmp_path)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownDataset, match="known"):
        fetch("imagenet", tmp_path)


TORCHVISION_WITHOUT_OPERATORS = """
import importlib, types, warnings
warnings.simplefilter("ignore")
import torch
import models.vision
# As where torchvision was built for another torch: its library cannot be loaded, and it refers to what is in it.
def load_library(path):
    raise OSError(f"{path}: undefined symbol")
torch.ops.load_library = load_library
tries, declared = [], []
real, define = importlib.import_module, torch.library.define
def import_module(name):
    tries.append(name)
    return real(name)
def noted(name, signature):
    declared.append(name)
    define(name, signature)
models.vision.importlib = types.SimpleNamespace(import_module=import_module)
torch.library.define = noted
print(models.vision.datasets().FashionMNIST.__name__, len(tries), *declared)
models.vision._declare_operators()
"""


def test_torchvision_is_imported_without_its_operators() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TORCHVISION_WITHOUT_OPERATORS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["FashionMNIST", "2", "torchvision::nms", "torchvision::qnms"]
