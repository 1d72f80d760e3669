"""The model card of a run says what its records say, and what it tells to type works."""

import re
import shlex

import pytest
import yaml
from report_runs import make_run, record_of

from ddpm_keras import checksums, report
from ddpm_keras.app.options import sample_options
from ddpm_keras.app.run_directory import Run
from ddpm_keras.report import card


def parts(text):
    """(metadata, page) of a card."""
    head, page = re.fullmatch(r"---\n(.*?)---\n\n(.*)", text, re.DOTALL).groups()
    return yaml.safe_load(head), page


@pytest.fixture(scope="module")
def carded(tmp_path_factory):
    path = make_run(tmp_path_factory.mktemp("cards") / "my run")
    (path / "network-ema.keras").write_bytes(b"a network")
    assert card.write(Run.open(path)) == path / "README.md"
    return path


def test_what_somebody_wrote_into_a_card_is_kept(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    run.network.write_bytes(b"a network")
    card.write(run)
    first = run.card.read_text()
    run.evaluation.unlink()
    card.write(run)
    assert run.card.read_text() != first and "Nothing was measured yet" in run.card.read_text()
    mine = first.replace("## Limits", "## Limits\n\n- Mine: \u00e9.")
    for kept in (mine, first + "mine\n", "mine", "mine\n" + first):
        run.card.write_text(kept)
        checksums.say_once.cache_clear()
        with pytest.warns(UserWarning, match="README.md was changed .* and is kept"):
            card.write(run)
        assert run.card.read_text() == kept
    run.card.write_text("\n")
    card.write(run)
    assert "Nothing was measured yet" in run.card.read_text()


def test_metadata_hold_every_number_that_was_measured(carded):
    head, _ = parts((carded / "README.md").read_text())
    assert (head["license"], head["library_name"]) == ("cc-by-4.0", "keras")
    assert head["pipeline_tag"] == "unconditional-image-generation" and "ema" in head["tags"]
    (model,) = head["model-index"]
    weights = record_of(carded).evaluation.weights
    assert len(model["results"]) == len(weights)
    for result, (name, measured) in zip(model["results"], weights.items(), strict=True):
        for number in result["metrics"]:
            assert number["value"] == getattr(measured, number["type"])
            assert number["name"].endswith(f", {name}")
        first = result["metrics"][0]
        assert first["name"] == f"Fréchet distance, digits classifier, {name}"
        assert "1,437 images, by DDIM, 50 steps, seed 0" in result["source"]["name"]


def test_a_licence_that_is_given_wins(carded):
    assert parts(card.text(record_of(carded), licence="mit"))[0]["license"] == "mit"


def test_a_folder_that_is_called_as_a_built_in_set_has_no_licence_of_it(tmp_path):
    run = Run(make_run(tmp_path / "my\nrun"))
    data = run.config["data"] | {"path": "/home/me/digits", "name": "digits", "provenance": "a|b"}
    run.write_config(run.config | {"data": data})
    head, page = parts(card.text(record_of(run.path)))
    assert head["license"] == "unknown" and page.startswith("# my\\nrun\n")
    assert "| images | digits: a\\|b |" in page


def test_the_hub_reads_the_metadata(carded):
    hub = pytest.importorskip("huggingface_hub", reason="it comes with diffusers: make peers")
    read = hub.ModelCard((carded / "README.md").read_text()).data
    weights = record_of(carded).evaluation.weights
    values = [each.metric_value for each in read.eval_results if each.metric_type == "frechet"]
    assert values == [each.frechet for each in weights.values()]
    assert read.library_name == "keras"


def test_the_page_tells_protocol_scores_and_commands(carded):
    _, page = parts((carded / "README.md").read_text())
    assert (
        "ema_0.999, float32, moved after every optimizer step, effective window 1,000 steps" in page
    )
    assert "1,437 images, by DDIM, 50 steps, seed 0, step 400." in page
    assert f"python sample.py '{carded}' --num 64" in page
    assert "Use" not in page.split("## Scores")[1] and "closer to the real images" in page
    rows = [line for line in page.split("## Scores")[1].splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1 and len(rows) == 2 + 7
    assert "begun 2026-05-01" in page and "1,437, 360" in page


def test_the_report_writes_the_card_again_and_a_run_without_network_has_none(carded, made_run):
    (carded / "README.md").unlink()
    report.write(Run.open(carded))
    assert (carded / "README.md").is_file()
    report.write(Run.open(made_run))
    assert card.write(Run.open(made_run)) is None and not (made_run / "README.md").exists()


def test_what_the_card_of_a_training_says_works(tiny_run, monkeypatch):
    monkeypatch.chdir(tiny_run)
    head, page = parts((tiny_run / "README.md").read_text())
    assert "model-index" not in head and "Nothing was measured yet" in page
    assert "ema_0.9: ConstantDecay(beta=0.9), float32" in page
    python, *shells = re.findall(r"```(?:python|bash)\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(python, names)
    assert names["images"].shape == (16, 8, 8, 1)
    words = shlex.split(shells[0])
    assert words[:2] == ["python", "sample.py"] and sample_options(words[2:]).num == 64
