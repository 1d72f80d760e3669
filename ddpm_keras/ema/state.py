"""A network and its averages as one Keras model: what Keras lists, saves and restores of it."""

import warnings

import tensorflow as tf

from ..keras_internals import Trainer, in_stateless_scope
from ..reading import keras_file
from .averages import EMA
from .groups import fingerprint, is_same_path, refuse_in_scope

_IN_PART = "Not all weights of these averages were loaded with them"


class AveragedNetwork(Trainer):
    """A network and its averages, which Keras sees as non-trainable weights of the model.

    Its weights are its own counters, those of the network, then the state of the averages:
    `get_weights`, `set_weights`, `get_state_tree`, `set_state_tree`, `summary` and what restores
    weights by them (`EarlyStopping`) take the averages along. No optimizer ever sees them, and
    `network.weights` are the raw weights alone. Before the network is built there are none.

    An average follows the weights that it was made of. Where others are put in their place without
    it, it starts anew from them, at the latest before the next step; what uses it before that says
    that it did not yet.

    Args:
        network: a `keras.Model`.
        ema: an `EMA`, what one is made of, or None.
    """

    _made_with = ("network", "ema")  # attributes that the graphs of training are made of

    def __init__(self, network, ema=None, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.ema = EMA.get(ema)
        self._left = _Left()

    def __setattr__(self, name, value):
        if name in self._made_with and vars(self).get(name, value) is not value:
            raise ValueError(
                f"{name} is an argument that this {type(self).__name__} was made with, and what is "
                f"traced already would not heed another: make a new one with {name}=..., and give "
                "it the weights."
            )
        super().__setattr__(name, value)

    def _prepare_averages(self):
        """Makes the averages fit the network: built, thawed weights included."""
        if self.ema is None or not self.network.weights:
            return
        self.ema.build(self.network.weights)
        if tf.executing_eagerly() and not in_stateless_scope():  # whose weights are others
            self.ema.settle()
            self._say_assigned()

    # Weights as Keras sees them.

    @property
    def variables(self):
        """The network's variables, the counters, and the state of the averages."""
        return [*super().variables, *self._state_of_averages()]

    @property
    def weights(self):
        """The network's weights, the counters, and the state of the averages."""
        return [*super().weights, *self._state_of_averages()]

    def _state_of_averages(self):
        ema = getattr(self, "ema", None)  # Keras may ask before there is one
        if ema is None:
            return ()
        if not ema.built and tf.executing_eagerly():
            self._prepare_averages()
        return ema.state

    def get_weights(self):
        self._prepare_averages()
        return super().get_weights()

    def set_weights(self, weights):
        refuse_in_scope("set_weights")
        self._prepare_averages()  # what still starts anew does so before, not after
        super().set_weights(weights)
        self._leave_weights()

    def get_state_tree(self, value_format="backend_tensor"):
        self._prepare_averages()
        return super().get_state_tree(value_format)

    def set_state_tree(self, state_tree):
        """Assigns what `get_state_tree` gave.

        Without the averages in it, they start anew from weights that it replaces, with a warning.

        Raises:
            ValueError: it names a variable that this model does not have.
        """
        refuse_in_scope("set_state_tree")
        self._prepare_averages()
        renamed, given = {}, set()
        for kind, tree in state_tree.items():
            if kind in ("trainable_variables", "non_trainable_variables"):
                tree = {self._own_path(path): value for path, value in _leaves(tree)}
                given |= set(tree)
            renamed[kind] = tree
        before = fingerprint(self.network.weights)
        super().set_state_tree(renamed)
        if fingerprint(self.network.weights) != before and not given >= self._paths_of_averages():
            self._start_anew("The state tree holds no averages")
        self._leave_weights()

    def _own_path(self, path):
        """What this model calls a variable: a model that was loaded leaves itself out of paths."""
        own = [variable.path for variable in self.variables]
        found = [path] if path in own else [each for each in own if is_same_path(each, path)]
        if len(found) != 1:
            raise ValueError(
                f"The state tree holds {path!r}, and this model has no such variable: name the "
                "model and its layers as those that it was taken of."
            )
        return found[0]

    def _paths_of_averages(self):
        return {variable.path for variable in self._state_of_averages()}

    # Saving and loading.

    def load_own_variables(self, store):
        self._prepare_averages()
        if len(store.keys()) == 1:  # written before idle batches were counted
            self.train_counter.assign(store["0"])
            return
        super().load_own_variables(store)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Loads the weights of a file, and its averages; the arguments are those of Keras.

        Where only a part is loaded (`skip_mismatch`, `objects_to_skip`), the averages are kept if
        all weights that they were made of came with them. Otherwise, all start anew from the
        weights as they are then, with a warning, unless no weight has changed.

        Raises:
            ValueError: The file asks for more than it holds; nothing is loaded.
        """
        refuse_in_scope("load_weights")
        keras_file.check_weights(filepath)
        if self.ema is not None:
            self.ema.begin_loading()
        before = fingerprint(self.network.weights)
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        if skip_mismatch or kwargs.get("objects_to_skip"):
            self._follow_what_was_loaded(before)
        elif self._moved() and self.ema.loaded_with_weights() is None:  # as of an older .h5
            self._follow_what_was_loaded(before, "The file holds no averages")
        elif self.ema is not None and self.ema.loaded_with_weights() is False:
            warnings.warn(
                f"The weights in {filepath} are not those that its averages are of: it is damaged "
                "or was changed, or the network keeps weights in another precision.",
                stacklevel=2,
            )
        self._leave_weights()
        self._prepare_averages()  # averages that start anew do so from the loaded weights

    def _moved(self):
        """Whether there are averages that do not follow whatever is assigned."""
        return self.ema is not None and self.ema.num_updates > 0

    def _follow_what_was_loaded(self, before, why=_IN_PART):
        if self.ema is None:
            return
        whole = self.ema.loaded_with_weights()
        if whole is None:  # no averages were loaded; are those that are here still of the weights?
            whole = fingerprint(self.network.weights) == before
        if not whole:
            self._start_anew(why)

    def _start_anew(self, why):
        warnings.warn(
            f"{why}: {', '.join(self.ema.names)} start anew from the weights as they are now.",
            stacklevel=3,
        )
        self.ema.reset()

    # Weights assigned by other hands than an optimizer's.

    def _leave_weights(self):
        """Notes that the weights as they are now are those that the averages belong to."""
        if self.ema is not None:
            self._left.note(self.ema.num_updates, self.network.trainable_weights)

    def _say_assigned(self):
        if not self._left.said and self._left.differ(self.ema.num_updates):
            self._left.said = True
            warnings.warn(
                "The weights of the network were assigned since its last step, and its averages "
                "are still those of the former ones: model.ema.reset() starts them anew, as the "
                "next step will.",
                stacklevel=3,
            )

    def _follow_assigned(self):
        """Before training: averages of weights that were assigned since start anew."""
        if self.ema is not None and self._left.differ(self.ema.num_updates):
            self._left.forget()
            self._start_anew("The weights of the network were assigned since its last step")


class _Left:
    """Weights as they were left by the last step, or by the file that they are from.

    A plain object, so that Keras and TensorFlow find nothing here to save.
    """

    def __init__(self):
        self.forget()

    def forget(self):
        """From now on, weights may move."""
        self.updates, self.variables, self.fingerprint = 0, [], 0
        self.said = False  # that they differ

    def note(self, updates, variables):
        """Notes the weights as they are after this many updates of their averages."""
        self.forget()
        self.updates, self.variables = updates, list(variables)
        self.fingerprint = fingerprint(self.variables) if updates else 0

    def differ(self, updates):
        """Whether they are others now, though no update of the averages was made."""
        # Before the first update, averages follow whatever is assigned.
        if not self.updates or updates != self.updates:
            return False
        return fingerprint(self.variables) != self.fingerprint


def _leaves(tree, above=""):
    """(path, value) of the leaves of nested dicts, the names on the way joined by "/"."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}/")
        else:
            yield above + name, value
