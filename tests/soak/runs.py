"""Small trainings in processes of their own, and whether two of them left the same behind.

A process is forked of one that has imported everything and computed nothing, so that it takes
seconds; what it runs is `train.py` as its user starts it.
"""

import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}

OPTIONS = (
    "--steps 12 --epoch-steps 4 --log-every-steps 3 --batch-size 8 --timesteps 20 --flip "
    "--base-channels 8 --channel-multipliers 1 --attention-resolutions --dropout 0.1 --ema 0.5 0.9 "
    "--warmup-steps 2 --validation-images 8 --snapshots 4 --quality-every-epochs 0 --no-evaluate"
).split()
FRESH = [*OPTIONS, "--run-dir", "run"]
RESUMED = ["--resume", "--run-dir", "run"]
_TIMES = {"seconds", "images_per_second"}  # columns that no two runs share


def prepare():
    """Imports what takes long; nothing that starts TensorFlow's threads, which no fork keeps."""
    os.environ["DDPM_KERAS_LAZY"] = "1"
    import sklearn.datasets  # noqa: F401

    import train  # noqa: F401

    os.environ.pop("DDPM_KERAS_LAZY", None)
    from ddpm_keras.app import training  # noqa: F401


def start(folder, arguments, before=None):
    """Starts `train.py` in a folder; its output goes to output.txt there.

    Args:
        folder: the working directory.
        arguments: of the command line.
        before: None, or a function that is called in the new process first.

    Returns:
        The number of the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        output = os.open(
            folder.parent / f"{folder.name}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        )
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["DDPM_KERAS_CACHE"] = str(folder.parent / "cache")
        sys.argv = ["train.py", *arguments]
        import train

        if before:
            before()
        status = train.console.run(train.main)
        sys.stdout.flush()
    finally:
        os._exit(status if "status" in locals() else 70)


def output(folder):
    """What the last process of a folder printed."""
    return (folder.parent / f"{folder.name}.txt").read_text(errors="replace")


def wait(process):
    """The exit status of a process; minus the signal that has killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def differences(run, other):
    """What differs in two run directories but times: a list of lines, empty for none."""
    first, second = contents(run), contents(other)
    lines = [f"{name} is only in one" for name in sorted(first.keys() ^ second.keys())]
    shared = sorted(first.keys() & second.keys())
    return lines + [f"{name} differs" for name in shared if first[name] != second[name]]


def contents(run):
    """Name of each file of a run directory -> what it holds, without times; empty folders, too."""
    found = {}
    for path in sorted(Path(run).rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir():
            found |= {} if any(path.iterdir()) else {name: "empty"}
        elif "tfevents" in name:
            found[f"{path.parent.relative_to(run).as_posix()}/events"] = _events(path)
        else:
            found[name] = _READERS.get(path.suffix, Path.read_bytes)(path)
    return found


def _events(path):
    """(step, tag, value) of each summary, of HParams without the time; and whether it is whole."""
    from tensorboard.compat.proto.event_pb2 import Event

    from ddpm_keras.callbacks import events

    records = events._read(path, True)  # without TensorFlow, which no fork would survive
    is_whole = sum(map(len, records)) == path.stat().st_size
    summaries = [Event.FromString(record[12:-4]) for record in records]
    rows = [
        (event.step, value.tag, "hparams" in value.tag or value.SerializeToString())
        for event in summaries
        for value in event.summary.value
    ]
    return rows, is_whole


def _json(path):
    own = {"run", "begun", "time", "sha256", "checksum"}
    return {k: v for k, v in json.loads(path.read_text()).items() if k not in own}


def _history(path):
    from ddpm_keras.app.run_directory import Run

    rows = Run(path.parent).read_history()
    return [{k: v for k, v in row.items() if k not in _TIMES} for row in rows]


def _arrays(path):
    import numpy as np

    with np.load(path) as file:
        return {name: (file[name].shape, file[name].tobytes()) for name in file.files}


def _weights(file):
    import h5py

    found = {}
    with h5py.File(file) as opened:
        opened.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def _keras(path):
    with zipfile.ZipFile(path) as file:
        weights = _weights(io.BytesIO(file.read("model.weights.h5")))
        # An object that several layers share is called by its place in memory.
        config = re.sub(rb'"shared_object_id": \d+', b"", file.read("config.json"))
        return config, weights


def _card(path):
    from ddpm_keras.report import card

    text = re.sub(r"begun \S+", "begun", path.read_text(encoding="utf-8"))
    return re.sub(r"(written by ddpm-keras.*) \w+ -->", r"\1 -->", text), card.is_changed(path)


def _pixels(path):
    from PIL import Image

    with Image.open(path) as picture:  # which also names its run
        return picture.size, picture.tobytes()


_READERS = {
    ".json": _json,
    ".md": _card,
    ".csv": _history,
    ".npz": _arrays,
    ".png": _pixels,
    ".h5": _weights,
    ".keras": _keras,
}
