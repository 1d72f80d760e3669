"""What the launches of docs/scaling.md set TF_CONFIG to, by the shell that they are written for."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from ddpm_keras.app import cluster

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
COMMANDS = {  # in the place of those that are not here
    "ddpm-keras": 'echo "$TF_CONFIG $*"',
    "scontrol": "printf 'node%s\\n' 3 5 7",
    "srun": 'for i in 0 1 2; do SLURM_PROCID=$i "$@"; done',
}
LAUNCHES = {
    "On one machine": [{}],
    "Slurm": [{"SLURM_JOB_NODELIST": "node[3,5,7]"}],
    "Kubernetes": [{"WORKERS": "3", "JOB_COMPLETION_INDEX": str(index)} for index in range(3)],
}
HOSTS = {
    "On one machine": ["localhost:5000", "localhost:5001"],
    "Slurm": ["node3:5000", "node5:5000", "node7:5000"],
    "Kubernetes": ["ddpm-0.ddpm:5000", "ddpm-1.ddpm:5000", "ddpm-2.ddpm:5000"],
}


@pytest.fixture
def launched(tmp_path):
    """Function of a heading's first words: the lines printed by the commands below it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in COMMANDS.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)

    def launched(title):
        part = PAGE.read_text().split(f"### {title}")[1]
        script = re.search(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)[1]
        lines = []
        for given in LAUNCHES[title]:
            environment = os.environ | given | {"PATH": f"{tools}:{os.environ['PATH']}"}
            command = ["bash", "-euc", script]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
            )
            lines += done.stdout.splitlines()
        return sorted(lines)

    return launched


@pytest.mark.parametrize("title", LAUNCHES)
def test_each_task_finds_its_place(title, launched, monkeypatch):
    lines = launched(title)
    assert len(lines) == len(HOSTS[title])
    for index, line in enumerate(lines):
        settings, end = json.JSONDecoder().raw_decode(line)
        assert settings["cluster"] == {"worker": HOSTS[title]}
        assert "train" in line[end:] and "--strategy multiworker" in line[end:]
        monkeypatch.setenv("TF_CONFIG", json.dumps(settings))
        assert cluster.place("multiworker") == cluster.Place(index, len(lines))


@pytest.mark.parametrize("title", ["Slurm", "Kubernetes"])
def test_a_run_that_is_there_goes_on(title, launched, tmp_path):
    (tmp_path / "runs" / "large").mkdir(parents=True)
    (tmp_path / "runs" / "large" / "config.json").touch()
    for line in launched(title):
        assert line.endswith("train --resume --run-dir runs/large")
