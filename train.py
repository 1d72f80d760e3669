"""Trains DDPM with averages of its weights, and shows what the averages buy.

    python train.py                                    # real digits, minutes on two CPU cores
    python train.py --ema 0.99 0.999 0.9999            # any number of averages of one training
    python train.py --dataset cifar10                  # the configuration of Ho et al. 2020
    python train.py --resume --run-dir runs/digits     # exactly as if it had never stopped

Everything goes into one run directory. `python train.py --help` lists the options.
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
    trackers,
)
from ddpm_keras.app.options import run_name, train_options  # noqa: E402
from ddpm_keras.app.resuming import resumed_options  # noqa: E402
from ddpm_keras.errors import UsageError  # noqa: E402


def main(argv):
    options, given = train_options(argv)
    run = choose_run(options)
    place = cluster.place(run.options.strategy if options.resume else options.strategy)
    with alone.alone(*([run.path] if place.is_chief else [])):
        options = continued(run, options, given, place.is_chief)
        trackers.check(options)
        console.load_tensorflow()
        from ddpm_keras.app import workers

        with workers.missed(place, lambda: invocation.command("train", *how_to_go_on(run, argv))):
            return train(run, options, given, argv)


def train(run, options, given, argv):
    """Trains, evaluates and reports; the exit status."""
    from ddpm_keras.app import devices, precision, training, workers
    from ddpm_keras.callbacks import Diverged

    with console.input_errors():
        strategy = devices.strategy(options.strategy)
        training.check_devices(run, options, strategy)
        begun = training.as_begun(options, run)
        training.averages(begun)  # refuses rules that cannot be, before images are read
        data = training.load_data(options, run)
        training.check(options, given, data)
        computed_in = precision.of_run(run, options, data)
        with strategy.scope():
            model = training.build_model(begun, data, computed_in["policy"])
        crew = workers.Crew(strategy)
        observers = training.observers(run, options, data, crew)
        training.agree(crew, options, data)
    if not crew.is_chief:
        return follow(run, options, data, model, crew)

    command = invocation.command_again(argv)
    done = training.begin(run, options, data, model, command, computed_in)
    crew.agree({"the step to go on at": done})
    training.announce(run, options, data, model, done)
    again = invocation.command("train", "--resume", "--run-dir", run.path)
    try:
        with console.disk_errors(again):
            unfinished = run.unfinished(model.steps_made)
            training.fit(options, data, model, done, observers, unfinished)
            training.save(run, model)
    except KeyboardInterrupt as interrupted:
        print(f"\n{training.interrupted(run, model, interrupted)} To go on:\n  {again}")
        return interrupt.status()
    except Diverged as error:
        print(
            f"Training diverged: {error}. The last good state is in {run.checkpoints}; "
            f"try a lower --learning-rate than {options.learning_rate}.",
            file=sys.stderr,
        )
        return console.DIVERGED
    if options.evaluate and not evaluate(run, model, data, argv):
        return interrupt.status()
    if run.report.exists() and not options.evaluate:
        report_again(run)
    print(training.next_steps(run))
    return 0


def evaluate(run, model, data, argv):
    """Measures every weight set and writes the report; whether that was not interrupted."""
    from ddpm_keras import report
    from ddpm_keras.app import measuring, table

    again = invocation.command("evaluate", run.path)
    try:
        with console.disk_errors(again):
            told = invocation.command_again(argv)
            print(table.text(measuring.evaluate_run(run, None, told, model, data)))
            report.write(run)
    except KeyboardInterrupt:
        print(f"\nInterrupted; the model is saved. To go on:\n  {again}")
        return False
    return True


def report_again(run):
    """Writes the report of a run that has gone on and is not evaluated again."""
    from ddpm_keras import report

    with console.disk_errors(invocation.command("report", run.path)):
        report.write(run)


def follow(run, options, data, model, crew):
    """What a worker does that is not the chief, which says how it ends; the exit status."""
    from ddpm_keras.app import training
    from ddpm_keras.callbacks import Diverged

    try:
        training.follow(run, options, data, model, crew)
    except KeyboardInterrupt:
        return interrupt.status()
    except Diverged:
        return console.DIVERGED
    return 0


def how_to_go_on(run, argv):
    """The arguments by which a run goes on, from its beginning where nothing of it is there."""
    return ("--resume", "--run-dir", run.path) if run.config_file.is_file() else argv


def choose_run(options):
    """The run directory: a new one, or that of the run which is continued."""
    from ddpm_keras.app.run_directory import Run, fresh_path, newest

    if options.resume:
        return Run.open(options.run_dir or newest("runs"))
    run = Run(options.run_dir or fresh_path("runs", run_name(options.dataset)))
    consistency.check_apart(options, run.path)
    return run


def continued(run, options, given, chief):
    """The options that hold in a run: its own ones when it is continued."""
    if options.resume:
        options = resumed_options(run.options, given)
        made = run.check_checkpoints()
        if options.steps < made:
            raise UsageError(
                f"{run.path} has made {made} steps already; give at least as many --steps."
            )
    elif chief:
        run.check_new()
    if chief:
        cache.check()
        if options.resume:
            run.step_around_damage()
    return options


if __name__ == "__main__":
    sys.exit(console.run(main))
