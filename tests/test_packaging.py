"""requirements.txt and pyproject.toml name the same packages; the public names import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def names_and_bounds(lines):
    lines = [line.split(";")[0].strip() for line in lines]
    return {re.sub(r"\[.*\]", "", line) for line in lines if line and not line.startswith("#")}


def test_requirements_and_pyproject_agree():
    tomllib = pytest.importorskip("tomllib", reason="part of Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = names_and_bounds((ROOT / "requirements.txt").read_text().splitlines())
    pytest_bound = {line for line in listed if line.startswith("pytest")}
    assert listed - pytest_bound == names_and_bounds(project["dependencies"])
    assert pytest_bound <= set(project["optional-dependencies"]["test"])


def test_the_page_of_the_index_has_no_links_that_lead_nowhere():
    tomllib = pytest.importorskip("tomllib", reason="part of Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for each in hook["substitutions"]:
        page = re.sub(each["pattern"], each["replacement"], page)
    assert page.startswith("# ddpm-keras\n")
    assert re.findall(r"\]\(([^)]*)", page) == ["https://arxiv.org/abs/2006.11239"]


def test_public_names():
    import ddpm_keras

    for name in ddpm_keras.__all__:
        assert getattr(ddpm_keras, name) is not None
    assert set(ddpm_keras.__all__) <= set(dir(ddpm_keras))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ddpm_keras.nonsense


def test_import_registers_the_classes_whatever_the_order():
    code = (
        "import ddpm_keras, keras\n"
        "names = 'DDPM EMA EMAModel EMAOptimizer UNet WarmupDecay NoiseSchedule'\n"
        "for name in names.split():\n"
        "    assert keras.saving.get_registered_object(f'ddpm_keras>{name}'), name"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readme_shows_what_the_demo_printed():
    from ddpm_keras.app import table
    from ddpm_keras.app.run_directory import Run

    evaluations = Run(ROOT / "docs" / "demo").read_evaluations()
    assert table.text(evaluations) in (ROOT / "README.md").read_text()
    weights = evaluations.current.weights
    assert weights["raw"].frechet > 2 * weights["ema_0.999"].frechet


def test_readme_tells_the_costs_that_the_benchmarks_printed():
    printed = {
        name: (ROOT / "docs" / "benchmarks" / f"{name}.txt").read_text()
        for name in ("ema_overhead", "recording_cost", "metrics")
    }
    shares = re.findall(r"ms, (\S+%) of a step", printed["ema_overhead"])
    memory = re.findall(r"one more average: (\S+) bytes", printed["ema_overhead"])
    recording = re.search(r"(\S+%) by the time inside", printed["recording_cost"])[1]
    distance = re.search(r"pytorch_fid .*?(\S+ x as fast)", printed["metrics"])[1]
    features = re.findall(r"torch_fidelity .*?(\S+ x as fast)", printed["metrics"])[-1]
    costs = [f"{share} of a step" for share in shares]
    costs += [f"{' and '.join(memory)} bytes a parameter", f"{recording} of the time"]
    costs += [f"{distance} as pytorch-fid", f"{features} as torch-fidelity"]
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## What it costs")[1].split("\n## ")[0]
    rows = [row.split("|") for row in section.splitlines() if row.startswith("|")][2:]
    assert [row[2].strip() for row in rows] == costs


def test_graphs_are_made_without_autograph():
    """AutoGraph reads the source of what it converts, and gets it wrong on some Pythons."""
    for path in (ROOT / "ddpm_keras").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        uses = [
            x for x in nodes if isinstance(x, ast.Attribute) and ast.unparse(x) == "tf.function"
        ]
        calls = [x for x in nodes if isinstance(x, ast.Call) and x.func in uses]
        off = [x for x in calls if "autograph=False" in map(ast.unparse, x.keywords)]
        assert len(off) == len(uses), path


def test_contributing_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:ddpm_keras|tests|docs|studies|benchmarks|examples)/[^` ]*)`", text)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]
