"""Dependencies point one way, without a cycle: the contracts of pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_imports_keep_to_the_layers():
    pytest.importorskip("importlinter", reason="import-linter is part of the test extra")
    command = [sys.executable, "-c", COMMAND, "--no-cache"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
