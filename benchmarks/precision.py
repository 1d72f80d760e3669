"""Whether networks trained in bfloat16 draw as well as those in float32: digits, several seeds.

    python benchmarks/precision.py                     # 4 seeds in both; again, it goes on

Each training is `train.py` with one seed and one precision; what is finished stays, so that an
interrupted comparison is gone on with by the same command. The distances of the last average are
told, with the spread over the seeds; the difference is that of pairs of one seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = "float32", "bfloat16"


def distance(folder, precision, seed, arguments):
    """The Fréchet distance of the last average of one training, made if it is not there."""
    run = folder / f"{precision}-{seed}"
    if not (run / "evaluation.json").exists():
        again = ["--resume"] if (run / "config.json").exists() else arguments
        given = [] if "--resume" in again else ["--precision", precision, "--seed", str(seed)]
        script = [sys.executable, str(ROOT / "train.py"), "--run-dir", str(run), *again, *given]
        subprocess.run(script, check=True)
    measured = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["weights"]
    return list(measured.values())[-1]["frechet"]


def report(found):
    """Lines of Markdown of dict precision -> distances by seed."""
    yield "| | Fréchet distance of the last average | standard deviation over the seeds |"
    yield "| --- | --- | --- |"
    for precision, each in found.items():
        yield f"| {precision} | {statistics.mean(each):.3f} | {statistics.stdev(each):.3f} |"
    pairs = [b - a for a, b in zip(*found.values(), strict=True)]
    error = statistics.stdev(pairs) / len(pairs) ** 0.5
    within = abs(statistics.mean(pairs)) <= 2 * error
    yield (
        f"\nbfloat16 less float32: {statistics.mean(pairs):+.3f}, standard error {error:.3f}: "
        f"{'within' if within else 'NOT within'} two of them."
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--folder", type=Path, default=Path("runs/precision"))
    options, arguments = parser.parse_known_args()
    found = {
        precision: [distance(options.folder, precision, s, arguments) for s in range(options.seeds)]
        for precision in PRECISIONS
    }
    print(*report(found), sep="\n")


if __name__ == "__main__":
    main()
