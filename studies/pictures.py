"""The README's first picture, and those of docs/how-to/draw.md of a model of the digits.

python studies/pictures.py                        # trains runs/pictures first, if it is not there
python studies/pictures.py --run runs/pictures --out docs/images
python studies/pictures.py --first runs/fashion   # the README's, of any run
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras.app import console  # noqa: E402

console.load_tensorflow()
from ddpm_keras import data, drawing, images, names, quality  # noqa: E402
from ddpm_keras.app import dataset, models, named, references  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402

TRAINING = "--conditional --steps 1500 --no-evaluate --quality-every-epochs 0 --snapshots 0".split()
FRAMES = 18  # of the animation


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="runs/pictures", help="run directory")
    parser.add_argument("--out", default=str(ROOT / "docs" / "images"), help="folder")
    parser.add_argument(
        "--first", metavar="RUN", help="draw the README's picture of this run alone"
    )
    options = parser.parse_args()
    if options.first:
        return first(Run.open(options.first), Path(options.out) / "raw-and-ema.png")
    if not (Path(options.run) / "model.keras").exists():
        train = [sys.executable, str(ROOT / "train.py"), *TRAINING, "--run-dir", options.run]
        subprocess.run(train, check=True)
    model, digits = models.load_model(Run.open(options.run)), data.load("digits")
    for name, make in MAKERS.items():
        path = Path(options.out) / name
        make(model, digits, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def first(run, path):
    """The samples that the last average changes most: by raw weights, by it, and real images."""
    model, data = models.load_model(run), dataset.of_run(run, run.options)
    sampler = named.sampler(run.options.sampler, model.schedule, steps=run.options.sampling_steps)
    drawn = [
        model.sample(DRAWN, weights=name, sampler=sampler, seed=0)
        for name in (names.RAW, names.LAST)
    ]
    apart = np.square(drawn[0].astype(float) - drawn[1]).mean(axis=(1, 2, 3))
    chosen = np.argsort(-apart)[:SHOWN]
    real = data.held_out[np.linspace(0, len(data.held_out) - 1, SHOWN).round().astype(int)]
    panels = {
        "raw weights": drawn[0][chosen],
        "their average": drawn[1][chosen],
        "real images": real,
    }
    images.save(side_by_side(panels), path)
    name = model.resolve(names.LAST)
    print(f"{path}: {name}, {SHOWN} of {DRAWN}; {path.stat().st_size / 1000:.0f} kB")


DRAWN, SHOWN = 64, 12  # images
PANEL, TITLE = 340, 44  # pixels: a phone shows a third of them


def side_by_side(panels):
    """Grids of three columns under titles that can be read on a phone, a `PIL.Image`."""
    font = ImageFont.load_default(size=TITLE)
    grids = [images.grid(each, columns=3, size=PANEL) for each in panels.values()]
    grids = [grid.resize((PANEL, PANEL * grid.height // grid.width), 0) for grid in grids]
    gap = 20
    canvas = Image.new("RGB", (3 * (PANEL + gap) - gap, grids[0].height + TITLE + 20), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (title, grid) in enumerate(zip(panels, grids, strict=True)):
        left = i * (PANEL + gap)
        draw.text((left + PANEL // 2, 4), title, fill=(20, 20, 20), font=font, anchor="ma")
        canvas.paste(grid, (left, TITLE + 20))
    return canvas


def save_rows(rows, path):
    """Rows of as many images each, as one picture."""
    images.save(images.grid(np.concatenate(rows), columns=len(rows[0]), size=700), path)


def guidance(model, digits, path):
    """The ten classes: no guidance, a scale of 4, rescaled, and in an interval."""
    ways = [{"guidance_scale": 1}, {"guidance_scale": 4}]
    ways += [{"guidance_scale": 4, "guidance_rescale": 0.7}]
    ways += [{"guidance_scale": 4, "guidance_interval": (100, 600)}]
    save_rows([model.sample(10, seed=1, **way) for way in ways], path)


def interpolation(model, digits, path):
    """Between two seeds of a class, then between two images."""
    rows = [
        drawing.interpolate_noise(model, 2, 3, 9, labels=label, guidance_scale=2)
        for label in (3, 8)
    ]
    chosen = [first_of(digits, label) for label in (0, 6, 4, 9)]
    for first, second in (chosen[:2], chosen[2:]):
        rows.append(drawing.interpolate_images(model, first, second, 9, strength=0.3))
    save_rows(rows, path)


def encoding(model, digits, path):
    """Between two images by their encodings: the ends are the images as they come back."""
    chosen = [first_of(digits, label) for label in (0, 6, 4, 9)]
    ends = (chosen[:2], chosen[2:])
    save_rows([drawing.interpolate_encodings(model, *pair, 9) for pair in ends], path)


def denoising(model, digits, path):
    images.save(drawing.denoise_progressively(model, 4, 10, seed=1).picture(), path)


def denoising_animated(model, digits, path):
    images.animate(drawing.denoise_progressively(model, 9, FRAMES, seed=1).frames(), path)


def image_to_image(model, digits, path):
    """Three digits, and others like them by more and more strength."""
    given = np.stack([first_of(digits, label) for label in (2, 5, 7)])
    strengths = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    drawn = [drawing.image_to_image(model, given, each, seed=3) for each in strengths]
    save_rows(list(np.swapaxes(drawn, 0, 1)), path)


def inpainting(model, digits, path):
    """Three digits, what is known of them in grey, and seven ways to paint their lower half."""
    mask = np.zeros((8, 8), bool)
    mask[4:] = True
    rows = []
    for label in (2, 8, 9):
        given = first_of(digits, label)
        painted = drawing.inpaint(model, np.stack([given] * 7), mask, seed=label)
        rows.append([given, np.where(mask[..., np.newaxis], 128, given).astype("uint8"), *painted])
    save_rows(rows, path)


def nearest(model, digits, path):
    """Samples, the training image nearest to each by its pixels, and by its features."""
    drawn = model.sample(10, seed=1)
    extractor = references.choose_extractor("classifier", digits)
    _, by_pixels = quality.nearest(drawn, digits.train)
    _, by_features = quality.nearest(extractor(drawn), extractor(digits.train))
    save_rows([drawn, digits.train[by_pixels], digits.train[by_features]], path)


def first_of(digits, label):
    """The first held-out image of a class."""
    return digits.held_out[np.flatnonzero(digits.held_out_labels == label)[0]]


MAKERS = {
    "guidance.png": guidance,
    "interpolation.png": interpolation,
    "encoding.png": encoding,
    "denoising.png": denoising,
    "denoising.webp": denoising_animated,
    "image-to-image.png": image_to_image,
    "inpainting.png": inpainting,
    "nearest.png": nearest,
}

if __name__ == "__main__":
    main()
