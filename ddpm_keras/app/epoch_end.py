"""What an epoch ends with, where a training was interrupted after its last step: done again."""

import keras

from ..callbacks import events
from ..networks.graphs import graphs_as_traced


def forget(run, step):
    """Removes what TensorBoard was told after a step, since it will be told again."""
    for folder in {path.parent for path in run.tensorboard.rglob("events.*")}:
        events.cut(folder, step)


def finish(model, epoch, observers, unfinished):
    """Does what an epoch ends with, all of it, where a training was interrupted before it was over.

    Args:
        model: as it was after the last step of the epoch.
        epoch: its number, from 0 on.
        observers: the callbacks.
        unfinished: of `run_record.Checkpoint`.
    """
    every = keras.callbacks.CallbackList(observers, model=model)
    with graphs_as_traced(model.network):  # as `fit` runs them, or the numbers round otherwise
        every.on_train_begin()
        for each in observers:
            if unfinished and hasattr(each, "go_on_with"):
                each.go_on_with(unfinished)
        every.on_epoch_end(epoch, model.get_metrics_result())
        every.on_train_end()
