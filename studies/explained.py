"""docs/ema-explained.html: what an average of weights does, on the recorded path of the demo.

python studies/explained.py measure runs/digits    # into docs/demo/path.json
python studies/explained.py write                  # the page, from that file
"""

import argparse
import json
import os
import sys
from pathlib import Path

import jinja2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras import files, names  # noqa: E402
from ddpm_keras.report import analysis, picture  # noqa: E402

RECORD = ROOT / "docs" / "demo" / "path.json"
PAGE = ROOT / "docs" / "ema-explained.html"
ALONG = np.linspace(-0.5, 2.0, 11)  # of the way from raw to the average
WINDOWS = np.geomspace(20, 20_000, 13)  # 1 / (1 - beta), in steps
POWER = 2.3  # of the slider at first: beta = 1 - 10^-POWER


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("measure", help="measure losses of a run (a minute)")
    action.add_argument("run", help="run directory")
    actions.add_parser("write", help="write the page")
    options = parser.parse_args()
    if options.action == "measure":
        measure(options.run)
    else:
        files.write_text(PAGE, page(read()))
        print(f"{PAGE.relative_to(ROOT)}: {PAGE.stat().st_size / 1000:.0f} kB")


# Measuring


def measure(path):
    """Writes the path of the raw weights in a plane, and validation losses of averages."""
    from ddpm_keras.app import console

    console.load_tensorflow()
    from ddpm_keras import ema
    from ddpm_keras.app import dataset, models
    from ddpm_keras.app.run_directory import Run

    run = Run.open(path)
    model, images = models.load_model(run), dataset.of_run(run, run.options).held_out

    def loss(weights):
        return model.validation_loss(images, weights=weights, repeats=2)

    def of_rule(rule):
        """(window, loss) of those averages that the run's snapshots can tell."""
        for window in WINDOWS:
            made = ema.posthoc.synthesize(run.path, decay=rule(1 - 1 / window))
            if not made.warnings:
                yield [digits(window), digits(loss(made))]

    steps, sketches = analysis.RunRecord(run).trajectory()
    points, explained = analysis.principal_plane(sketches)
    last = model.weight_sets[-1]
    raw, average = (list(map(np.asarray, model.weight_values(x))) for x in (names.RAW, last))
    ways = [[a + w * (b - a) for a, b in zip(raw, average, strict=True)] for w in ALONG]
    record = {
        "command": run.config["command"],
        "images": len(images),
        "steps": [int(step) for step in steps],
        "points": {name: digits(points[name]) for name in (names.RAW, last)},
        "explained": digits(np.sum(explained)),
        "average": last,
        "raw_loss": digits(loss(names.RAW)),
        "average_loss": digits(loss(last)),
        "line": [
            [digits(w), digits(loss(ema.WeightSet("way", way)))]
            for w, way in zip(ALONG, ways, strict=True)
        ],
        "constant": list(of_rule(ema.ConstantDecay)),
        "warmup": list(of_rule(ema.WarmupDecay)),
    }
    files.write_record(RECORD, record)
    print(f"{RECORD.relative_to(ROOT)}: {RECORD.stat().st_size / 1000:.0f} kB")


def digits(values):
    """Numbers with six digits, as lists."""
    return np.vectorize(lambda value: float(f"{value:.6g}"))(np.asarray(values, float)).tolist()


# Writing


def read():
    """What `measure` wrote."""
    return files.read_record(RECORD)


def rate(beta, n, warmup):
    """beta_n of the two rules of the page, as of `ema.ConstantDecay` and `ema.WarmupDecay`."""
    return min(beta, (1 + n) / (10 + n)) if warmup else beta


def averaged(record, beta, warmup=False):
    """The path of an average of the recorded raw path, (R, 2).

    Between two records the weights are taken to be those of the second.
    """
    raw, steps = np.array(record["points"][names.RAW]), record["steps"]
    path = [raw[0]]
    for k in range(1, len(raw)):
        kept = np.prod([rate(beta, n, warmup) for n in range(steps[k - 1], steps[k])])
        path.append(path[-1] + (1 - kept) * (raw[k] - path[-1]))
    return np.array(path)


class Scale:
    """Places in a drawing of `width` x `height` for numbers, with room for text."""

    def __init__(self, xs, ys, width=340, height=230, left=52, bottom=40):
        self.low = np.array([np.min(xs), np.min(ys)], float)
        self.high = np.array([np.max(xs), np.max(ys)], float)
        margin = 0.04 * (self.high - self.low)
        self.low, self.high = self.low - margin, self.high + margin
        self.corner = np.array([left, height - bottom], float)
        self.size = np.array([width - left - 8, -(height - bottom - 10)], float)

    def __call__(self, points):
        share = (np.asarray(points, float) - self.low) / (self.high - self.low)
        return self.corner + share * self.size

    def line(self, points):
        """The attribute "points" of a polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self(points))

    def as_dict(self):
        parts = ("low", "high", "corner", "size")
        return {name: getattr(self, name).round(6).tolist() for name in parts}


def page(record):
    """The page, from what `measure` wrote."""
    raw = np.array(record["points"][names.RAW])
    losses = {
        rule: [[np.log10(window), loss] for window, loss in record[rule]]
        for rule in ("constant", "warmup")
    }
    both = np.array(losses["constant"] + losses["warmup"])
    line = np.array(record["line"])
    lowest, raw_loss = both[:, 1].min(), record["raw_loss"]
    across = Scale([1.3, 4.3], [lowest, raw_loss + (raw_loss - lowest)])  # far worse is above it
    span = np.ptp(raw, axis=0).max() / 2
    middle = (raw.max(axis=0) + raw.min(axis=0)) / 2
    plane = Scale(*np.array([middle - span, middle + span]).T, 340, 340, left=8, bottom=10)
    valley = Scale(line[:, 0], line[:, 1])
    best = {rule: min(record[rule], key=lambda pair: pair[1]) for rule in losses}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style = Path(analysis.__file__).parent / "templates" / "style.css"
    return environment.get_template("explained.html.j2").render(
        record=record,
        best=best,
        losses=losses,
        plane=plane,
        across=across,
        valley=valley,
        average=averaged(record, 1 - 10**-POWER),
        power=POWER,
        usual=f"{1 - 10**-POWER:.3g}",
        ticks=lambda scale: np.linspace(scale.low[1], scale.high[1], 5)[1:-1],
        colours=picture.colour_variables(),
        style=style.read_text(encoding="utf-8"),
        data=json.dumps(
            {
                "steps": record["steps"],
                "raw": record["points"][names.RAW],
                "losses": losses,
                "rawLoss": record["raw_loss"],
                "plane": plane.as_dict(),
                "across": across.as_dict(),
            }
        ),
    )


if __name__ == "__main__":
    main()
