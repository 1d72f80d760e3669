"""Writes the reports of runs again from what their directories hold; nothing is measured.

    ddpm-keras report runs/digits               # report.html of one run
    ddpm-keras report runs/digits runs/seed-1   # of each, and a comparison

`evaluate.py` measures first, and ends with the same pages.
"""

import os
import sys

os.environ["DDPM_KERAS_LAZY"] = "1"  # no TensorFlow is needed

from ddpm_keras.app import consistency, console  # noqa: E402
from ddpm_keras.app.alone import alone  # noqa: E402
from ddpm_keras.app.options import report_options  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402


def main(argv):
    runs = [Run.open(path) for path in report_options(argv).runs]
    consistency.check_distinct(runs)
    for run in runs:
        run.check_options()
        run.note_state()
    from ddpm_keras import report

    with alone(*(run.path for run in runs)), console.input_errors():
        for run in runs:
            print(f"Report: {report.write(run)}")
        if len(runs) > 1:
            print(f"Comparison: {report.write_comparison(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(console.run(main))
