"""What the gateway may import: the standard library, its declared libraries, and of ours only `contracts`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gateway

FOLDER = Path(gateway.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
OURS = {"contracts", "models", "device_agent", "provisioning"}
PURE = ("submission.py", "policy.py", "views.py")
IMPURE = {"asyncio", "socket", "sqlite3", "sqlalchemy", "torch", "web3", "time", "random", "flask", "os", "pathlib"}


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda one: one.name)
def test_of_ours_only_contracts_is_imported(file: Path) -> None:
    assert imported(file) & OURS <= {"contracts"}
    assert "torch" not in imported(file)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_do_nothing_but_compute(name: str) -> None:
    assert not imported(FOLDER / name) & IMPURE


def test_a_running_gateway_has_loaded_no_torch_and_no_agent() -> None:
    script = (
        "import sys, gateway.__main__, gateway.compose\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(*sorted(loaded & {'torch', 'models', 'device_agent', 'provisioning', 'numpy', 'eth_tester'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
