"""Who may import whom: the rules that keep the parts apart, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"contracts", "models", "gateway", "device_agent", "provisioning"}

ALLOWED = {
    "contracts": set(),
    "models": set(),
    "gateway": {"contracts"},
    "device_agent": {"contracts", "models"},
    "provisioning": {"device_agent.config", "device_agent.settings", "device_agent.errors", "gateway.config"},
}
"""Our packages that each may import; `provisioning` gets config schemas only."""

LOOPBACK_ALLOWED = {"contracts", "models", "gateway", "device_agent"}
"""The loopback world stands in for everything around an agent, the relay included."""

PURE = [
    "contracts/audit.py",
    "contracts/settlement.py",
    "contracts/states.py",
    "contracts/terms.py",
    "device_agent/ballot.py",
    "device_agent/encounter.py",
    "device_agent/errors.py",
    "device_agent/messages.py",
    "device_agent/link/__init__.py",
    "device_agent/neighborhood.py",
    "device_agent/pace.py",
    "device_agent/link/sessions.py",
    "device_agent/link/wire.py",
    "device_agent/radio/__init__.py",
    "device_agent/radio/advertisement.py",
    "device_agent/radio/duty_cycle.py",
    "device_agent/radio/ids.py",
    "device_agent/radio/link_record.py",
    "device_agent/radio/proximity.py",
    "device_agent/radio/records.py",
    "device_agent/radio/watchdog.py",
    "device_agent/settings.py",
    "device_agent/trace.py",
    "device_agent/vouching.py",
    "gateway/batch.py",
    "gateway/case.py",
    "gateway/operation.py",
    "gateway/submission.py",
    "gateway/views.py",
]
IMPURE = {
    "asyncio", "socket", "select", "selectors", "ssl", "http", "urllib", "httpx", "requests", "sqlite3", "sqlalchemy",
    "torch", "torchvision", "onnxruntime", "web3", "time", "datetime", "random", "secrets", "os", "threading",
    "multiprocessing", "subprocess",
}  # fmt: skip

WITH_TORCH = {"device_agent/learning/train.py", "device_agent/learning/compute.py"}
TORCH = {"torch", "torchvision", "models.cnn", "models.vision", "models.export", "device_agent.learning.train"}
"""Modules that load torch."""


def sources(package: str) -> list[Path]:
    return sorted(one for one in (ROOT / package).rglob("*.py") if "node_modules" not in one.parts)


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports, without those for type checkers only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for one in node.names:
                inner = ROOT / str(node.module).replace(".", "/") / f"{one.name}.py"
                yield f"{node.module}.{one.name}" if inner.exists() else str(node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)


def within(module: str, allowed: set[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in allowed)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    found = sources(package)
    assert found
    for path in found:
        loopback = name_of(path).startswith("device_agent/loopback/") or name_of(path) == "device_agent/__main__.py"
        allowed = (LOOPBACK_ALLOWED if loopback else ALLOWED[package]) | {package}
        for module in imports(path):
            if module.split(".")[0] in OURS:
                assert within(module, allowed), f"{name_of(path)} imports {module}"


def test_the_agent_does_not_know_whether_it_is_simulated() -> None:
    for path in sources("device_agent"):
        name = name_of(path)
        if not name.startswith("device_agent/loopback/") and name != "device_agent/__main__.py":
            assert not any(within(one, {"device_agent.loopback"}) for one in imports(path)), name


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_does_nothing_but_compute(name: str) -> None:
    if name == "gateway/submission.py" and not (ROOT / name).exists():
        pytest.skip("not there yet")
    for module in imports(ROOT / name):
        assert module.split(".")[0] not in IMPURE, f"{name} imports {module}"


def test_the_rule_of_health_is_pure_though_its_gauges_are_not() -> None:
    tree = ast.parse((ROOT / "device_agent/health.py").read_text())
    rule = next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "unfit")
    used = {one.id for one in ast.walk(rule) if isinstance(one, ast.Name)}
    assert not used & {"os", "shutil", "subprocess", "Path", "open"}


def test_torch_is_loaded_by_the_training_process_only() -> None:
    for path in sources("device_agent"):
        name = name_of(path)
        loads = {one for one in imports(path) if within(one, TORCH)}
        assert not loads or name in WITH_TORCH, f"{name} imports {loads}"
        if name != "device_agent/learning/train.py":
            assert not any(within(one, TORCH) for one in imports(path, top_level_only=True)), name


def test_in_the_child_only_the_training_branch_loads_torch() -> None:
    tree = ast.parse((ROOT / "device_agent/learning/compute.py").read_text())
    for node in tree.body:
        found = {
            one.module if isinstance(one, ast.ImportFrom) else one.names[0].name
            for one in ast.walk(node)
            if isinstance(one, ast.Import | ast.ImportFrom)
        }
        if any(within(str(one), TORCH) for one in found):
            assert isinstance(node, ast.ClassDef)
            assert node.name == "_Training"


def test_the_gateway_and_validation_need_no_torch() -> None:
    for path in (*sources("gateway"), *sources("contracts"), ROOT / "models/evaluate.py", ROOT / "models/snapshot.py"):
        assert not any(within(one, TORCH) for one in imports(path)), name_of(path)


def test_a_broad_except_says_why() -> None:
    for package in OURS:
        for path in sources(package):
            lines = path.read_text(encoding="utf-8").splitlines()
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.ExceptHandler):
                    caught = ast.unparse(node.type) if node.type else ""
                    if caught in ("", "Exception", "BaseException"):
                        line = lines[node.lineno - 1]
                        rolls_back = any(isinstance(one, ast.Raise) for one in ast.walk(node))
                        assert rolls_back or "#" in line, f"{name_of(path)}:{node.lineno} catches everything"
