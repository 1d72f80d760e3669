"""The benchmark of samplers: what it measures next, and the page that is made of its file."""

import json
import sys
from pathlib import Path

import pytest

from ddpm_keras import choices, noise, samplers  # before the benchmark, which has it loaded lazily

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import steps_vs_quality as benchmark  # noqa: E402

DISTANCES = {("ddim", 20): [2.0, 3.0], ("ddim", 50): [1.5, 2.3], ("heun", 20): [4.0]}
DISTANCES |= {("dpm", 20): [1.4, 2.0], ("dpm", 50): [1.7, 2.0]}
RECORD = {
    "command": "python train.py",
    "metric": "Fréchet distance, digits classifier",
    "num_images": 1000,
    "floor": 1.11,
    "num_real": [1437, 360],
    "rows": [
        {
            "weights": "raw", "sampler": sampler, "evaluations": evaluations, "seed": seed,
            "is": "DDIM(steps=20)", "frechet": value,
        }
        for (sampler, evaluations), found in DISTANCES.items() for seed, value in enumerate(found)
    ],
}  # fmt: skip


def test_the_page_shows_what_is_measured():
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert benchmark.with_results(page, benchmark.read()) == page


def test_every_sampler_is_measured_with_the_evaluations_that_it_is_said_to_make():
    cells = benchmark.cells(("raw", "ema"), 4)
    assert len(set(cells)) == len(cells) == 7 * len(choices.SAMPLERS.built_in) * 2 * 4
    assert [cell.evaluations for cell in cells] == sorted(cell.evaluations for cell in cells)
    schedule = noise.linear(1000)
    for cell in cells[:: len(cells) // 7]:
        sampler = samplers.get(cell.sampler, schedule, steps=cell.steps)
        assert abs(len(sampler.timesteps(schedule)) - cell.evaluations) <= 1, cell
    assert benchmark.Cell("raw", "heun", 100, 0).steps == 50


def test_a_table_has_means_and_intervals_of_n_minus_1():
    text = benchmark.with_results(f"a{benchmark.BEGIN}{benchmark.END}b", RECORD)
    assert "of 1,000 images for each of 2 seeds" in text
    # Of two values the interval is their half distance times t = 12.706.
    assert "| `ddim` | 2.50 ± 6.35 | 1.90 ± 5.08 |" in text
    assert "| `heun` | 4.00 |  |" in text
    assert "changes by -0.600 (-1.871 to +0.671)" in text
    # Both of its seeds are nearer than those of the default, by .1 and .3.
    assert "- `dpm` is lowest with 20 evaluations: -0.20 (-1.47 to +1.07) against `ddim`" in text
    assert "`heun` is lowest" not in text


def test_the_plot_has_a_line_for_each_sampler():
    (axis,) = benchmark.draw(RECORD).axes
    assert axis.get_title() == "raw"
    assert [entry.get_text() for entry in axis.get_legend().get_texts()] == ["ddim", "dpm", "heun"]


def test_what_was_measured_goes_on_only_with_the_same_run(monkeypatch, tmp_path):
    known = RECORD | {"fingerprint": "ab", "steps": 5}
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results.json")
    benchmark.RESULTS.write_text(json.dumps(known))

    class Run:
        config = {"command": "python train.py", "data": {"fingerprint": "cd"}}
        last_step = 5

    class Extractor:
        metric = RECORD["metric"]

    real = {"train": [[0.0], [1.0]], "held_out": [[0.0], [1.0]]}
    with pytest.raises(SystemExit, match="fingerprint 'ab', not 'cd'"):
        benchmark.begun(Run, Extractor, real, 1000)
