"""Models by digest: whole or not at all, and durable before that is said."""

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask, send_file

from gateway.errors import Refusal, StoreUnavailable
from gateway.shelf import Shelf

BODY = b"model" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()


def files(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


def test_a_model_lies_under_its_digest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert shelf.put(DIGEST, BODY)
    assert not shelf.put(DIGEST, BODY)
    assert shelf.find(DIGEST) == tmp_path / DIGEST[:2] / DIGEST
    assert files(tmp_path) == [shelf.find(DIGEST)]
    assert shelf.find(DIGEST).read_bytes() == BODY


def test_a_model_of_a_relative_folder_can_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask would look for a relative path beside its own modules."""
    monkeypatch.chdir(tmp_path)
    shelf = Shelf(Path("models"))
    shelf.put(DIGEST, BODY)
    with Flask("elsewhere").test_request_context():
        response = send_file(shelf.find(DIGEST), mimetype="application/octet-stream")
        response.direct_passthrough = False
        assert response.get_data() == BODY
        response.close()


@pytest.mark.parametrize("name", ["", "0" * 63, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_is_refused(tmp_path: Path, name: str) -> None:
    for act in (lambda: Shelf(tmp_path).find(name), lambda: Shelf(tmp_path).put(name, b"")):
        with pytest.raises(Refusal) as caught:
            act()
        assert caught.value.status == 400


def test_other_bytes_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="SHA-256"):
        Shelf(tmp_path).put(DIGEST, BODY + b"!")
    assert files(tmp_path) == []


def test_what_is_written_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("sync"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append("name"), replace(self, to)))
    Shelf(tmp_path).put(DIGEST, BODY)
    assert seen == ["sync", "name", "sync", "sync"]


def test_a_failing_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="Input/output"):
        Shelf(tmp_path).put(DIGEST, BODY)
    assert files(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from gateway.shelf import Shelf; from gateway.errors import StoreUnavailable\n"
        "try: Shelf(pathlib.Path(sys.argv[1])).put(sys.argv[2], b'model' * 1000)\n"
        "except StoreUnavailable as error: print(error); sys.exit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), DIGEST],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)),
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 3, done.stderr
    assert "cannot store a model" in done.stdout
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot create"):
        Shelf(tmp_path / "file" / "models")
