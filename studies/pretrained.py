"""Puts the averaged network of a run into the package, for `sample.py --pretrained NAME`.

python studies/pretrained.py runs/digits digits
python studies/pretrained.py RUN fashion --weights ema_warmup_0.999 --licence mit
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["DDPM_KERAS_LAZY"] = "1"  # TensorFlow is loaded as the commands load it

from ddpm_keras.app import console  # noqa: E402

console.load_tensorflow()
from ddpm_keras import files, names, pretrained  # noqa: E402
from ddpm_keras.app import models  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402
from ddpm_keras.report import analysis, card  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run directory")
    parser.add_argument("name", help="what the model is to be called")
    parser.add_argument("--weights", default="ema", help="weight set (default: the last average)")
    parser.add_argument("--licence", help="of the images, such as mit (default: as is known)")
    options = parser.parse_args()
    run = Run.open(options.run)
    path = pretrained.save(models.load_model(run), options.name, options.weights)
    record = analysis.RunRecord(run)
    weights = None if options.weights == names.LAST else options.weights
    files.write_text(path / "README.md", card.text(record, weights, options.name, options.licence))
    for each in sorted(path.iterdir()):
        print(f"{each.relative_to(ROOT)}: {each.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
