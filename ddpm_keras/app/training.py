"""The steps of `train.py`: data, model, the loop, and what a run leaves behind."""

import contextlib
import secrets
import shlex
import sys
import tempfile
import time
from dataclasses import asdict, replace

import keras

from .. import callbacks, ema, files, names
from ..data.words import few, shown
from ..ddpm import DDPM
from ..errors import UsageError
from . import (
    alone,
    console,
    dataset,
    epoch_end,
    interrupt,
    invocation,
    named,
    network,
    optimization,
    precision,
    rules,
    trackers,
    versions,
    workers,
)
from .observing import PICTURE_IMAGES, SNAPSHOT_WIDTHS, observers
from .options import EvaluateOptions
from .run_directory import Run


def load_data(options, run):
    """The images that the options name, or those of a run that is continued."""
    return dataset.of_run(run, options) if options.resume else dataset.load(options)


def as_begun(options, run):
    """The options that the model of a run is made by: rules keep to the `--steps` it began with."""
    if not options.resume:
        return options
    return replace(options, steps=run.config.get("first_steps", run.options.steps))


def averages(options):
    """The `EMA` that `--ema` and `--ema-schedule` name, or `--ema-rules`."""
    decays = ema.by_rules(options.ema_schedule, options.ema, options.steps)
    decays |= rules.averages(options.ema_rules, steps=options.steps, batch_size=options.batch_size)
    return ema.EMA(decays, snapshot_widths=SNAPSHOT_WIDTHS if options.snapshots else ())


def build_model(options, images, policy="float32"):
    """The compiled model, every weight of it a function of the seed.

    Args:
        options: a `TrainOptions`.
        images: a `data.ImageData`.
        policy: the Keras dtype policy of its layers.
    """
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(options.seed)
    model = DDPM(
        network.build(options, images),
        schedule=named.schedule(options),
        prediction=options.prediction,
        weighting=options.weighting,
        ema=averages(options),
        accumulation_steps=options.accumulate,
        seed=options.seed,
    )
    model.compile(optimization.optimizer(options))
    model.optimizer.build(model.trainable_variables)  # a checkpoint may come before a step
    return model


def check_devices(run, options, strategy):
    """Refuses to continue a run on other devices, which would round otherwise.

    Raises:
        UsageError: in one line that names how many there were.
    """
    now, begun = _devices(strategy), run.config if options.resume else {}
    for what, number in now.items():
        if begun.get(what, number) != number:
            raise UsageError(
                f"{run.path} was begun on {begun[what]} {what}, and here are {number}: continue it "
                f"on {begun[what]}, or begin a new run."
            )


def _devices(strategy):
    """How many replicas and processes train together, by their names in config.json."""
    return {"replicas": strategy.num_replicas_in_sync, "workers": workers.Crew(strategy).count}


def agree(crew, options, images):
    """Refuses workers of a `workers.Crew` that were given other options or images.

    Raises:
        UsageError: in one line that names what differs.
    """
    crew.agree(workers.told(options) | {"the fingerprint of the images": images.fingerprint})


def check(options, given, images):
    """Refuses options that the images do not allow.

    Args:
        options: a `TrainOptions`.
        given: names of the options that the command line named.
        images: a `data.ImageData`.

    Raises:
        UsageError: in one line that names the option and what there is.
    """
    network.check(options, given)
    steps = min(options.sampling_steps, options.timesteps)
    named.sampler(
        options.sampler, named.schedule(options), steps=steps
    )  # not found wrong at the end
    if options.conditional and images.num_classes is None:
        raise UsageError(f"{options.dataset} has no classes to learn; leave out --conditional.")
    if options.conditional and images.untrained_classes:
        raise UsageError(
            f"There is no image to train on of {few(images.untrained_classes)} in "
            f"{shown(options.dataset)}; add some, or leave out --conditional."
        )
    most = len(images.held_out)
    if "validation_images" in given and options.validation_images > most:
        raise UsageError(
            f"--validation-images {options.validation_images} is more than the {most} images held "
            f"out of {options.dataset}; use at most {most}."
        )


def step(model):
    """Batches the model has been trained on: where it stands in the data, a step lost or not."""
    return int(model.train_counter.numpy())


def begin(run, options, images, model, command, computed_in=None):
    """Loads the state of a run that is continued, and writes the configuration that holds now.

    Args:
        run, options, images, model: what is trained.
        command: the command line, for the record.
        computed_in: what `precision.of_run` gave, for the record.

    Returns:
        The batches trained on so far.
    """
    told = {"options": asdict(options) | {"run_dir": str(run.path), "resume": False}}
    if options.resume:
        alone.tidy(run)
        run.restore(model)
        run.clear_checkpoints()
        is_over = run.unfinished(model.steps_made) is None
        epoch_end.forget(run, model.steps_made if is_over else model.steps_made - 1)
        if options.data_dir != run.options.data_dir:
            told["data"] = dataset.record(images, options)
        config = run.config | told
    else:
        config = {
            "run": secrets.token_hex(8),
            "command": command,
            "begun": time.strftime("%Y-%m-%dT%H:%M:%S"),
            **told,
            "data": dataset.record(images, options),
            "precision": computed_in or {"policy": keras.config.dtype_policy().name},
            "first_steps": options.steps,
            **_devices(model.distribute_strategy),
            "parameters": model.network.count_params(),
            "weight_sets": list(model.weight_sets),
            "averages": {names.average(k): repr(v) for k, v in model.ema.decays.items()},
            "versions": versions.made_with(),
        }
    run.write_config(config)
    run.write_real(images.held_out, PICTURE_IMAGES)
    return step(model)


class Elsewhere(Run):
    """What a worker that is not the chief has in place of the run: it is soon removed."""

    def write_checkpoint(self, weights, step, noted, keep=2):
        """Writes nothing: the chief does."""

    def note_checkpoint(self, step, noted):
        """The same."""


def follow(run, options, images, model, crew):
    """The part of a worker that is not the chief: it does the same, and keeps nothing of it.

    All workers have to assign to variables (resetting metrics, say) at the same moments, so a
    follower has the same callbacks; while the chief draws pictures it would only wait.
    """
    if options.resume:
        run.restore(model)
    unfinished = run.unfinished(model.steps_made)
    crew.agree({"the step to go on at": step(model)})
    with tempfile.TemporaryDirectory() as folder:
        quiet = replace(options, logger=("csv",))  # the chief alone tells others
        watch = observers(Elsewhere(folder), quiet, images, crew)
        fit(options, images, model, step(model), watch, unfinished)
    if options.evaluate:
        from . import measuring
        from .stored import StoredWeights

        measuring.help(StoredWeights(run, model), options, EvaluateOptions())


def announce(run, options, images, model, done):
    """Says what is about to happen, and what each average will rest on."""
    per_epoch = len(images.train) / options.batch_size
    print(
        *dataset.lines(images),
        f"{type(model.network).__name__} with {model.network.count_params():,} parameters, "
        f"{keras.config.dtype_policy().name}; {options.steps:,} steps of "
        f"{options.batch_size} images; writing to {run.path}/",
        *precision.words(run.config.get("precision") or {}),
        sep="\n",
    )
    for line in model.ema.describe(options.steps, per_epoch):
        print(f"  {line}")
    for line in (*model.ema.warnings(options.steps), *too_short(options)):
        print(f"Warning: {line}")
    if done:
        for line in versions.changed_since(run):
            print(f"Note: {line}")
        print(f"Continuing at step {done:,}.")
    sys.stdout.flush()


def too_short(options):
    """What a run of so few steps never comes to: a list of lines."""
    lines = []
    if options.warmup_steps >= options.steps:
        lines.append(
            f"the learning rate rises for {options.warmup_steps:,} steps, so it is not at "
            f"{options.learning_rate:g} before all {options.steps:,} are over; give a smaller "
            "--warmup-steps."
        )
    epochs = -(-options.steps // options.epoch_steps)
    if options.quality_every_epochs > epochs:
        lines.append(
            f"quality is measured every {options.quality_every_epochs} epochs, and the run has "
            f"{epochs}; give a smaller --quality-every-epochs or --epoch-steps, or "
            "--quality-every-epochs 0."
        )
    return lines


def fit(options, images, model, done, observers, unfinished=None):
    """Trains from step `done` to the end, in the sight of these callbacks.

    Args:
        options, images, model, done, observers: what is trained, so far, and who watches.
        unfinished: what `Run.unfinished` gave of the step that a run goes on at.

    Raises:
        interrupt.Interrupted: a signal has ended it early; all is saved.
        KeyboardInterrupt: the same, at once, so that nothing was saved since the last checkpoint.
    """
    stream = workers.Crew(model.distribute_strategy).stream
    with interrupt.safe_places(), _flushed(observers):
        # `announce` has said what is logged.
        with console.log_kept_back("ddpm_keras"):
            if unfinished is not None:
                epoch = (done - 1) // options.epoch_steps
                epoch_end.finish(model, epoch, observers, unfinished)
            for first, last, length in segments(done, options.steps, options.epoch_steps):
                model.fit(
                    stream(
                        images.train,
                        images.train_labels if options.conditional else None,
                        options.batch_size,
                        seed=options.seed,
                        start_step=step(model),
                        flip=options.flip,
                    ),
                    initial_epoch=first,
                    epochs=last,
                    steps_per_epoch=length,
                    callbacks=observers,
                    shuffle=False,  # the stream is in its own order
                    verbose=0,
                )
            trackers.close(observers)


@contextlib.contextmanager
def _flushed(observers):
    """Writes down what observers hold back, the state last, if the block is interrupted safely."""
    try:
        yield
    except interrupt.Interrupted:
        interrupt.settle()
        for each in observers:
            if hasattr(each, "flush"):
                each.flush()
        raise
    except callbacks.Diverged:
        for each in observers:
            if hasattr(each, "wait"):  # for what is still being written
                each.wait()
        raise


def segments(done, steps, epoch_steps):
    """Calls of `fit` that keep the epochs' bounds: what is left of one, whole ones, a short last.

    Returns:
        A list of (initial_epoch, epochs, steps_per_epoch).
    """
    result = []
    while done < steps:
        epoch, inside = divmod(done, epoch_steps)
        whole = (steps - done) // epoch_steps
        if inside == 0 and whole:
            result.append((epoch, epoch + whole, epoch_steps))
        else:
            length = min(epoch_steps - inside, steps - done)
            result.append((epoch, epoch + 1, length))
        first, last, length = result[-1]
        done += (last - first) * length
    return result


def interrupted(run, model, error):
    """Says what is kept of a training that this `KeyboardInterrupt` has ended."""
    if isinstance(error, interrupt.Interrupted):
        return f"Interrupted at step {step(model)}; everything is saved."
    return f"Interrupted at once; the last checkpoint is of step {run.last_step}."


def save(run, model):
    """Writes model.keras and, to ship, network-ema.keras with its model card."""
    from ..report import card

    with files.atomic_path(run.model) as temporary:
        model.save(temporary)
    model.export_network("ema", run.network)
    run.write_config(run.config | {"finished": model.steps_made})
    card.write(run)


def next_steps(run):
    """Where to look in a finished run, and what to do with it."""
    watch = shlex.join(["tensorboard", "--logdir", files.typed(run.tensorboard)])
    return (
        f"\nPictures: {run.samples}/epoch-{run.last_epoch():04d}.png\n"
        + (f"Report: {run.report}\n" if run.report.exists() else "")
        + f"Next: {invocation.command('sample', run.path, '--num', 64, '--out', 'samples.png')}"
        + f"\n      {watch}" * run.tensorboard.exists()
    )
