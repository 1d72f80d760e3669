"""The search for the best width of an average: chosen on some images, judged on others.

Widths are tried by golden section, at each strength of guidance. The images that they are chosen on
are drawn from another seed than those that the best one is judged by, so that the number that is
reported is not the luckiest of many.
"""

import dataclasses
import math

from .. import names, quality
from ..ema import posthoc
from ..errors import UsageError
from ..quality.metrics import every_number
from ..quality.tuning import best_trial
from . import console, progress
from .consistency import SEEDS
from .measuring import Measuring

WIDTHS = 8  # tried at each strength of guidance
_GOLDEN = (5**0.5 - 1) / 2


def golden_section(function, low, high, tries):
    """The places tried in search of the minimum of a function with one valley, and its values.

    Args:
        function: of a number.
        low, high: the ends of the search; they are not tried themselves.
        tries: how often the function is called, at least 2. After n calls the minimum is known to
            0.618^(n - 1) of the distance from `low` to `high`.

    Returns:
        List of (place, value), in the order they were tried.

    Reference:
        Kiefer 1953, "Sequential minimax search for a maximum".
    """
    tried = []

    def at(place):
        tried.append((place, function(place)))
        return tried[-1]

    left, right = at(high - _GOLDEN * (high - low)), at(low + _GOLDEN * (high - low))
    for _ in range(tries - 2):
        if left[1] <= right[1]:
            high, right = right[0], left
            left = at(high - _GOLDEN * (high - low))
        else:
            low, left = left[0], right
            right = at(low + _GOLDEN * (high - low))
    return tried


def tune(run, options, command="", model=None, images=None):
    """Searches the best width of an average of a run, and measures it beside other weight sets.

    Interrupted, it goes on with the widths that were not tried yet.

    Args:
        run, options, command, model, images: as of `measuring.evaluate_run`. The options say by
            which number widths are judged, and the strengths of guidance.

    Returns:
        The run's `quality.Evaluations`, the `quality.Tuning` last among its `tunings`.
    """
    measuring = Measuring(run, options, command, model, images)
    with measuring.crew.led():
        trials = _tried(measuring)
        best = best_trial(options.tune_metric, trials)
        evaluations = _judge(measuring, best)
    judged = evaluations.current.weights[names.of_width(best.sigma_rel)]
    found = quality.Tuning(
        metric=options.tune_metric,
        trials=tuple(trials),
        seed=seed_of_choice(options),
        judged=getattr(judged, options.tune_metric),
        judged_seed=options.seed,
        num_images=judged.num_images,
        guide=judged.guide,
        step=measuring.step,
        guidance_rescale=judged.guidance_rescale,
        guidance_low=judged.guidance_low,
        guidance_high=judged.guidance_high,
        options=evaluations.current.options,
        way=evaluations.current.way,
    )
    evaluations = evaluations.with_tuning(found)
    evaluations.write(run.evaluation)
    return evaluations


def _tried(measuring):
    """The `quality.Trial`s of all strengths of guidance."""
    options, trials = measuring.options, []
    step = options.step or measuring.stored.last_snapshot
    with console.input_errors():
        ends = posthoc.supported_widths(measuring.run.path, step)
    total = WIDTHS * len(options.guidance) * measuring.num_images
    with progress.bar("trying widths", total) as bar:
        for strength in options.guidance:
            series = _Series(measuring, strength, bar)
            golden_section(series.loss, *map(math.log, ends), WIDTHS)
            trials += series.trials
    return trials


def seed_of_choice(options):
    """The seed of the images that a width is chosen on: not the one of those it is judged by."""
    return (options.seed + 1) % SEEDS


def _judge(measuring, best):
    """Measures the best width, and whatever else the options name, on images of their seed."""
    options = measuring.options
    widths = tuple(dict.fromkeys((*options.sigma_rel, best.sigma_rel)))
    strength = (best.guidance,)
    return measuring.evaluate(dataclasses.replace(options, sigma_rel=widths, guidance=strength))


class _Series:
    """The widths tried at one strength of guidance; what is measured is kept in a file.

    Args:
        measuring: a `Measuring`.
        strength: of guidance.
        bar: a progress bar that counts images.
    """

    def __init__(self, measuring, strength, bar):
        options = measuring.options
        seed = seed_of_choice(options)
        self.measuring, self.strength, self.bar = measuring, strength, bar
        self.metric = options.tune_metric
        self.number = every_number()[self.metric]
        self.draw = measuring.drawing(dataclasses.replace(options, guidance=(strength,), seed=seed))
        self.path = measuring.folder / names.of_way("trials", measuring.key(self.draw), ".json")
        self.known = quality.Evaluations.read(self.path)
        self.trials = []

    def loss(self, log_width):
        """The number that is searched for, of the average of a width; less is better."""
        width = float(f"{math.exp(log_width):.4g}")  # so that its name is short
        value = getattr(self._measurement(names.of_width(width)), self.metric)
        if value is None:
            raise UsageError(f"--tune-metric {self.metric} cannot be had of so few real images.")
        self.trials.append(quality.Trial(width, self.strength, value))
        guided = f", guidance {self.strength:g}" if self.strength != 1 else ""
        self.bar.write(f"sigma_rel {width:g}{guided}: {self.number.title} {value:.4g}")
        return value if self.number.lower_is_better else -value

    def _measurement(self, name):
        if self.known and name in self.known.current.weights:
            self.bar.total -= self.draw.num_images
            return self.known.current.weights[name]
        measuring, before = self.measuring, self.bar.n
        weights = measuring.stored.find(names.at_step(name, measuring.options.step or None))
        rows = self.draw.features(
            measuring.drawn_by,
            weights,
            measuring.folder,
            lambda done, total: self.bar.update(before + done - self.bar.n),
        )
        evaluation = measuring.evaluation(self.draw, {name: rows})
        if self.known:
            evaluation = evaluation.joined(self.known.current)
        self.known = quality.Evaluations(evaluation)
        self.known.write(self.path)
        measuring.forget_features()
        return evaluation.weights[name]
