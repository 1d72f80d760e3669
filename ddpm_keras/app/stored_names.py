"""Whether a run has stored the weight sets that a command names, told by its files alone."""

from .. import names
from ..errors import UsageError
from .parser import flag

_MOST_STEPS = 20  # that are listed


def check_drawn(options, run):
    """Refuses a weight set that sample.py cannot draw with.

    Args:
        options: a `SampleOptions`.
        run: a `Run`.

    Raises:
        UsageError: in one line that names the option and what the run has.
    """
    _check_step(options, run)
    for name in ("sigma_rel", "decay"):
        if getattr(options, name):
            return _check(flag(name), options.weight_set, run)
    if options.step and names.split_step(options.weights)[1]:
        raise UsageError(f"--weights {options.weights} names a step already; leave --step out.")
    return _check("--weights", options.weight_set, run)


def check_evaluated(options, run):
    """Refuses weight sets that evaluate.py cannot measure, or that are named twice.

    Args:
        options: an `EvaluateOptions`.
        run: a `Run`.

    Raises:
        UsageError: in one line that names the option and what the run has.
    """
    _check_step(options, run)
    for name in options.weights:
        plain, step = names.split_step(name)
        if step is not None:
            raise UsageError(f"--weights {name}: say --weights {plain} --step {step}.")
        _check("--weights", names.at_step(name, options.step or None), run)
    known = run.config.get("weight_sets", ())
    if names.LAST in options.weights and known[-1:] and known[-1] in options.weights:
        raise UsageError(f"--weights names {known[-1]} twice, by {names.LAST} too; name it once.")
    if options.tune_ema:
        _check_synthesis("--tune-ema", ("sigma_rel", "0"), options.step or None, run)
    for name in options.synthesised:
        argument, _ = names.synthesis(name)
        _check(flag(argument), names.at_step(name, options.step or None), run)


def check_guide(options, run):
    """Refuses a guide that the run has not stored; arguments as above."""
    name, step = names.split_step(options.guide)
    _check("--guide", names.at_step(name, step or options.step or None), run)


def _check_step(options, run):
    stored = sorted({*run.checkpoint_steps, *run.snapshot_steps})
    if options.step and options.step not in stored:
        known = f"the steps {_steps(stored)}" if stored else "no step but its end"
        raise UsageError(
            f"--step {options.step}: {run.path} has stored {known}; name one of them, or leave it "
            "out for the end."
        )


def _check(said, name, run):
    """Refuses a weight set, by its full name, for the option that asks for it."""
    plain, step = names.split_step(name)
    made = names.synthesis(plain)
    if made:
        _check_synthesis(said, made, step, run)
    else:
        _check_tracked(said, plain, step, run)


def _check_tracked(said, name, step, run):
    known = run.config.get("weight_sets")  # None in an older run, whose model will tell
    if known is not None and name not in (*known, names.LAST):
        last = f"{names.LAST} is {known[-1]}"
        raise UsageError(f"{said} {name}: {run.path} has {', '.join(known)} ({last}).")
    if step is not None and step not in run.checkpoint_steps:
        raise UsageError(
            f"{said} {names.at_step(name, step)}: {run.path} has checkpoints of the steps "
            f"{_steps(run.checkpoint_steps)}; of any other stored step, choose an average by "
            "--sigma-rel or --decay."
        )


def _check_synthesis(said, made, step, run):
    argument, value = made
    try:
        float(value)
    except ValueError:
        raise UsageError(f"{said}: {value!r} is no {argument}; give a number.") from None
    if not run.snapshot_steps:
        raise UsageError(
            f"{said} needs snapshots, and {run.path} has none (--snapshots 0); leave it out."
        )
    if step is not None and step not in run.snapshot_steps:
        raise UsageError(
            f"{said} at step {step}: {run.path} has snapshots of the steps "
            f"{_steps(run.snapshot_steps)}; name one of them."
        )


def _steps(steps):
    from ..data.words import few  # with NumPy, which --help does without

    return few((f"{step:,}" for step in steps), _MOST_STEPS)
