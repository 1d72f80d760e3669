"""The pages: what they say, what they hold, and how they behave in a browser."""

import base64
import csv
import dataclasses
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from report_runs import make_run, record_of, write_evaluation

from ddpm_keras import files, images, names, report
from ddpm_keras.app import table
from ddpm_keras.app.run_directory import Run
from ddpm_keras.quality import Difference
from ddpm_keras.report import (
    analysis,
    changes,
    figures,
    figures_compared,
    picture,
    tables,
    words,
)


class Elements(html.parser.HTMLParser):
    """All start tags as (tag, attributes), and the text of each id."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in ("img", "input", "meta", "link"):
            self.open.append(attributes.get("id"))

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        for name in filter(None, self.open):
            self.texts[name] = self.texts.get(name, "") + data


def summary(path):
    """The summary alone, without the time that figures take."""
    return words.summary(record_of(path))


# What a page says


def test_summary_names_the_weights_the_numbers_and_their_circumstances(written, made_run):
    texts = Elements(written).texts
    weights = record_of(made_run).evaluation.weights
    assert texts["advice"].strip() == "Use the averaged weights ema_0.999 rather than the raw ones."
    for part in (
        "Fréchet distance, digits classifier",
        "1,437 generated images",
        f"ema_0.999 is at {weights['ema_0.999'].frechet:.2f}",
        f"raw at {weights['raw'].frechet:.2f}",
        f"{weights['raw'].frechet / weights['ema_0.999'].frechet:.1f} times",
        "95% interval",
        "held out are at 3",
    ):
        assert part in texts["evidence"], part
    assert "average of many steps" in texts["reason"]
    assert texts["use"] == f"python sample.py {made_run} --weights ema_0.999"


def test_raw_is_advised_where_it_wins_and_the_reason_is_given(tmp_path):
    path = make_run(tmp_path / "short", decays={"ema_0.9999": 0.9999}, averages_win=False)
    write_evaluation(
        path, {"raw": 4.0, "ema_0.9999": 90.0}, {"ema_0.9999": Difference(86.0, 80.0, 90.0)}
    )
    texts = summary(path)
    assert "Use the raw weights" in texts["advice"]
    assert "ema_0.9999 is at 90.00, raw at 4.00" in texts["evidence"]
    assert "96% of it are still the weights before training" in texts["reason"]  # 0.9999^400


def test_raw_that_wins_early_is_explained_by_the_progress_of_training(tmp_path):
    path = make_run(tmp_path / "early", decays={"ema_0.9": 0.9}, averages_win=False)
    write_evaluation(path, {"raw": 4.0, "ema_0.9": 5.0}, {"ema_0.9": Difference(1.0, 0.5, 1.5)})
    history = (path / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("val_loss_raw")
    values = iter(["1.0", "0.5", "0.25", "0.2"])
    for i, line in enumerate(history[1:], 1):
        cells = line.split(",")
        cells[column] = next(values) if cells[column] else ""
        history[i] = ",".join(cells)
    (path / "history.csv").write_text("\n".join(history) + "\n")
    assert "fell by 20% in the last quarter" in summary(path)["reason"]


def test_synthesised_weights_come_with_the_command_that_draws_with_them(tmp_path):
    path = make_run(tmp_path / "run")
    write_evaluation(path, {"raw": 4.0, "posthoc_sigma_0.1": 2.0})
    assert summary(path)["use"] == f"python sample.py {path} --weights posthoc_sigma_0.1"


def test_a_run_without_evaluation_goes_by_validation_loss(tmp_path):
    path = make_run(tmp_path / "run", evaluated=False)
    texts = summary(path)
    assert "By the validation loss alone, ema_0.999 is ahead" in texts["advice"]
    assert "validation loss at step 400" in texts["evidence"]


def test_a_damaged_picture_of_the_raw_weights_is_said_and_left_out(tmp_path):
    run = Run(make_run(tmp_path / "run", epochs=2))
    (run.samples / "epoch-0002-raw.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="epoch-0002-raw.png is damaged .*; going on without it"):
        assert report.write(run).is_file()


def test_a_run_with_nothing_but_its_configuration(tmp_path):
    (tmp_path / "config.json").write_text('{"options": {}}')
    texts = Elements(report.write(Run.open(tmp_path))).texts
    assert "Nothing has been measured yet" in texts["advice"]
    assert f"python evaluate.py {tmp_path}" in texts["evidence"]


def test_names_are_escaped(tmp_path):
    path = make_run(tmp_path / "run", decays={"ema_<script>x": 0.9}, evaluated=False)
    text = report.write(Run.open(path)).read_text()
    assert "ema_<script>" not in text and "ema_&lt;script&gt;x" in text


def test_one_run_is_no_comparison(tmp_path, made_run):
    with pytest.raises(ValueError, match="at least two runs"):
        report.write_comparison([Run.open(made_run)], tmp_path / "comparison.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (3.0, "3"), (1437, "1,437"), (3.14159, "3.142"), (0.000123456, "0.0001235")]
    + [(123456.7, "123,457"), (float("nan"), "nan"), ("text", "text"), (-0.5, "-0.5")],
)
def test_numbers_read_well(value, text):
    assert words.number(value) == text


# What it holds


@pytest.mark.parametrize("which", ["written", "compared"])
def test_page_is_self_contained(which, request):
    path = request.getfixturevalue(which)
    for tag, attributes in Elements(path).tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    text = re.sub(r"base64,[\w+/=]+|/\*! \S+ \(v[\d.]+\) \*/", "", path.read_text())
    assert "http://" not in text and "https://" not in text and "@import" not in text


def test_slider_holds_every_picture_to_the_byte(written, made_run):
    data = json.loads(Elements(written).texts["pictures"])
    assert data["epochs"] == [1, 2, 3, 4] and data["sets"] == ["raw", "ema_0.99", "ema_0.999"]
    for epoch, row in zip(data["epochs"], data["images"], strict=True):
        for name, content in zip(data["sets"], row, strict=True):
            file = made_run / "samples" / f"epoch-{epoch:04d}-{name}.png"
            assert base64.b64decode(content) == file.read_bytes()


def test_figures_and_numbers_lie_beside_the_page(written, made_run):
    beside = {path.name for path in (made_run / "report").iterdir()}
    drawn = figures.draw(record_of(made_run))
    assert {f"{picture.name}.png" for picture in drawn} <= beside and len(drawn) == 10
    for path in (made_run / "report").glob("*.png"):
        with Image.open(path) as image:
            assert image.width >= 1000
            assert len(image.convert("L").getcolors()) > 10
    with open(made_run / "report" / "quality.csv", newline="") as file:
        rows = {row["weights"]: row for row in csv.DictReader(file)}
    weights = record_of(made_run).evaluation.weights
    assert {k: float(v["to training images"]) for k, v in rows.items()} == {
        name: value.frechet for name, value in weights.items()
    }
    with open(made_run / "report" / "stability_val_loss.csv", newline="") as file:
        rows = {row["weights"]: row for row in csv.DictReader(file)}
    summary = analysis.stability_table(record_of(made_run), "val_loss")["ema_0.99"]
    assert float(rows["ema_0.99"]["variation"]) == summary.variation
    assert int(rows["ema_0.99"]["steps to raw's best"]) == summary.steps_to_best_raw


def test_what_an_earlier_report_left_beside_the_page_goes_with_it(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    report.write(run)
    (run.report_folder / "mine.csv").write_text("")
    before = {path.name for path in run.report_folder.iterdir()}
    run.evaluation.unlink()
    report.write(run)
    gone = before - {path.name for path in run.report_folder.iterdir()}
    assert {"quality.csv", "final_quality.png"} <= gone and "mine.csv" not in gone
    (run.report_folder / "written.json").write_text("{")
    report.write(run)
    assert (run.report_folder / "mine.csv").exists()


def test_the_charts_come_from_one_release_of_their_library_byte_by_byte():
    folder = Path(report.__file__).parent / "templates" / "uplot"
    vendored = json.loads((folder / "VENDORED.json").read_text())
    beside = {path.name for path in folder.iterdir()} - {"VENDORED.json"}
    assert beside == vendored["sha256"].keys()
    for name, checksum in vendored["sha256"].items():
        assert files.sha256(folder / name) == checksum, name
    script = (folder / "uPlot.iife.min.js").read_text()
    assert f"(v{vendored['version']})" in script and len(script) < 60_000
    assert "MIT License" in (folder / "LICENSE").read_text()


def test_charts_hold_the_numbers_of_the_history(written, made_run):
    drawn = {each.name: each for each in figures.draw(record_of(made_run))}
    (axis,) = drawn["validation_loss"].chart()
    assert [line["label"] for line in axis["lines"]] == ["raw", "ema_0.99", "ema_0.999"]
    for line in axis["lines"]:
        steps, values = record_of(made_run).curve(names.column("val_loss", line["label"]))
        assert axis["x"] == list(steps)
        assert line["y"] == pytest.approx(values, rel=1e-5)
    assert len(drawn["training_loss"].chart()) == 2  # an axis each
    assert drawn["blocks"].chart()[0]["categories"] == ["first", "middle", "last"]
    (path,) = drawn["trajectory"].chart()
    steps, _ = record_of(made_run).trajectory()
    assert path["x"] == list(steps) and [each["label"] for each in path["lines"]][0] == "raw"
    assert all(len(each["across"]) == len(each["y"]) == len(steps) for each in path["lines"])
    assert all(each.chart() for each in drawn.values())
    assert written.read_text().count('class="chart-data"') == len(drawn) == 10


def test_charts_hold_bars_and_points_with_whiskers_in_rows(compared, made_run):
    (*bars, floor) = figures.draw(record_of(made_run))[0].chart()[0]["lines"]
    measured = record_of(made_run).measured()
    assert [bar["label"] for bar in bars] == list(measured)
    for i, (bar, value) in enumerate(zip(bars, measured.values(), strict=True)):
        assert bar["low"] == 0 and bar["high"] == bar["across"][i] == pytest.approx(value, rel=1e-5)
        assert [bar["y"][k] for k in range(len(bars))] == [
            i if k == i else None for k in range(len(bars))
        ]
    assert floor["label"] == "real images" and set(floor["across"]) == {3.0} and floor["dash"]
    records = [record_of(path) for path in sorted(compared.parent.glob("constant-*"))]
    drawn = {each.name: each for each in figures_compared.draw(records)}
    lines = drawn["comparison_gain"].chart()[0]["lines"]
    expected = analysis.across_seeds(records, lambda record: record.measured())
    for line, (_, gain) in zip(lines, list(expected.values())[1:], strict=True):
        assert (line["low"], line["high"]) == pytest.approx((gain.low, gain.high), rel=1e-5)
        assert line["marker"] and gain.mean == pytest.approx(
            max(filter(None, line["across"])), rel=1e-5
        )


def test_charts_of_lines_with_gaps_and_without_labels():
    figure, (axis,) = picture.axes()
    axis.plot([1, 2, 3], [1.0, np.nan, 3.0], "--", label="one")
    axis.plot([2, 4], [5.0, 6.0], "--", color=axis.get_lines()[0].get_color())  # belongs to it
    axis.plot([1.5], [2.0], "*", color="#000000", label="best")
    (chart,) = picture.Picture("name", "title", "text", "note", figure).chart()
    assert chart["x"] == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert [line["label"] for line in chart["lines"]] == ["one", "one", "best"]
    assert chart["lines"][0]["y"] == [1.0, None, None, 3.0, None]
    assert chart["lines"][1]["y"] == [None, None, 5.0, None, 6.0]
    assert [line["width"] > 0 for line in chart["lines"]] == [True, True, False]


def luminance(colour):
    """Relative luminance of a colour such as "#d55e00" (WCAG 2.2)."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(first, second):
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_curves_stand_out_on_paper_light_and_dark(written):
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.01)  # as published
    papers = re.findall(r"--paper: (#\w{6})", written.read_text())
    assert len(papers) == 2
    assert {*picture.COLOURS, picture.RAW_COLOUR, picture.FAINT} < picture.DARK.keys()
    for light, dark in picture.DARK.items():
        assert contrast(light, papers[0]) >= 3 and contrast(dark, papers[1]) >= 3, light
        assert f"--c{light[1:]}:{dark}" in written.read_text()


def test_text_of_figures_can_be_read_on_a_phone(made_run):
    for each in figures.draw(record_of(made_run)):
        width = each.figure.get_figwidth() * 72
        texts = [text for text in each.figure.findobj(Text) if text.get_text()]
        smallest = min(text.get_fontsize() for text in texts)
        assert len(texts) >= 3 and smallest * (390 - 2 * 16 - 2) / width >= 11, each.name


def test_what_an_average_changes_most(tmp_path):
    random = np.random.default_rng(0)
    before = random.integers(0, 256, (10, 8, 6, 1), "uint8")
    after = before.copy()
    after[3] = 255 - after[3]
    after[7, :2] ^= 1
    paths = tmp_path / "raw.png", tmp_path / "average.png"
    for path, pixels in zip(paths, (before, after), strict=True):
        images.grid(pixels).save(path)
    tiles = images.tiles(Image.open(paths[0]), (8, 6))
    np.testing.assert_array_equal(tiles[:10], np.repeat(before, 3, axis=-1))
    places, rows = changes.most_changed(*paths, (8, 6), count=2)
    assert places == [4, 8]
    shown = [np.asarray(row)[:: row.height // 8, :: row.width // 13, 0] for row in rows]
    np.testing.assert_array_equal(shown[0][:, :6], before[3, ..., 0])
    np.testing.assert_array_equal(shown[1][:, 7:13], after[7, ..., 0])
    np.testing.assert_array_equal(shown[2][2:, 7:13], 255)  # the same in both
    assert changes.most_changed(*paths, (9, 7)) is None  # no such grids


def test_page_shows_real_images_changes_dates_and_windows(written, made_run):
    page, texts = written.read_text(), Elements(written).texts
    real = base64.b64encode((made_run / "samples" / names.REAL_PICTURE).read_bytes()).decode()
    assert f'id="real" src="data:image/png;base64,{real}"' in page
    assert texts["changed"] == "What ema_0.999 changes most" and "in places" in page
    assert "Run begun 2026-05-01 12:00:00, " in page
    assert "ema_0.99 about 100, ema_0.999 about 1,000." in page
    protocol = "ema_0.999, float32, moved after every optimizer step, effective window 1,000 steps"
    way = "Fréchet distance, digits classifier, 1,437 images, by DDIM, 50 steps, seed 0, step 400"
    assert f"{protocol}; {way}." in texts["protocol"]


def test_equal_rows_are_explained(tmp_path):
    path = make_run(tmp_path / "run")
    evaluation = write_evaluation(path, {"raw": 4.0, "ema_0.99": 2.0, "ema_0.999": 2.0})
    (line,) = evaluation.notes
    assert line.startswith("ema_0.99, ema_0.999: equal to the last digit")
    assert line in table.rows(evaluation)
    assert line in next(iter(tables.of_run(record_of(path))))["note"]
    assert write_evaluation(path, {"raw": 2.0, "ema_0.99": 2.0}).notes == []  # by chance


def test_commands_can_be_typed_as_they_are_printed(tmp_path):
    path = make_run(tmp_path / "my runs")
    assert summary(path)["use"] == f"python sample.py '{path}' --weights ema_0.999"


def test_the_same_run_gives_the_same_page(written, made_run):
    before = written.read_bytes()
    assert report.write(Run.open(made_run)).read_bytes() == before


def test_figures_tell_their_numbers_in_words(made_run):
    record = record_of(made_run)
    texts = {picture.name: picture.text for picture in figures.draw(record)}
    for name, value in record.measured().items():
        assert f"{name} {value:.4g}" in texts["final_quality"]
    assert "; real images 3" in texts["final_quality"]
    assert "digits classifier of 500 images" in texts["quality"]
    blocks, cosines = record.block_cosines()
    assert f"{blocks[cosines['ema_0.99'].argmin()]} for ema_0.99" in texts["blocks"]
    width, _ = analysis.optimum(*analysis.posthoc_curve(record))
    assert f"width of {width:.3g}" in texts["posthoc"] and 0.05 < width < 0.15


def test_the_floor_and_the_protocol_of_an_evaluation_are_those_shown(made_run):
    record = record_of(made_run)
    known = {"ema_0.999": "ema_0.999: as it was measured"}
    reference = dataclasses.replace(record.evaluation.reference, floor=0.625)
    record.evaluation = dataclasses.replace(record.evaluation, reference=reference, protocols=known)
    texts = {picture.name: picture.text for picture in figures.draw(record)}
    assert "; real images 0.625" in texts["final_quality"]
    assert "As many as were generated would be at 0.625." in words.summary(record)["evidence"]
    assert words.protocol(record, "ema_0.999") == known["ema_0.999"]
    assert words.protocol(record, "ema_0.99").startswith("ema_0.99, float32")


def test_a_weight_set_looks_the_same_everywhere():
    sets = ("raw", "ema_0.9", "ema_0.99", "ema_0.999")
    looks = [picture.style(sets, name) for name in sets]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 4
    assert picture.style(sets[:3], "ema_0.99") == looks[2]


def test_comparison_gives_intervals_by_group(compared):
    text = " ".join(re.findall(r"<li>(.*?)</li>", compared.read_text()))
    assert "ema_schedule=constant (3 runs): ema_0.999 is at" in text
    assert "ema_schedule=warmup (2 runs)" in text and "95% interval" in text
    folder = compared.with_suffix("")
    assert (folder / "comparison_gain.png").exists()
    with open(folder / "quality_by_group.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["weights"] == "ema_0.999"]
    runs = sorted(compared.parent.glob("constant-*"))
    records = [record_of(path) for path in runs]
    expected = analysis.across_seeds(records, lambda record: record.measured())["ema_0.999"]
    assert float(rows[0]["mean"]) == expected[0].mean and rows[0]["runs"] == "3"
    assert float(rows[0]["difference: 95% low"]) == expected[1].low


def test_groups_of_long_names_leave_room_for_their_numbers(tmp_path):
    options = [{"learning_rate": rate / 3, "lr_schedule": f"a schedule {rate}"} for rate in (1, 2)]
    paths = [make_run(tmp_path / str(i), **each) for i, each in enumerate(options)]
    for each in figures_compared.draw(list(map(record_of, paths))):
        each.figure.canvas.draw()
        for axis in each.figure.axes:
            assert axis.get_window_extent().width > 0.75 * each.figure.bbox.width, each.name
            texts = [text for text in axis.texts if text.get_text()]
            assert all(t.get_window_extent().x1 <= each.figure.bbox.width for t in texts)


def test_groups_that_were_not_followed_have_no_curves(tmp_path):
    followed, other = (make_run(tmp_path / str(rate), learning_rate=rate) for rate in (0.1, 0.2))
    with open(other / "history.csv", newline="") as file:
        rows = list(csv.reader(file))
    kept = [i for i, name in enumerate(rows[0]) if not name.startswith("quality_")]
    with open(other / "history.csv", "w", newline="") as file:
        csv.writer(file).writerows([row[i] for i in kept] for row in rows)
    *_, curves = figures_compared.draw([record_of(followed), record_of(other)])
    (axis,) = curves.chart()
    assert axis["title"] == "learning_rate=0.1" and len(axis["lines"]) == 3


def test_comparison_shows_the_last_pictures_of_each_setting(compared):
    pictures = [
        a for tag, a in Elements(compared).tags if tag == "img" and a["alt"][:7] == "Samples"
    ]
    assert len(pictures) == 2 * 4
    shown = {each["alt"]: each["src"] for each in pictures}
    expected = {
        "ema_0.99": "epoch-0004-ema_0.99.png",
        "real images, held out of training": names.REAL_PICTURE,
    }
    for what, file in expected.items():
        image = (compared.parent / "warmup-0" / "samples" / file).read_bytes()
        alt = f"Samples of {what}, ema_schedule=warmup: warmup-0, epoch 4"
        assert shown[alt].endswith("," + base64.b64encode(image).decode())


def test_comparison_of_unevaluated_runs(tmp_path, monkeypatch):
    for seed in range(2):
        make_run(tmp_path / str(seed), seed=seed, evaluated=False)
    monkeypatch.chdir(tmp_path / "0")
    page = report.write_comparison(map(Run.open, (".", "../1")))
    assert page.resolve() == tmp_path / "comparison.html"  # beside the run, not in it
    assert "has not been evaluated" in page.read_text()
    assert (tmp_path / "comparison" / "stability_val_loss_by_group.csv").exists()
