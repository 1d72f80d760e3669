"""How a weight set was made and measured, in one line: what its numbers are to be quoted with."""

from __future__ import annotations

from .. import names


def line(weights: str, rule: str = "", window: float | None = None, way: str = "") -> str:
    """The protocol of a weight set: rule, window, and how it was drawn and measured.

    Args:
        weights: its name.
        rule: the decay of an average, as text; "" where it is not known.
        window: optimizer steps that the average stood for; None where it is not known.
        way: what was measured, of how many images, by which sampler and seed, at which step, as
            `Evaluation.way`; or as much of it as is known.
    """
    made = names.synthesis(weights)
    if made:
        rule = f"synthesised from snapshots for {' '.join(made)}"
    parts = [f"{weights}: {rule}" if rule else weights]
    if weights != names.RAW and not made:
        parts.append("float32, moved after every optimizer step")
    if window is not None:
        parts.append(f"effective window {round(window):,} steps")
    return "; ".join([", ".join(parts), *filter(None, [way])])
