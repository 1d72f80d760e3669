"""What test_workers.py lets each of two workers do: one command after the other in one process.

    TF_CONFIG=... python tests/workers_story.py STATUSES 'train.py ...' 'SIGTERM 1 3 train.py ...'

A command that begins with a signal, a worker and a step is sent that signal in that worker when so
many steps are made. The exit status of each command is written to the file STATUSES.
"""

import importlib
import json
import os
import pathlib
import shlex
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


def run(words):
    """The exit status of a command."""
    os.environ["DDPM_KERAS_LAZY"] = "1"
    script = importlib.import_module(words[0].removesuffix(".py"))
    os.environ.pop("DDPM_KERAS_LAZY", None)
    sys.argv = words
    return script.console.run(script.main)


def signalled(name, worker, step):
    """Lets every training of this process that follows send itself a signal, in that worker."""
    import keras

    from ddpm_keras.app import training

    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]

    class Signal(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if index == int(worker) and self.model.steps_made == int(step):
                os.kill(os.getpid(), getattr(signal, name))

    observers = training.observers
    training.observers = lambda *arguments: [Signal(), *observers(*arguments)]
    return lambda: setattr(training, "observers", observers)


def measure_by_means():
    """Makes the extractor of evaluations one that costs nothing."""
    import numpy as np

    from ddpm_keras import quality
    from ddpm_keras.app import references

    class Means(quality.FeatureExtractor):
        name, dim, channels, fingerprint = "row means", 8, 1, "row means"

        def _features(self, batch):
            return batch.mean(axis=(2, 3), dtype=np.float32)

    references.choose_extractor = lambda name, images: Means()


def main(path, *commands):
    statuses = []
    for words in map(shlex.split, commands):
        undo = lambda: None  # noqa: E731
        if words[0].startswith("SIG"):
            undo, words = signalled(*words[:3]), words[3:]
        if "--evaluate" in words or words[0] == "evaluate.py":
            measure_by_means()
        statuses.append(run(words))
        undo()
        pathlib.Path(path).write_text(json.dumps(statuses))


if __name__ == "__main__":
    os.environ["DDPM_KERAS_LAZY"] = "1"
    main(*sys.argv[1:])
