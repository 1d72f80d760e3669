"""The callbacks of a run, in the order in which they come."""

import functools

import numpy as np

from .. import callbacks, samplers
from ..errors import UsageError
from . import trackers
from .recorders import Checkpoints, HistoryLog, Progress, Snapshots, StillThere

PICTURE_IMAGES, PICTURE_STEPS = 36, 20
SNAPSHOT_WIDTHS = (0.05, 0.10)


def observers(run, options, images, crew=None):
    """The callbacks of a run: pictures, validation and a checkpoint at each epoch, and more.

    Args:
        run: a `Run`.
        options: its `TrainOptions`.
        images: its `ImageData`.
        crew: as of `Checkpoints`.
    """
    log = HistoryLog(run, options.log_every_steps, options.batch_size)
    return [
        StillThere(run),
        callbacks.StopOnDivergence(),
        Progress(options.steps, options.batch_size),
        callbacks.SampleGrid(
            run.samples,
            num_images=PICTURE_IMAGES,
            sampler=picture_sampler(options),
            log_dir=run.tensorboard if "tensorboard" in options.logger else None,
        ),
        *_quality_monitor(options, images),
        *recorders(run, options, images, log),
        *_snapshots(run, options),
        Checkpoints(run, options.keep, crew, log),
    ]


def recorders(run, options, images, log):
    """The callbacks that write down how training goes: curves, distances, the path of the weights.

    They come after those that add numbers of their own to an epoch's row.
    """
    # Evenly spread, since a folder's images are sorted by name.
    count = min(options.validation_images, len(images.held_out))
    part = np.linspace(0, len(images.held_out) - 1, count).round().astype(int)
    return [
        callbacks.Trajectory(run.trajectory, options.log_every_steps),
        callbacks.ValidationLoss(
            images.held_out[part], images.held_out_labels[part] if options.conditional else None
        ),
        log,
        *trackers.callbacks_of(run, options),
    ]


def _quality_monitor(options, images):
    """The monitor of quality in training, where one is wanted."""
    if not options.quality_every_epochs:
        return []
    from . import references

    if len(images.train) < 4:  # of which a distance says nothing
        raise UsageError(
            f"Quality needs at least 4 images to train on, and there are {len(images.train)}: add "
            "some, or give --quality-every-epochs 0."
        )
    references.check_learnable(images)
    return [
        callbacks.QualityMonitor(
            functools.partial(references.choose_extractor, "auto", images),
            images.train,
            options.quality_images,
            options.quality_every_epochs,
            picture_sampler(options),
            batch_size=250,
        )
    ]


def _snapshots(run, options):
    """Snapshots for post-hoc EMA, where they are wanted."""
    if not options.snapshots:
        return []
    every = max(1, options.steps // options.snapshots)
    return [Snapshots(run, SNAPSHOT_WIDTHS, every, options.steps)]


def picture_sampler(options):
    """A quick sampler for the pictures of each epoch."""
    return samplers.DDIM(min(PICTURE_STEPS, options.timesteps))
