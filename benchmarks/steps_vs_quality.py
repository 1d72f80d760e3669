"""Quality against sampling steps, on the embedded digits: one training, several samplers.

    python benchmarks/steps_vs_quality.py                  # trains a run first, if there is none
    python benchmarks/steps_vs_quality.py --run runs/digits --weights ema raw

Every sampler starts from the same noise for the same seed; the spread is over seeds. Writes the
table to docs/steps-vs-quality.md. Most of the time goes into DDPM's 1000 steps; a quick try is
--num-images 64 --seeds 1.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras.app import console  # noqa: E402

console.load_tensorflow()
from ddpm_keras import data, files, quality, samplers  # noqa: E402
from ddpm_keras.app import models, references  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402

SAMPLERS = (
    samplers.DDPM(),
    samplers.DDIM(50),
    samplers.DDIM(20),
    samplers.DDIM(10),
    samplers.DPMSolver(20),
    samplers.DPMSolver(10),
    samplers.DPMSolver(20, order=3),
    samplers.DPMSolver(20, eta=1.0),
    samplers.UniPC(20),
    samplers.UniPC(10),
    samplers.Heun(18),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="runs/steps-vs-quality", help="run directory")
    parser.add_argument("--weights", nargs="+", default=["ema"], help="weight sets")
    parser.add_argument("--num-images", type=int, default=1437, help="images a seed")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--out", default=str(ROOT / "docs" / "steps-vs-quality.md"))
    options = parser.parse_args()

    if not (Path(options.run) / "config.json").exists():
        train = [sys.executable, str(ROOT / "train.py"), "--no-evaluate", "--run-dir", options.run]
        subprocess.run(train, check=True)
    run = Run.open(options.run)
    model = models.load_model(run)
    images = data.load("digits")
    if run.config["data"]["fingerprint"] != images.fingerprint:
        sys.exit(f"{options.run} was not trained on the digits; give another --run.")
    extractor = references.choose_extractor("classifier", images)
    real = references.real_features(extractor, images)

    rows = []
    for weights in map(model.resolve, options.weights):
        for sampler in SAMPLERS:
            rows.append(row(model, weights, sampler, extractor, real, options))
            print(rows[-1], flush=True)
    text = page(rows, run, extractor, real, options)
    files.write_text(Path(options.out), text)
    print(f"\n{text}\n{options.out}")


def row(model, weights, sampler, extractor, real, options):
    """One line of the table: the mean of each metric over the seeds, and their spread."""
    draw = {"weights": weights, "sampler": sampler, "batch_size": 256}
    results = []
    for seed in range(options.seeds):
        features = extractor(model.sample(options.num_images, seed=seed, **draw))
        results.append(quality.evaluate_features(real["train"], features, real["held_out"]))
    frechet, held_out, precision, recall = (
        np.array([result[key] for result in results])
        for key in ("frechet", "frechet_held_out", "precision", "recall")
    )
    steps = len(sampler.timesteps(model.schedule))
    return (
        f"| `{sampler!r}` | {weights} | {steps} | {frechet.mean():.2f} ± {frechet.std():.2f} "
        f"| {held_out.mean():.2f} ± {held_out.std():.2f} "
        f"| {precision.mean():.3f} | {recall.mean():.3f} |"
    )


def page(rows, run, extractor, real, options):
    """The table as Markdown, with what a reader needs to judge and repeat it."""
    floor = quality.frechet_distance(real["train"], real["held_out"])
    typed = " ".join(["python benchmarks/steps_vs_quality.py", *sys.argv[1:]])
    head = ("sampler", "weights", "steps", "to train", "to held-out", "precision", "recall")
    table = "\n".join(rows)
    return f"""# Quality against sampling steps

{extractor.metric}: less is better. {options.num_images:,} images for each of {options.seeds} seeds;
mean ± standard deviation over the seeds. The {len(real["held_out"])} held-out real images are at
{floor:.2f} from the {len(real["train"]):,} training images.

Trained by `{run.config["command"]}`; made by `{typed}`.

| {" | ".join(head)} |
{"| --- " * len(head)}|
{table}
"""


if __name__ == "__main__":
    main()
