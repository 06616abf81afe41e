"""Models by digest: whole or not at all, and durable before that is said."""

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, send_file
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import MIB, ModelSettings
from gateway.errors import Code, Refusal, StoreUnavailable
from gateway.partial import MOST_AT_ONCE
from gateway.shelf import Shelf

BODY = b"model" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()


def files(folder: Path) -> list[Path]:
    """What holds bytes; who owns it is told by empty ones."""
    return [one for one in folder.rglob("*") if one.is_file() and one.stat().st_size]


def put(shelf: Shelf, body: bytes = BODY, *, digest: str = DIGEST, **options: Any) -> bool:
    chunks = (body[at : at + 777] for at in range(0, len(body), 777))
    return shelf.put(digest, chunks, size_bytes=len(body), **options)


def put_part(shelf: Shelf, start: int, end: int, body: bytes = BODY, **options: Any) -> int:
    return shelf.put_part(DIGEST, [body[start:end]], start=start, total_bytes=len(body), **options)


def refusal(act: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value


def test_a_model_lies_under_its_digest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert put(shelf)
    assert not put(shelf)
    assert shelf.find(DIGEST) == tmp_path / DIGEST[:2] / DIGEST
    assert files(tmp_path) == [shelf.find(DIGEST)]
    assert shelf.find(DIGEST).read_bytes() == BODY


def test_a_model_of_a_relative_folder_can_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask would look for a relative path beside its own modules."""
    monkeypatch.chdir(tmp_path)
    shelf = Shelf(Path("models"))
    put(shelf)
    with Flask("elsewhere").test_request_context():
        response = send_file(shelf.find(DIGEST), mimetype="application/octet-stream")
        response.direct_passthrough = False
        assert response.get_data() == BODY
        response.close()


@pytest.mark.parametrize("name", ["", "0" * 63, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_is_refused(tmp_path: Path, name: str) -> None:
    for act in (lambda: Shelf(tmp_path).find(name), lambda: Shelf(tmp_path).put(name, [], size_bytes=0)):
        with pytest.raises(Refusal) as caught:
            act()
        assert caught.value.status == 400


def test_other_bytes_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="SHA-256"):
        put(Shelf(tmp_path), BODY + b"!")
    assert files(tmp_path) == []


def test_what_is_written_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("sync"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append("name"), replace(self, to)))
    put(Shelf(tmp_path))
    assert seen == ["sync", "name", "sync", "sync"]


def test_a_failing_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="Input/output"):
        put(Shelf(tmp_path))
    assert files(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from gateway.shelf import Shelf; from gateway.errors import StoreUnavailable\n"
        "try: Shelf(pathlib.Path(sys.argv[1])).put(sys.argv[2], [b'model' * 1000], size_bytes=5000)\n"
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


# In parts


def test_parts_make_a_model_when_the_last_one_is_there(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert [put_part(shelf, 0, 2000), shelf.received(DIGEST)] == [2000, 2000]
    with pytest.raises(Refusal):
        shelf.find(DIGEST)
    assert put_part(Shelf(tmp_path), 2000, 4000) == 4000  # another process, after a restart
    assert put_part(shelf, 4000, 5000) == shelf.received(DIGEST) == 5000
    assert files(tmp_path) == [shelf.find(DIGEST)]
    assert shelf.find(DIGEST).read_bytes() == BODY


@given(cuts=st.lists(st.integers(1, len(BODY) - 1), max_size=8, unique=True).map(sorted))
def test_however_it_is_cut(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    edges = [0, *cuts, len(BODY)]
    assert [put_part(shelf, start, end) for start, end in pairwise(edges)] == edges[1:]
    assert shelf.find(DIGEST).read_bytes() == BODY


def test_a_part_that_is_not_the_next_is_told_where_to_go_on(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    put_part(shelf, 0, 2000)
    for start in (0, 1999, 2001):
        told = refusal(lambda start=start: put_part(shelf, start, 5000))
        assert (told.status, told.code, told.headers["Upload-Offset"]) == (409, Code.WRONG_OFFSET, "2000")
    assert shelf.received(DIGEST) == 2000


def test_parts_of_other_bytes_make_no_model(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    other = b"x" * len(BODY)
    put_part(shelf, 0, 2000, other)
    assert refusal(lambda: put_part(shelf, 2000, 5000, other)).code is Code.DIGEST_MISMATCH
    assert (files(tmp_path), shelf.received(DIGEST)) == ([], 0)


def test_a_part_that_breaks_off_counts_as_never_sent(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield BODY[2000:3000]
        raise OSError(5, "Input/output error")

    shelf = Shelf(tmp_path)
    put_part(shelf, 0, 2000)
    with pytest.raises(StoreUnavailable):
        shelf.put_part(DIGEST, broken(), start=2000, total_bytes=5000)
    assert shelf.received(DIGEST) == 2000


def test_each_owner_uploads_for_itself(tmp_path: Path) -> None:
    """Nobody can spoil or hold up the upload of another."""
    shelf = Shelf(tmp_path)
    put_part(shelf, 0, 2000, b"x" * 5000, owner="mallory")
    put_part(shelf, 0, 5000, owner="alice")
    assert shelf.find(DIGEST).read_bytes() == BODY


def test_two_parts_at_once_do_not_mix(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)

    def meanwhile() -> Iterator[bytes]:
        assert refusal(lambda: put_part(shelf, 0, 5000)).code is Code.UPLOAD_BUSY
        yield BODY[:2000]

    assert shelf.put_part(DIGEST, meanwhile(), start=0, total_bytes=5000) == 2000


def test_unfinished_uploads_are_bounded(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for number in range(MOST_AT_ONCE):
        shelf.put_part(f"{number:064x}", [b"x"], start=0, total_bytes=2, owner="alice")
    assert refusal(lambda: put_part(shelf, 0, 1, owner="alice")).code is Code.QUOTA_FULL
    assert put_part(shelf, 0, 1, owner="bob") == 1


# Quotas and expiry


def model(number: int, size_bytes: int) -> tuple[str, bytes]:
    body = number.to_bytes(4, "big") * (size_bytes // 4)
    return hashlib.sha256(body).hexdigest(), body


def test_each_owner_has_a_quota_and_all_together_have_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, settings=ModelSettings(quota_per_device_bytes=MIB, quota_bytes=2 * MIB))
    first, second, third, fourth = (model(number, MIB * 3 // 4) for number in range(4))
    put(shelf, first[1], digest=first[0], owner="alice")
    told = refusal(lambda: put(shelf, second[1], digest=second[0], owner="alice"))
    assert (told.status, told.code, told.retry) == (507, Code.QUOTA_FULL, True)
    assert not put(shelf, first[1], digest=first[0], owner="alice")  # it is there
    put(shelf, second[1], digest=second[0], owner="bob")
    told = refusal(lambda: put(shelf, third[1], digest=third[0], owner="carol"))
    assert (told.status, told.code, told.retry) == (507, Code.SHELF_FULL, True)
    told = refusal(lambda: shelf.put_part(fourth[0], [b"x"], start=0, total_bytes=len(fourth[1]), owner="alice"))
    assert told.code is Code.QUOTA_FULL


def test_what_nobody_uses_goes_and_makes_room(tmp_path: Path) -> None:
    day_s, now_s = 86_400.0, 1_000_000.0
    settings = ModelSettings(quota_per_device_bytes=MIB, keep_days=10, partial_hours=24)
    shelf = Shelf(tmp_path, settings=settings, now_s=lambda: now_s)
    old, used = model(1, MIB // 2), model(2, MIB // 2)
    for digest, body in (old, used):
        put(shelf, body, digest=digest, owner="alice")
    now_s += 9 * day_s
    shelf.find(used[0])
    assert shelf.expire(now_s) == 0
    now_s += 2 * day_s
    assert shelf.expire(now_s) == 1
    assert refusal(lambda: shelf.find(old[0])).status == 404
    assert shelf.find(used[0]).read_bytes() == used[1]
    assert put(shelf, old[1], digest=old[0], owner="alice")


def test_uploading_lets_go_of_what_is_old_once_an_hour(tmp_path: Path) -> None:
    """Each gateway for its own disk, whoever works on the database."""
    now_s = 1_000_000.0
    shelf = Shelf(tmp_path, settings=ModelSettings(keep_days=10), now_s=lambda: now_s)
    old, new, newer, newest = (model(number, 400) for number in range(4))
    put(shelf, old[1], digest=old[0])
    now_s += 11 * 86_400.0
    put(shelf, new[1], digest=new[0])
    assert refusal(lambda: shelf.find(old[0])).status == 404
    os.utime(shelf.find(new[0]), (1.0, 1.0))
    now_s += 3_599
    put(shelf, newer[1], digest=newer[0])
    assert shelf.size() == (2, 800)
    now_s += 1
    shelf.put_part(newest[0], [newest[1]], start=0, total_bytes=400)
    assert (refusal(lambda: shelf.find(new[0])).status, shelf.size()) == (404, (2, 800))


def test_a_disk_that_cannot_be_cleaned_takes_models_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(tmp_path)
    put(shelf)

    def forbidden(*_: object) -> int:
        raise StoreUnavailable("cannot remove old models: Permission denied")

    again = Shelf(tmp_path)
    monkeypatch.setattr(again, "expire", forbidden)
    digest, body = model(1, 400)
    assert put(again, body, digest=digest)
    assert "cannot remove old models" in caplog.text


def test_quotas_count_what_others_store_and_remove(tmp_path: Path) -> None:
    """As after a restart, or with two processes on one folder."""
    settings = ModelSettings(quota_per_device_bytes=MIB, quota_bytes=2 * MIB)
    one, other = Shelf(tmp_path, settings=settings), Shelf(tmp_path, settings=settings)
    first, second = model(1, MIB * 3 // 4), model(2, MIB * 3 // 4)
    assert put(one, first[1], digest=first[0], owner="alice")
    assert refusal(lambda: put(other, second[1], digest=second[0], owner="alice")).code is Code.QUOTA_FULL
    assert put(other, second[1], digest=second[0], owner="bob")
    assert one.size() == (2, 2 * len(first[1]))
    one.find(first[0]).unlink()
    assert other.size() == (1, len(first[1]))
    assert put(other, first[1], digest=first[0], owner="alice")


def test_models_are_looked_at_again_only_where_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, looked = Shelf(tmp_path), []
    models = [model(number, 400) for number in range(40)]
    for digest, body in models:
        put(shelf, body, digest=digest)
    for place in {tmp_path / digest[:2] for digest, _ in models}:
        os.utime(place, (1.0, 1.0))  # long ago
    assert shelf.size() == (40, 16_000)
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: (looked.append(self.name), iterdir(self))[1])
    assert shelf.size() == (40, 16_000)
    assert looked == []
    shelf.find(models[0][0]).unlink()
    assert shelf.size() == (39, 15_600)
    assert shelf.size() == (39, 15_600)
    assert looked == [models[0][0][:2]] * 2  # the second time because it has only just changed


def test_uploads_that_do_not_go_on_are_swept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    put_part(shelf, 0, 2000)
    (tmp_path / "partial" / "left-over.part").write_bytes(b"half")  # of a process that was killed
    written_s = max(one.stat().st_mtime for one in files(tmp_path))
    assert shelf.expire(written_s + 23 * 3600) == 0
    assert shelf.expire(written_s + 25 * 3600) == 2
    assert (files(tmp_path), shelf.received(DIGEST)) == ([], 0)


@pytest.mark.parametrize("at", ["write", "mark", "name"])
def test_killed_at_any_point_there_is_no_half_model(tmp_path: Path, at: str) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from gateway.shelf import Shelf\n"
        "shelf = Shelf(pathlib.Path(sys.argv[1]))\n"
        "def end(*_, **__): os._exit(9)\n"
        "if sys.argv[3] == 'mark': pathlib.Path.touch = end\n"
        "if sys.argv[3] == 'name': pathlib.Path.replace = end\n"
        "def chunks():\n"
        "    yield b'model' * 500\n"
        "    if sys.argv[3] == 'write': end()\n"
        "    yield b'model' * 500\n"
        "shelf.put(sys.argv[2], chunks(), size_bytes=5000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), DIGEST, at], check=False)
    assert done.returncode == 9
    shelf = Shelf(tmp_path)
    assert refusal(lambda: shelf.find(DIGEST)).status == 404
    shelf.expire(2**33)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []
    assert put(shelf)


def test_a_folder_that_cannot_be_cleaned_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    body = b"a model"
    shelf.put(hashlib.sha256(body).hexdigest(), [body], size_bytes=len(body))
    monkeypatch.setattr(Path, "unlink", forbidden)
    with pytest.raises(StoreUnavailable, match="cannot remove old models: Permission denied"):
        shelf.expire(10**12)


def test_a_model_on_a_disk_that_takes_no_writes_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    body = b"a model"
    digest = hashlib.sha256(body).hexdigest()
    shelf.put(digest, [body], size_bytes=len(body))
    monkeypatch.setattr("os.utime", read_only)
    assert shelf.find(digest).read_bytes() == body
