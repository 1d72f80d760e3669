"""What the settings of trainings give: colour and distance of their samples, by number of steps.

    python train.py --no-evaluate --run-dir runs/digits
    python benchmarks/presets.py runs/digits --steps 20 50 100

For each run it draws the same noise in different numbers of steps, and measures the mean of the
samples and of their four corners (0 to 255), and their Fréchet distance to the training images; a
row's growth is how much the distance is above that of the row before, with a 95% interval over the
images' noise. The results are kept in docs/presets/RUN.json; docs/presets.md shows all that are
there.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras import files  # noqa: E402
from ddpm_keras.app import console  # noqa: E402

RESULTS, PAGE = ROOT / "docs" / "presets", ROOT / "docs" / "presets.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run directories; none: the page alone")
    parser.add_argument(
        "--steps", nargs="+", type=int, default=[20, 50, 100], help="of the sampler"
    )
    parser.add_argument("--sampler", default="ddim", help="its name")
    parser.add_argument("--weights", default="ema", help="weight set")
    parser.add_argument("--num-images", type=int, default=500, help="images for each row")
    options = parser.parse_args(argv)
    for path in options.runs:
        record = measure(path, options)
        files.write_json(RESULTS / f"{path.resolve().name}.json", record)
        print("\n".join(lines(record)))
    files.write_text(PAGE, with_results(PAGE.read_text(encoding="utf-8"), read()))


# Measuring


def measure(path, options):
    """The record of one run, a dict for JSON."""
    console.load_tensorflow()
    from ddpm_keras import samplers
    from ddpm_keras.app import dataset, models, references
    from ddpm_keras.app.run_directory import Run

    run = Run.open(path)
    model, images = models.load_model(run), dataset.of_run(run, run.options)
    extractor = references.choose_extractor("auto", images)
    real = references.real_features(extractor, images)["train"]
    rows, before = [], None
    for steps in options.steps:
        sampler = samplers.get(options.sampler, steps=steps)
        drawn = model.sample(options.num_images, options.weights, sampler, batch_size=100)
        features = extractor(drawn)
        rows.append({"steps": steps, **colour(drawn), **distance(real, features, before)})
        before = features
    return {
        "command": run.config["command"],
        "options": run.config["options"],
        "parameters": model.network.count_params(),
        "weights": model.resolve(options.weights),
        "sampler": repr(samplers.get(options.sampler, steps=options.steps[0])),
        "num_images": options.num_images,
        "metric": extractor.metric,
        "real": colour(images.train),
        "samples": rows,
    }


def colour(images):
    """Mean of images and of their four corners, each with its standard error over the images."""
    height, width = images.shape[1:3]
    parts = {"mean": images, "corners": images[:, :: height - 1, :: width - 1]}
    of_image = {name: part.mean(axis=(1, 2, 3)) for name, part in parts.items()}
    return {
        name: [float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)]
        for name, each in of_image.items()
    }


def distance(real, features, before):
    """The distance of features, and how much it is above that of others of the same noise."""
    from ddpm_keras import quality

    found = {"frechet": quality.frechet_distance(real, features)}
    if before is not None:
        growth = quality.paired_difference(real, features, before)
        found["growth"] = [growth.estimate, growth.low, growth.high]
    return found


# The page


def read():
    """The records of all result files, in the order of their names."""
    paths = sorted(RESULTS.glob("*.json"), key=lambda path: path.stem)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def with_results(page, records):
    """The page with a table for each record between its two marks."""
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    tables = "\n\n".join("\n".join(lines(record)) for record in records)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def lines(record):
    """One record as lines of Markdown."""
    real = record["real"]
    yield f"`{record['command']}`"
    yield ""
    yield f"{record['parameters']:,} parameters; {record['weights']}; {record['metric']};"
    yield f"{record['num_images']} images by `{record['sampler']}` and more steps."
    yield ""
    yield "| steps | mean | corners | distance | growth |"
    yield "| --- | --- | --- | --- | --- |"
    yield f"| real images | {real['mean'][0]:.1f} | {real['corners'][0]:.1f} | | |"
    yield from map(row, record["samples"])


def row(sample):
    """One line of a table."""
    mean, corners = (
        f"{value:.1f} ± {error:.1f}" for value, error in (sample["mean"], sample["corners"])
    )
    growth, low, high = sample.get("growth", (None, None, None))
    interval = "" if growth is None else f"{growth:+.2f} ({low:+.2f} to {high:+.2f})"
    return f"| {sample['steps']} | {mean} | {corners} | {sample['frechet']:.2f} | {interval} |"


if __name__ == "__main__":
    sys.exit(main())
