import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import models.__main__
from models.__main__ import main
from models.data import Dataset
from models.options import Codec
from models.packing import pack
from models.registry import Architecture
from models.snapshot import Weights, encode


@pytest.fixture
def snapshot(random_weights: Callable[..., Weights], cnn6: Architecture, tmp_path: Path) -> Path:
    path = tmp_path / "model.snapshot"
    path.write_bytes(pack(encode(random_weights(cnn6), cnn6, Codec.INT8).data))
    return path


def test_list_names_architectures_and_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["list", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "cnn14-32x32x3         232,970" in out
    assert "fashion-mnist      not fetched" in out


def test_fetch_says_where_the_data_is(capsys: pytest.CaptureFixture[str], fashion_mnist: Dataset) -> None:
    assert main(["fetch", "fashion-mnist"]) == 0
    assert "fashion-mnist is in " in capsys.readouterr().out


def test_inspect_and_evaluate_read_packed_and_plain_snapshots(
    random_weights: Callable[..., Weights],
    capsys: pytest.CaptureFixture[str],
    snapshot: Path,
    cnn6: Architecture,
    fashion_mnist: Dataset,
) -> None:
    encoded = encode(random_weights(cnn6), cnn6, Codec.INT8)
    plain = snapshot.with_name("plain")
    plain.write_bytes(encoded.data)
    outputs = []
    for path in (snapshot, plain):
        assert main(["inspect", str(path)]) == 0
        out = capsys.readouterr().out
        assert encoded.digest.hex() in out
        assert "int8" in out
        assert main(["evaluate", str(path), "--dataset", "fashion-mnist"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "of 10000 test images" in outputs[0]


def test_export_writes_a_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["export", "cnn6", "--input", "1x16x16", "--classes", "3", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "cnn6-16x16x1-3.onnx").is_file()
    assert (tmp_path / "cnn6-16x16x1-3.json").is_file()
    assert "wrote" in capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], code: int, *argv: str) -> str:
    assert main(argv) == code
    err = capsys.readouterr().err
    assert err.startswith("idml-models: ")
    assert err.count("\n") == 1
    return err


def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], snapshot: Path, tmp_path: Path
) -> None:
    assert "cannot read" in fails(capsys, 2, "inspect", str(tmp_path / "none"))
    assert "known:" in fails(capsys, 2, "fetch", "imagenet")
    assert "known:" in fails(capsys, 2, "export", "resnet", "--input", "1x2x2")
    damaged = snapshot.with_name("damaged")
    damaged.write_bytes(snapshot.read_bytes()[:-5])
    assert "malformed snapshot" in fails(capsys, 2, "inspect", str(damaged))
    damaged.write_bytes(b"")
    assert "too short" in fails(capsys, 2, "inspect", str(damaged))


def test_missing_data_is_exit_code_1(capsys: pytest.CaptureFixture[str], snapshot: Path, tmp_path: Path) -> None:
    argv = ("evaluate", str(snapshot), "--dataset", "fashion-mnist", "--root", str(tmp_path))
    assert "idml-models fetch fashion-mnist" in fails(capsys, 1, *argv)


@pytest.mark.parametrize("argv", [[], ["evaluate", "x"], ["export", "cnn6", "--input", "28"], ["fly"]])
def test_bad_usage_is_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: idml-models" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "idml-models evaluate model.snapshot --dataset fashion-mnist" in capsys.readouterr().out


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(models.__main__, "fetch", interrupted)
    assert fails(capsys, 130, "fetch", "fashion-mnist") == "idml-models: interrupted\n"


def test_the_package_can_be_run() -> None:
    done = subprocess.run([sys.executable, "-m", "models", "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cnn6-28x28x1" in done.stdout
