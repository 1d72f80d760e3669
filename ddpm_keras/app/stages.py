"""The time that each stage of a job takes."""

import contextlib
import time


class Stages:
    """Seconds by stage. A stage that runs within another is not counted in it.

    Attributes:
        seconds: dict name of the stage -> seconds, in the order they began.

    Example:

    >>> stages = Stages()
    >>> with stages("features"):
    ...     with stages("sampling"):
    ...         images = draw()
    ...     features = extractor(images)
    """

    def __init__(self):
        self.seconds = {}
        self._open, self._since = [], 0.0

    @contextlib.contextmanager
    def __call__(self, name):
        """A context whose time is that of the stage."""
        self._count()
        self._open.append(name)
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self):
        """Gives the time since the last change of stage to the one that was open."""
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
