"""Several processes that do one job: they agree, draw in turns, stop together, and miss each other.

Each runs the same command, and the first, the chief, alone writes. What they exchange goes through
the collective operations of `tf.distribute.MultiWorkerMirroredStrategy`, in which a lost process is
noticed by TensorFlow: its connection breaks, or its heartbeats stay away for about ten seconds.
"""

import contextlib
import json
import re

import numpy as np
import tensorflow as tf

from .. import data
from ..errors import UsageError
from ..keras_internals import in_multi_worker_mode
from . import cluster
from .parser import flag

# Options that name where something is, which may be elsewhere on another machine. What is there is
# compared by its content.
_PLACES = {"dataset", "config", "run_dir", "resume", "data_dir", "data_cache"}
_PLACES |= {"source", "from_diffusers", "out", "export", "runs", "images", "against"}
_WORD = 8  # bytes: collective operations take int64, but no bytes
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Crew:
    """The processes of a strategy; every method is called by all of them at the same time.

    Args:
        strategy: a `tf.distribute.Strategy`.

    Attributes:
        index: the number of this process; 0 is the chief's.
        count: how many there are; 1 for any other strategy than that of several workers.
    """

    def __init__(self, strategy):
        several = in_multi_worker_mode(strategy)
        place = cluster.place("multiworker") if several else cluster.Place()
        self.strategy, self.index, self.count = strategy, place.index, place.count
        self._joined = tf.function(self._join, autograph=False, reduce_retracing=True)
        self._summed = tf.function(self._sum, autograph=False)

    @property
    def is_chief(self):
        return self.index == 0

    def any(self, told):
        """Whether `told`, a bool, is true in one of the processes."""
        if self.count == 1:
            return told
        return bool(self._summed(tf.constant(float(told))) > 0)

    def gather(self, payload):
        """What each process gives, `bytes`: a list in their order."""
        if self.count == 1:
            return [payload]
        words = tf.constant(_words(self.index, payload))
        parts = _parts(self._joined(words).numpy())
        return [parts[index] for index in range(self.count)]

    def agree(self, facts):
        """Refuses to go on where the processes were told different things.

        Args:
            facts: dict name -> plain value, of options and whatever else must be the same.

        Raises:
            UsageError: in one line that names what differs; in every process.
        """
        told = [json.loads(part) for part in self.gather(json.dumps(facts).encode())]
        for index, other in enumerate(told[1:], 1):
            for name, value in told[0].items():
                if other.get(name) != value:
                    raise UsageError(
                        f"{name} is {value} in worker 0 and {other.get(name)} in worker {index}; "
                        "start all with the same command, on the same files."
                    )

    # Training

    def shares(self, size):
        """The places `(start, stop)` in a batch of so many images that the replicas here take."""
        replicas = self.strategy.num_replicas_in_sync
        bounds = [-(-size * i // replicas) for i in range(replicas + 1)]
        here = slice(self.index * replicas // self.count, (self.index + 1) * replicas // self.count)
        return list(zip(bounds, bounds[1:], strict=False))[here]

    def stream(self, images, labels, batch_size, **arguments):
        """`data.training_stream`, of which each process reads its part alone."""
        if self.count == 1:
            return data.training_stream(images, labels, batch_size, **arguments)
        shares = self.shares(batch_size)
        own = data.training_stream(images, labels, batch_size, shares=shares, **arguments)
        return self.strategy.distribute_datasets_from_function(lambda context: own)

    # Drawing

    def ask(self, task):
        """The chief tells the others what to do, a value of JSON; None sends them home."""
        if self.count > 1:
            self.gather(json.dumps(task).encode())

    def asked(self):
        """Yields what the chief asks for, until it sends this process home."""
        while (task := json.loads(self.gather(b"")[0])) is not None:
            yield task

    @contextlib.contextmanager
    def led(self):
        """Sends the others home at the end of the block, unless it fails: then they miss this."""
        yield
        self.ask(None)

    def draw(self, draw, count, start, size):
        """`draw(count, start)`, by all processes together.

        Args:
            draw: function (count, start) that gives images number `start` and on, uint8.
            count, start: of it.
            size: images of a batch. The processes take batches in turns, so that each is drawn as
                one process alone would draw it.

        Returns:
            In the chief all the images, uint8; None in the others.
        """
        if self.count == 1:
            return draw(count, start)
        firsts = range(self.index * size, count, self.count * size)
        mine = [draw(min(size, count - first), start + first) for first in firsts]
        parts = self.gather(b"".join(each.tobytes() for each in mine))
        if not self.is_chief:
            return None
        images = np.empty((count, *mine[0].shape[1:]), np.uint8)
        owners = np.arange(count) // size % self.count
        rows = np.frombuffer(b"".join(parts), np.uint8).reshape(images.shape)
        images[np.argsort(owners, kind="stable")] = rows
        return images

    # Graphs

    def _join(self, words):
        def of_replica():
            return tf.distribute.get_replica_context().all_gather(_here(words), axis=0)

        return self._first(self.strategy.run(of_replica))

    def _sum(self, number):
        def of_replica():
            return tf.distribute.get_replica_context().all_reduce("SUM", _here(number))

        return self._first(self.strategy.run(of_replica))

    def _first(self, values):
        return self.strategy.experimental_local_results(values)[0]


def _here(value):
    """A tensor on the device of the replica, which an argument of a graph is not."""
    return tf.identity(value)


def _words(index, payload):
    """What a process sends, int64: its number, how many bytes it has to tell, and these."""
    padded = payload + bytes(-len(payload) % _WORD)
    return np.concatenate([[index, len(payload)], np.frombuffer(padded, np.int64)])


def _parts(words):
    """What processes have sent, by their numbers; the replicas of one all send the same."""
    parts, place = {}, 0
    while place < len(words):
        index, size = map(int, words[place : place + 2])
        begin, place = place + 2, place + 2 + -(-size // _WORD)
        parts[index] = words[begin:place].tobytes()[:size]
    return parts


def told(options):
    """The options that all processes must have been given alike, by their names: for `agree`."""
    return {flag(name): value for name, value in vars(options).items() if name not in _PLACES}


@contextlib.contextmanager
def missed(place, again):
    """Tells the loss of another process from what else may go wrong in the block.

    Args:
        place: the `cluster.Place` of this process.
        again: function that gives the command to go on with.

    Raises:
        WorkerLost: in one line.
    """
    try:
        yield
    except (*_LOST, cluster.Missing) as error:
        if place.count == 1:
            raise
        what = error if isinstance(error, cluster.Missing) else f"{_lost(error, place)} is gone"
        raise cluster.WorkerLost(
            f"{what}, and nothing goes on without it. When it is back, start this on every worker: "
            f"{again()}"
        ) from None


def _lost(error, place):
    """The process other than this one that an error of a collective operation names first."""
    found = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error))
    others = [name for name in map(" ".join, found) if name != place.name]
    return others[0] if others else "another worker"
