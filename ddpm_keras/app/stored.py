"""The weight sets that a run has stored: at its end, in checkpoints, or to make of snapshots."""

import numpy as np

from .. import checksums, names
from ..ema import WeightSet, posthoc
from ..errors import UsageError
from . import console, invocation, models


class StoredWeights:
    """The weight sets of a run by their full names, such as "raw", "ema_0.999@500".

    Args:
        run: a `Run`.
        model: its model as it was at the end.

    Attributes:
        end: the optimizer steps that the model has made.
    """

    def __init__(self, run, model):
        self.run, self.model = run, model
        self.end = model.steps_made
        self._earlier = {}

    def find(self, name):
        """What a name stands for: a name of the model itself, or a `WeightSet`.

        Raises:
            ValueError: the run has not stored it.
        """
        plain, step = names.split_step(name)
        made = names.synthesis(plain)
        if step is None:
            self._tell_what_came_later()
        if made:
            argument, value = made
            step = step or self.last_snapshot
            return posthoc.synthesize(self.run.path, **{argument: float(value)}, step=step)
        if step in (None, self.end):
            return self.model.resolve(plain)
        model = self._model_of(step)
        values = [np.array(value) for value in model.weight_values(plain)]
        return WeightSet(names.at_step(model.resolve(plain), step), values)

    @property
    def last_snapshot(self):
        """The step of the last snapshot that the model has come to, or None."""
        return max((step for step in self.run.snapshot_steps if step <= self.end), default=None)

    def _tell_what_came_later(self):
        """Warns where training has gone on since the model was written."""
        if self.run.last_step > self.end:
            again = invocation.command("train", "--resume", "--run-dir", self.run.path)
            checksums.say_once(
                f"{self.run.model} is of step {self.end}, and training went on to step "
                f"{self.run.last_step}: finish it with {again}, or name a --step."
            )

    def names_at(self, step):
        """The names, without the step, of all that is stored of it; None is the end."""
        if step in (None, self.end) or step in self.run.checkpoint_steps:
            return self.model.weight_sets
        snapshots = posthoc.list_snapshots(self.run.path)
        widths = next((each.widths for each in snapshots if each.step == step), None)
        if widths is None:
            raise UsageError(f"The snapshot of step {step} is damaged; name another --step.")
        return tuple(map(names.of_width, widths))

    def chosen(self, options):
        """The weight sets to evaluate: those that are stored or named, and those to synthesise.

        Args:
            options: an `EvaluateOptions`.

        Returns:
            dict name, without the step -> what `DDPM.sample` takes. What guides is not among them.

        Raises:
            UsageError: one cannot be had, is not finite, or guides the others.
        """
        step, chosen, guide = options.step or None, {}, self.guide(options)
        with console.input_errors():
            for name in (*(options.weights or self.names_at(step)), *options.synthesised):
                weights = self.find(names.at_step(name, step))
                self.model.check_finite(weights)  # before anything is computed or kept
                if guide is None or called(weights) != called(guide):
                    chosen[names.split_step(called(weights))[0]] = weights
                elif name in (*options.weights, *options.synthesised):
                    raise ValueError(f"{name} is to guide and to be guided; name another --guide.")
            if not chosen:
                raise ValueError(f"There is nothing to guide but {called(guide)} itself.")
        return chosen

    def guide(self, options):
        """The weight set to guide by, at the step of the options unless its name has one."""
        if not options.guide:
            return None
        name, step = names.split_step(options.guide)
        with console.input_errors():
            return self.find(names.at_step(name, step or options.step or None))

    def _model_of(self, step):
        """The model as it was at the step of a checkpoint."""
        if step not in self._earlier:
            model = models.load_model(self.run)
            self.run.restore_step(model, step)
            self._earlier[step] = model
        return self._earlier[step]


def called(weights):
    """The name of what `StoredWeights.find` gives."""
    return weights if isinstance(weights, str) else weights.name
