"""Progress bars with rate and time left; in a log file, a line every half minute."""

import contextlib
import sys
import time

from tqdm import tqdm

from . import interrupt


class _Bar(tqdm):
    """A `tqdm` bar that also notices an interrupt."""

    def update(self, n=1):
        interrupt.check()
        return super().update(n)

    def close(self):
        """Also shows what ended before the first line of a log was due, if it took its time."""
        if not self.disable and self.last_print_t < self.start_t + self.delay <= time.time():
            self.last_print_t = time.time()
        super().close()


def bar(description, total, unit="images", scale=1, initial=0):
    """A `tqdm` bar on standard error, whose `update` raises an interrupt that was lost before.

    Args:
        description: what is being done.
        total: number of `update` units.
        unit: what the rate counts.
        scale: how many of `unit` one update stands for.
        initial: updates made before.
    """
    terminal = sys.stderr.isatty()
    return _Bar(
        desc=description,
        total=total,
        unit=f" {unit}",
        unit_scale=scale if scale != 1 else False,
        initial=initial,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 30.0,
        maxinterval=1.0 if terminal else 60.0,
        bar_format=None
        if terminal
        else "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}, {rate_fmt}{postfix}]\n",
        delay=0.5,  # what is done at once needs no bar
    )


@contextlib.contextmanager
def counted(description, total=None):
    """A `bar` as a context that gives a function of (done, total), by which the library reports.

    Args:
        description: what is being done.
        total: of what; None for a bar that begins with the first report, and another one whenever
            it begins again.
    """
    shown = None if total is None else bar(description, total)

    def report(done, total):
        nonlocal shown
        if shown is not None and (done < shown.n or total != shown.total):
            shown.close()
            shown = None
        shown = bar(description, total) if shown is None else shown
        shown.update(done - shown.n)

    try:
        yield report
    finally:
        if shown is not None:
            shown.close()
