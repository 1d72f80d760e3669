"""Weight sets of a network by name, and evaluation with one of them."""

import functools
from typing import Any

import keras
import numpy as np

from .. import names
from ..aliases import PathLike
from ..keras_internals import in_stateless_scope
from .choice import Choice
from .groups import like
from .state import AveragedNetwork
from .weight_sets import WeightSet, check_finite, fresh_network, with_values


class EvaluatedNetwork(AveragedNetwork):
    """An `AveragedNetwork` that is evaluated, and predicts, with one of its weight sets.

    Args:
        network, ema: as of `AveragedNetwork`.
        evaluation_weights: the weight set: a name of `weight_sets`, "ema" or a `WeightSet`.
    """

    _evaluation_weights: Any = None

    def __init__(self, network, ema=None, evaluation_weights="ema", **kwargs):
        super().__init__(network, ema, **kwargs)
        self._choice = Choice()
        self._evaluate_with(evaluation_weights)  # Keras assigns no property that None is already

    # Weight sets.

    @property
    def weight_sets(self) -> tuple[str, ...]:
        """The names of all weight sets: "raw", then "ema_<name>" for each average."""
        averages = self.ema.names if self.ema is not None else ()
        return (names.RAW, *map(names.average, averages))

    def resolve(self, weights: str | WeightSet | None) -> str:
        """The full name of a weight set: "ema" is the last average, or "raw" if there is none.

        None is `evaluation_weights`.
        """
        weights = self._evaluation_weights if weights is None else weights
        if isinstance(weights, WeightSet):
            return weights.name
        if not isinstance(weights, str):
            raise ValueError(
                f"weights is a {type(weights).__name__}: give a WeightSet, or a name of one, which "
                f"are {', '.join(self.weight_sets)}."
            )
        if weights == names.LAST:
            return self.weight_sets[-1]
        if weights not in self.weight_sets:
            raise ValueError(
                f"There is no weight set {weights!r}: choose one of {', '.join(self.weight_sets)}."
            )
        return weights

    def check_finite(self, weights: str | WeightSet | None = None) -> None:
        """Refuses weights that hold a number that is not finite.

        Args:
            weights: A name of `weight_sets`, "ema" or a `WeightSet`; by default all weight sets.

        Raises:
            ValueError: They do; the message names the weight set and the weight.
        """
        if not self.network.weights:
            return
        for each in self.weight_sets if weights is None else (weights,):
            check_finite(self.resolve(each), self.network.weights, self.weight_values(each))

    def weight_values(self, weights: str | WeightSet | None = None) -> list[Any]:
        """The values of a weight set, one tensor or variable per entry of `network.weights`.

        Args:
            weights: A name of `weight_sets`, "ema" for the last average, or a `WeightSet`; by
                default `evaluation_weights`.
        """
        weights = self._evaluation_weights if weights is None else weights
        if isinstance(weights, WeightSet):
            return self._checked_values(weights)
        name = self.resolve(weights)
        if name == names.RAW:
            return list(self.network.weights)
        self._prepare_averages()
        return self.ema.variables(names.average_of(name))

    def _checked_values(self, weights):
        given = [tuple(np.shape(value)) for value in weights.values]
        expected = [tuple(variable.shape) for variable in self.network.weights]
        if given != expected:
            raise ValueError(
                f"The weight set {weights.name!r} has shapes {given}, the network {expected}: "
                "it belongs to another network."
            )
        return list(weights.values)

    def weight_scope(self, weights: Any) -> Any:
        """A `keras.StatelessScope` in which the network computes with these values.

        Nothing can be assigned in it, so that what trains or makes a network belongs outside, and
        `evaluate` and `predict`, which take `evaluation_weights`; all these are refused in it.

        Args:
            weights: A name, a `WeightSet`, or a list of values aligned with `network.weights`.
        """
        self._prepare_averages()  # which are not looked after inside
        if isinstance(weights, (str, WeightSet)):
            return keras.StatelessScope(self._named_values(weights))
        pairs = zip(self.network.weights, weights, strict=True)
        return keras.StatelessScope([(v, like(v, x)) for v, x in pairs])

    def _named_values(self, weights=None):
        """(weight, value) for `network.weights`, whatever `weight_scope` is around it.

        Args:
            weights: a name, a `WeightSet`, or None for `evaluation_weights`.
        """
        pairs = list(zip(self.network.weights, self.weight_values(weights), strict=True))
        with keras.StatelessScope():  # where weights have the values that are their own
            return [(variable, like(variable, value)) for variable, value in pairs]

    def export_network(
        self, weights: str | WeightSet | None = None, path: PathLike | None = None
    ) -> keras.Model:
        """A fresh network that holds a weight set.

        Args:
            weights: A name of `weight_sets`, "ema" for the last average, or a `WeightSet`; by
                default `evaluation_weights`.
            path: Also save the network here (a name ending in ".keras").

        Returns:
            The network, built from the config of `self.network`.

        Raises:
            ValueError: There is no such weight set, or it holds a number that is not finite.
        """
        values = self.weight_values(weights)
        weight_set = WeightSet(self.resolve(weights), values)
        return fresh_network(self.network, weight_set, path, self._add_to_network)

    def _add_to_network(self, path):
        """Adds to the file of a network that is exported; a subclass may have to."""

    # Evaluation with a weight set.

    @property
    def evaluation_weights(self) -> Any:
        """The weight set that is evaluated, predicted with and exported unless told otherwise.

        A name of `weight_sets`, "ema" or a `WeightSet`; assign one to change it. It is saved with
        the model, unless it is a `WeightSet`.
        """
        return self._evaluation_weights

    @evaluation_weights.setter
    def evaluation_weights(self, weights: str | WeightSet) -> Any:
        self._evaluate_with(weights)

    def _evaluate_with(self, weights):
        if weights is None:
            raise ValueError("evaluation_weights must be a name of weight_sets or a WeightSet.")
        name = self.resolve(weights)
        arrays = (isinstance(each, WeightSet) for each in (weights, self._evaluation_weights))
        if any(arrays):  # which are constants of a graph
            self.test_function = self.predict_function = None
        if name in self.weight_sets:
            self._choice.variable.assign(self.weight_sets.index(name))
        self._evaluation_weights = weights

    def evaluated_values(self) -> list[Any]:
        """The values of `evaluation_weights`; in a graph, of what it is when the graph runs."""
        sets = self.weight_sets
        if len(sets) == 1 or isinstance(self._evaluation_weights, WeightSet):
            return self.weight_values()
        read = [functools.partial(self.weight_values, name) for name in sets]
        return self._choice.values(self.network.weights, read)

    def make_test_function(self, force: bool = False) -> Any:
        _refuse_other_weights("evaluate")
        self._prepare_averages()
        self.check_finite(self._evaluation_weights)
        return super().make_test_function(force)

    def make_predict_function(self, force: bool = False) -> Any:
        _refuse_other_weights("predict")
        self._prepare_averages()
        self.check_finite(self._evaluation_weights)
        return super().make_predict_function(force)

    def test_step(self, data: Any) -> Any:
        pairs = zip(self.network.weights, self.evaluated_values(), strict=True)
        return with_values(self, pairs, lambda: super(EvaluatedNetwork, self).test_step(data))

    def predict_step(self, data: Any) -> Any:
        with self.weight_scope(self.evaluated_values()):
            return super().predict_step(data)


def _refuse_other_weights(what):
    """`evaluation_weights` are taken there, whatever a `weight_scope` around it says."""
    if in_stateless_scope():
        raise ValueError(
            f"{what} takes evaluation_weights, not those of the weight_scope that it is in: set "
            "evaluation_weights outside of it, or call model.network in it."
        )
