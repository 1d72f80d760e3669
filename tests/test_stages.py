"""Seconds by stage: each counted once, whatever runs within it."""

from ddpm_keras.app import stages


def test_what_runs_within_a_stage_is_not_counted_in_it(monkeypatch):
    clock = iter([0, 1, 4, 4.5, 10, 12])
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    counted = stages.Stages()
    with counted("features"):
        with counted("sampling"):
            pass
    with counted("features"):
        pass
    assert counted.seconds == {"features": 1 + 0.5 + 2, "sampling": 3}
    assert list(counted.seconds) == ["features", "sampling"]


def test_a_stage_that_fails_ends(monkeypatch):
    clock = iter([0, 2, 3, 4])
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    counted = stages.Stages()
    try:
        with counted("sampling"):
            raise OSError
    except OSError:
        pass
    with counted("metrics"):
        pass
    assert counted.seconds == {"sampling": 2, "metrics": 1}
