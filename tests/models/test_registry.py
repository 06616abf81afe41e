import json
import shutil
from pathlib import Path

import pytest

from models.errors import ArchitectureDamaged, UnknownArchitecture
from models.registry import SHIPPED_GRAPHS, architecture, architectures, families, named


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own copy of cnn6's files, under another name."""
    monkeypatch.setenv("IDML_GRAPHS", str(tmp_path))
    fields = json.loads((SHIPPED_GRAPHS / "cnn6-28x28x1.json").read_text())
    shutil.copy(SHIPPED_GRAPHS / "cnn6-28x28x1.onnx", tmp_path / "mine-28x28x1.onnx")
    description = tmp_path / "mine-28x28x1.json"
    description.write_text(json.dumps(fields | {"name": "mine-28x28x1", "family": "mine"}))
    return description


def test_the_families_of_the_paper_are_shipped_for_both_inputs() -> None:
    parameters = {arch.name: arch.parameters for arch in architectures() if arch.graph.parent == SHIPPED_GRAPHS}
    assert parameters == {
        "cnn6-28x28x1": 62538,
        "cnn6-32x32x3": 66698,
        "cnn10-28x28x1": 110922,
        "cnn10-32x32x3": 114522,
        "cnn14-28x28x1": 228810,
        "cnn14-32x32x3": 232970,
    }
    assert {"cnn6", "cnn10", "cnn14"} <= set(families())


def test_tensors_are_sorted_and_the_digest_is_of_the_graph() -> None:
    arch = architecture("cnn10", (3, 32, 32))
    names = [spec.name for spec in arch.tensors]
    assert names == sorted(names)
    assert arch.input_shape == (3, 32, 32)
    assert len(arch.digest) == 32
    assert arch == named("cnn10-32x32x3")


@pytest.mark.parametrize("name", ["cnn7-28x28x1", "../graphs/cnn6-28x28x1", "", "x" * 5000, "a\0b", "\udcff"])
def test_a_name_that_is_unknown_or_no_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownArchitecture, match="cnn6-28x28x1"):
        named(name)


def test_a_users_own_graph_is_found(own: Path) -> None:
    assert named("mine-28x28x1").graph == own.with_suffix(".onnx")
    assert "mine-28x28x1" in [arch.name for arch in architectures()]


def test_a_user_cannot_replace_a_shipped_graph(own: Path) -> None:
    own.with_name("cnn6-28x28x1.json").write_text("{}")
    assert named("cnn6-28x28x1").graph.parent == SHIPPED_GRAPHS


def test_a_changed_graph_is_refused(own: Path) -> None:
    graph = own.with_suffix(".onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(ArchitectureDamaged, match="idml-models export"):
        named("mine-28x28x1")
    graph.unlink()
    with pytest.raises(ArchitectureDamaged, match="No such file"):
        named("mine-28x28x1")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "input_shape": [1, 2]}'])
def test_a_damaged_description_is_refused(own: Path, text: str) -> None:
    own.write_text(text)
    with pytest.raises(ArchitectureDamaged, match="mine"):
        named("mine-28x28x1")


def test_a_description_under_a_false_name_is_refused(own: Path) -> None:
    shutil.move(own, own.with_name("other-28x28x1.json"))
    shutil.move(own.with_suffix(".onnx"), own.with_name("other-28x28x1.onnx"))
    with pytest.raises(ArchitectureDamaged, match="describes 'mine"):
        named("other-28x28x1")
