"""An evaluation as text, for the terminal."""

from .. import quality


def text(evaluations):
    """The newest of `Evaluations` as text, the verdict, and what was measured in another way."""
    return "\n".join([rows(evaluations.current), *_told(evaluations)])


def rows(evaluation):
    """An `Evaluation` as text: a line a weight set, and what real images score."""
    reference = evaluation.reference
    to = f"to {reference.split if reference.floor_frechet is not None else 'real'}"
    lines = [
        f"{evaluation.metric}, of {evaluation.num_images:,} generated images (less is better)",
        f"{'weights':<20}{to[:15]:>16}{'to held-out':>13}{'KID x 1000':>17}"
        f"{'precision':>11}{'recall':>8}",
    ]
    for name, row in evaluation.weights.items():
        kid = "" if row.kid is None else f"{1e3 * row.kid:.2f} ± {1e3 * row.kid_std:.2f}"
        lines.append(
            f"{name:<20}{row.frechet:>16.2f}{_number(row.frechet_held_out, 2):>13}{kid:>17}"
            f"{_number(row.precision, 3):>11}{_number(row.recall, 3):>8}"
        )
    if reference.floor_frechet is not None:
        held_out = f"{reference.num_held_out:,} held-out real images"
        lines.append(f"For comparison, {held_out} are at {reference.floor_frechet:.2f} from train.")
    for name, row in evaluation.weights.items():
        if row.bits_per_dim is not None:
            bits = f"{row.bits_per_dim:.3f} ± {row.bits_per_dim_error:.3f}"
            lines.append(f"{name}: {bits} bits per dimension, held-out images")
    return "\n".join(lines)


def _told(evaluations):
    """The verdict, and what else is known, a line each."""
    found, judged = quality.verdict.of_run(evaluations)
    elsewhere = f"Of {judged.way}: " if judged is not evaluations.current else ""
    lines = [f"{elsewhere}{found.sentence}"] if found.raw is not None else []
    lines += [
        f"Measured in another way, so kept apart: {', '.join(each.weights)} ({each.way})."
        for each in evaluations.apart
    ]
    return lines


def _number(value, digits):
    return "" if value is None else f"{value:.{digits}f}"
