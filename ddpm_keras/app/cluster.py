"""The processes that the variable TF_CONFIG names, which train or draw together."""

import contextlib
import json
import os
import socket
import time
import warnings
from dataclasses import dataclass, field

from ..errors import UsageError

JOBS = ("chief", "worker")  # in the order in which TensorFlow counts them


class WorkerLost(Exception):
    """Another process of the cluster is gone. The message is one line that says how to go on."""


class Missing(Exception):
    """Another process of the cluster has not come. The message names it."""


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is.

    Attributes:
        index: its number; 0 is the chief's, which alone writes.
        count: how many there are.
        hosts: "host:port" of each.
        name: its job and its number among those of that job, as errors of TensorFlow have it.
    """

    index: int = 0
    count: int = 1
    hosts: tuple[str, ...] = field(default=(), compare=False)
    name: str = field(default="worker 0", compare=False)

    @property
    def is_chief(self):
        return self.index == 0


def place(strategy):
    """The `Place` of this process under a `--strategy`, by TF_CONFIG where it is of several.

    Under another strategy a warning tells of processes that TF_CONFIG names: each is alone.

    Raises:
        UsageError: TF_CONFIG is missing, or not what TensorFlow understands.
    """
    if strategy == "multiworker":
        return _told()
    with contextlib.suppress(UsageError):  # of a variable that is not asked for
        if (count := _told().count) > 1:
            warnings.warn(
                f"TF_CONFIG names {count} processes, and under --strategy {strategy} this one is "
                "alone: give --strategy multiworker, or unset TF_CONFIG.",
                stacklevel=2,
            )
    return Place()


def _told():
    """The `Place` that TF_CONFIG gives this process."""
    try:
        settings = json.loads(os.environ.get("TF_CONFIG") or "{}")
        task, cluster = settings.get("task"), settings.get("cluster") or {}
        if not task:
            raise UsageError(
                "--strategy multiworker needs TF_CONFIG, which names the processes "
                "(docs/scaling.md); on one machine use --strategy mirrored, or none."
            )
        job, index = task["type"], int(task["index"])
        hosts = {name: tuple(map(str, cluster.get(name, ()))) for name in JOBS}
        if not 0 <= index < len(hosts[job]):
            raise UsageError(
                f"TF_CONFIG: there is no {job} {index} among {len(hosts[job])}; give a task of its "
                "cluster."
            )
    except UsageError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}.'
        ) from None
    before = len(hosts["chief"]) if job == "worker" else 0
    every = sum(hosts.values(), ())
    return Place(before + index, len(every), every, f"{job} {index}")


def meet(place, seconds):
    """Returns when all processes are there. TensorFlow would wait for them for an hour, and for
    no signal.

    Args:
        place: the `Place` of this one.
        seconds: the longest to wait.

    Raises:
        Missing: one has not come by then.
        UsageError: the port of this process is taken.
    """
    if place.count > 1:
        end = time.monotonic() + seconds
        (_receive if place.is_chief else _report)(place, end, seconds)


def _receive(place, end, seconds):
    """The chief waits for the others at its own port, and lets them go on together."""
    came = {}
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(_server(place.hosts[0]))
        while missing := [i for i in range(1, place.count) if not _is_there(came.get(i))]:
            try:
                server.settimeout(max(0.001, end - time.monotonic()))
                connection = opened.enter_context(server.accept()[0])
                connection.settimeout(5)
                index = int(connection.recv(16))
                connection.setblocking(False)
                came[index] = connection
            except TimeoutError:
                raise Missing(_missing(missing[0], place, seconds)) from None
            except (OSError, ValueError):  # somebody else knocks
                continue
        for connection in came.values():
            with contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.sendall(b"go")
                connection.recv(1)  # it closes first, so that the port is free at once


def _server(host):
    port = host.rpartition(":")[2]
    try:
        return socket.create_server(("", int(port)))
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"TF_CONFIG: {host} cannot be listened at ({error}); name another port."
        ) from None


def _is_there(connection):
    """Whether the other end of a connection has not closed it."""
    try:
        return connection is not None and bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _report(place, end, seconds):
    """Another one tells the chief that it is there, and waits until all are."""
    host, _, port = place.hosts[0].rpartition(":")
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 5) as chief:
            chief.sendall(str(place.index).encode())
            chief.settimeout(left)
            if chief.recv(2) == b"go":
                return
        time.sleep(0.2)
    raise Missing(_missing(0, place, seconds))


def _missing(index, place, seconds):
    return f"worker {index} ({place.hosts[index]}) has not come in {seconds} s"
