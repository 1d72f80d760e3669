"""Measures every weight set of finished runs, or any folder of images.

    python evaluate.py runs/digits                         # raw and each average, same noise
    python evaluate.py runs/digits runs/digits-2           # several runs, and a comparison
    python evaluate.py runs/digits --decay 0.99 0.999      # averages that were never tracked
    python evaluate.py runs/digits --step 1000             # as the run was then
    python evaluate.py runs/digits --tune-ema              # searches the best width of an average
    python evaluate.py --images drawn/ --against photos/   # two folders

Results go to evaluation.json and report.html of each run; one table is printed.
"""

import os
import sys

os.environ["DDPM_KERAS_LAZY"] = "1"  # --help and wrong options answer before TensorFlow is loaded

from ddpm_keras.app import (  # noqa: E402
    alone,
    cache,
    cluster,
    consistency,
    console,
    interrupt,
    invocation,
)
from ddpm_keras.app.options import evaluate_options  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402


def main(argv):
    options = evaluate_options(argv)
    runs = [Run.open(path) for path in options.runs]
    consistency.check_evaluation(options, runs)
    place = cluster.place(options.strategy)
    if runs and place.is_chief:
        cache.check()

    with alone.alone(*(run.path for run in runs if place.is_chief)):
        console.load_tensorflow()
        from ddpm_keras.app import workers

        with workers.missed(place, lambda: invocation.command_again(argv)):
            if not place.is_chief:
                return help_evaluate(runs, options)
            return evaluate(runs, options, argv) if runs else compare_folders(options)


def evaluate(runs, options, argv):
    """Measures the weight sets of each run, and writes what was found; the exit status."""
    from ddpm_keras import report

    again = invocation.command_again(argv)
    try:
        for run in runs:
            alone.tidy(run)
            print(f"\n{run.path}\n{measured(run, options, again)}")
            print(f"Report: {report.write(run)}")
        if len(runs) > 1:
            print(f"Comparison: {report.write_comparison(runs)}")
    except KeyboardInterrupt:
        print(f"\nInterrupted; what is drawn and measured is kept. To go on:\n  {again}")
        return interrupt.status()
    return 0


def measured(run, options, again):
    """Measures the weight sets of a run, or searches the best width; what was found, as text."""
    from ddpm_keras.app import measuring, table, tuning

    measure = tuning.tune if options.tune_ema else measuring.evaluate_run
    with console.input_errors():
        evaluations = measure(run, options, again)
    found = [table.text(evaluations)]
    if options.tune_ema:
        found.append(table.tuned(evaluations.tunings[-1], run))
    return "\n".join(found)


def help_evaluate(runs, options):
    """What a worker does that is not the chief: it draws images for it; the exit status."""
    from ddpm_keras.app import measuring, models, stored

    for run in runs:
        with console.input_errors():
            model = models.load_to_draw(run, options)
            measuring.help(stored.StoredWeights(run, model), run.options, options)
    return 0


def compare_folders(options):
    """Prints the distance of one folder of images from another."""
    from ddpm_keras.app import measuring, table

    with console.input_errors():
        print(table.rows(measuring.evaluate_folders(options)))
    return 0


if __name__ == "__main__":
    sys.exit(console.run(main))
