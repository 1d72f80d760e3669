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

from ddpm_keras import files  # noqa: E402
from ddpm_keras.app import cache, console, invocation  # noqa: E402
from ddpm_keras.app.options import resumed_options, run_name, train_options  # noqa: E402
from ddpm_keras.errors import UsageError  # noqa: E402


def main(argv):
    options, given = train_options(argv)
    chief = options.strategy != "multiworker" or console.is_chief()
    run, options = choose_run(options, given, chief)

    console.load_tensorflow()
    from ddpm_keras.app import devices, training
    from ddpm_keras.callbacks import Diverged

    devices.set_precision(options.precision)
    with console.input_errors():
        strategy = devices.strategy(options.strategy)
        training.check_averages(options, run)
        data = training.load_data(options, run)
        training.check(options, given, data)
        with strategy.scope():
            model = training.build_model(options, data)
        observers = training.observers(run, options, data)
    if not chief:
        try:
            training.follow(run, options, data, model)
        except Diverged:  # the chief says so
            return console.DIVERGED
        return 0

    done = training.begin(run, options, data, model, invocation.command_again(argv))
    training.announce(run, options, data, model, done)
    try:
        training.fit(options, data, model, done, observers)
    except KeyboardInterrupt:
        run.save_checkpoint(model, model.steps_made, options.keep)
        print(
            f"\nInterrupted at step {training.step(model)}; everything is saved. To go on:\n"
            f"  {invocation.command('train', '--resume', '--run-dir', run.path)}"
        )
        return console.INTERRUPTED
    except Diverged as error:
        print(
            f"Training diverged: {error}. The last good state is in {run.checkpoints}; "
            f"try a lower --learning-rate than {options.learning_rate}.",
            file=sys.stderr,
        )
        return console.DIVERGED
    training.save(run, model)

    if options.evaluate:
        from ddpm_keras import report
        from ddpm_keras.app import measuring, table

        try:
            again = invocation.command_again(argv)
            evaluations = measuring.evaluate_run(run, None, again, model, data)
        except KeyboardInterrupt:
            print(
                "\nInterrupted; the model is saved. To go on:\n  "
                + invocation.command("evaluate", run.path)
            )
            return console.INTERRUPTED
        print(table.text(evaluations))
        report.write(run)
    print(training.next_steps(run))
    return 0


def choose_run(options, given, chief):
    """The run directory, and the options that hold in it: its own ones when it is continued."""
    from ddpm_keras.app.run_directory import Run, fresh_path, newest

    if options.resume:
        run = Run.open(options.run_dir or newest("runs"))
        run.check_records()
        options = resumed_options(run.options, given)
        if options.steps < run.last_step:
            raise UsageError(
                f"{run.path} has made {run.last_step} steps already; give at least as many --steps."
            )
    else:
        run = Run(options.run_dir or fresh_path("runs", run_name(options.dataset)))
        if chief:
            run.check_new()
    if chief:
        files.check_writable(run.path)
        files.check_writable(cache.folder())
    return run, options


if __name__ == "__main__":
    sys.exit(console.run(main))
