"""A part of the hostile files of `tests/soak/hostile.py`: refused in one line, within bounds."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "soak" / "hostile.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_hostile_files_are_refused_in_one_line_and_cost_little():
    command = [sys.executable, SCRIPT, "--every", "13"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
