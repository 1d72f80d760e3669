"""When something is due that is done every so many steps or epochs."""


def is_due(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` was reached or passed on the way from `before` to `now`.

    Several steps may be made at once, and some not at all, so that the multiple itself may never be
    seen. Of an epoch, `before` is its index, which counts from 0, and `now` the next.
    """
    return now // every > before // every
