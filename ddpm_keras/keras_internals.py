"""All that this package uses of Keras and TensorFlow beyond what they document, in one place.

Each name is looked up when the package is imported, so that another version that lacks one is told
by an `ImportError` and not by a training that goes wrong. `Trainer` gives what a subclass of
`keras.Model` may rely on names of its own.
"""

import contextlib
import importlib
import io
import math
import weakref

import keras
import tensorflow as tf
from keras import tree

_OPS = "tensorflow.python.framework.ops"
TESTED = "Keras 3.12 to 3.15 with TensorFlow 2.20 and 2.21"


def _find(root, path):
    """The object at a dotted path below `root`.

    Raises:
        ImportError: there is none, naming the versions that have it.
    """
    found = root
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ImportError(
                f"Keras {keras.__version__} with TensorFlow {tf.__version__} has no "
                f"{root.__name__}.{path}: ddpm_keras is tested with {TESTED}; install one of them."
            ) from None
    return found


scale_loss_for_distribution = _find(keras, "src.losses.loss.scale_loss_for_distribution")
unscale_loss_for_distribution = _find(keras, "src.losses.loss.unscale_loss_for_distribution")
in_stateless_scope = _find(keras, "src.backend.common.stateless_scope.in_stateless_scope")
print_message = _find(keras, "src.utils.io_utils.print_msg")
input_signature_of = _find(keras, "src.export.export_utils.get_input_signature")
maybe_merge_call = _find(tf, "__internal__.distribute.interim.maybe_merge_call")
INCEPTION_V3_WEIGHTS = _find(keras, "src.applications.inception_v3.WEIGHTS_PATH_NO_TOP")
ArrayDataAdapter = _find(keras, "src.trainers.data_adapters.array_data_adapter.ArrayDataAdapter")
_KerasSaveable = _find(keras, "src.saving.keras_saveable.KerasSaveable")
_Trackable = _find(tf, "__internal__.tracking.Trackable")

_gradients = _find(importlib.import_module(_OPS), "gradient_registry._registry")

_H5IOStore = _find(keras, "src.saving.saving_lib.H5IOStore")
_save_state = _find(keras, "src.saving.saving_lib._save_state")

# Overridden or called below: if Keras dropped one, what overrides it would just not be called.
for _name in (
    "_autoconvert_optionals",
    "_compute_loss",
    "_flatten_layers",
    "_make_function",
    "_maybe_symbolic_build",
    "_symbolic_build",
):
    _find(keras.Model, _name)

CLIP_GRADIENTS = "_clip_gradients"  # of an optimizer: a method of the gradients
SUM_GRADIENTS = "_all_reduce_sum_gradients"  # over all replicas: of (gradient, variable)
for _name in (CLIP_GRADIENTS, SUM_GRADIENTS):
    _find(keras.optimizers.Optimizer, _name)


class Saveable(_KerasSaveable, _Trackable):
    """An attribute of a Keras model whose state is saved with it, by Keras and by TensorFlow."""

    def _obj_type(self):
        return "Loss"  # Keras knows only its own kinds; this one has no state it would save twice

    def track(self, name, variable):
        """Lets tf.train.Checkpoint find the variable; Keras saves through save_own_variables."""
        self._track_trackable(variable, name, overwrite=True)
        return variable


class OptimizerAround(keras.optimizers.Optimizer):
    """An optimizer around another one, to which it leaves steps, rates, loss scale and their state.

    What it saves is what the optimizer inside would save by itself, so that the file of either can
    be loaded into the other. Keras finds that optimizer as `inner_optimizer`.
    """

    def __init__(self, inner_optimizer, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer

    def __dir__(self):
        # Keras saves each optimizer among the attributes: this one is saved already.
        return [name for name in super().__dir__() if name != "inner_optimizer"]

    def build(self, variables):
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self):
        return self.inner_optimizer.variables

    def set_weights(self, weights):
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def save_own_variables(self, store):
        self.inner_optimizer.save_own_variables(store)

    def load_own_variables(self, store):
        self.inner_optimizer.load_own_variables(store)

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    def apply_gradients(self, grads_and_vars):
        super().apply_gradients(grads_and_vars)
        return self.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)


class Trainer(keras.Model):
    """A `keras.Model` that also trains under MultiWorkerMirroredStrategy, with checks of batches.

    There `fit` of Keras 3.15 fails in two places, which are replaced here: it gives the batch of
    all workers to an eager call, and takes the mean of scalars over an axis.
    """

    _checks_batches = False

    @property
    def loss_tracker(self):
        """The metric that holds the mean loss."""
        return self._loss_tracker

    def loss_of(self, **kwargs):
        """The compiled loss and those that the layers add; arguments as of `compute_loss`."""
        return self._compute_loss(**kwargs)

    def checked(self, step):
        """A function of the batch of all replicas that may refuse it before `step` sees it.

        Kept out of what XLA compiles, which drops assertions.
        """
        return step

    @staticmethod
    def is_validation_of_fit(given):
        """Whether arguments of `evaluate` are those with which `fit` validates."""
        return bool(given.get("_use_cached_eval_dataset"))

    def make_train_function(self, force=False):
        if not in_multi_worker_mode(self.distribute_strategy):
            return super().make_train_function(force)
        if self.steps_per_execution > 1:
            raise ValueError(
                "Several workers take one step at a time: leave out "
                f"steps_per_execution={self.steps_per_execution}."
            )
        self.train_function = self._step_of_workers()
        return self.train_function

    def _step_of_workers(self):
        strategy = self.distribute_strategy

        def step_of_all(data):
            return _of_first_replica(strategy, strategy.run(self.train_step, args=(data,)))

        step = tf.function(self.checked(step_of_all), autograph=False, reduce_retracing=True)
        return lambda iterator: step(next(iterator))  # metrics are the same in every replica

    def _make_function(self, step_function):
        self._checks_batches = True  # in training and evaluation: predictions are not made by it
        try:
            return super()._make_function(step_function)
        finally:
            self._checks_batches = False

    def _autoconvert_optionals(self, step_function):
        # Here Keras hands a batch to the compiled step.
        step = super()._autoconvert_optionals(_traced_within(step_function))
        return self.checked(step) if self._checks_batches else step

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        strategy = self.distribute_strategy
        if not in_multi_worker_mode(strategy):
            return super()._maybe_symbolic_build(iterator, data_batch)
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = _of_first_replica(strategy, next(batches))
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)


def _traced_within(step):
    """A `tf.function` that is no graph of its own within another one, unless XLA compiles it.

    TensorFlow makes each ready by itself: with a graph less the first step comes a second earlier.
    """
    if not hasattr(step, "python_function") or step.function_spec.jit_compile:
        return step

    def call(data):
        return step(data) if tf.executing_eagerly() else step.python_function(data)

    return call


def in_multi_worker_mode(strategy):
    """Whether several processes train together under this strategy."""
    multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return multi_worker and strategy.extended._in_multi_worker_mode()


def _of_first_replica(strategy, values):
    def local(value):
        return strategy.experimental_local_results(value)[0]

    return tree.map_structure(local, values)


def strategy_of(variable):
    """The strategy that a `tf.Variable` was created under."""
    return getattr(variable, "_distribute_strategy", None) or tf.distribute.get_strategy()


def local_parts(variable):
    """What a Keras variable is in each replica of this process."""
    value = variable.value
    return strategy_of(value).experimental_local_results(value)


def test_function_of(model, test_step):
    """The function of an iterator that `evaluate` calls, of a test step of one's own."""
    return model._make_function(test_step)


def weights_file(model):
    """What `save_weights` writes, as bytes: HDF5 ends the process where it finds a disk full."""
    file = io.BytesIO()
    store = _H5IOStore(file, mode="w")
    _save_state(
        model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set()
    )
    store.close()
    return file.getbuffer()


def kept_with_graph(result):
    """What `tf.custom_gradient` gave in a graph, its gradient kept by the graph, not for ever."""
    entry = _gradients[result.op.get_attr("_gradient_op_type").decode()]
    result.graph.get_collection_ref("ddpm_keras_gradients").append(entry["type"])
    gradient = weakref.ref(entry["type"])
    entry["type"] = lambda op, *up: gradient()(op, *up)
    return result


def layers_of(model):
    """A model, then all layers below it, however deep."""
    return list(model._flatten_layers())


def non_trainable_variables(network):
    """Those that the layers of a network were made with: not the weights of frozen layers."""
    return [v for layer in layers_of(network) for v in layer._non_trainable_variables]


def moments_of_adam(optimizer, variable):
    """The means of gradient and squared gradient that a built Keras Adam keeps for a variable."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def averages_of_optimizer(optimizer):
    """(variable, its average) of a built optimizer with `use_ema=True`, for each that has one."""
    pairs = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    return [(variable, average) for variable, average in pairs if average is not None]


@contextlib.contextmanager
def bounded_variables(nbytes, count):
    """Within it, variables may take so many bytes in all, and be so many.

    Raises:
        ValueError: by the variable that would be too much, before it takes its memory.
    """
    left = [nbytes, count]

    def create(next_creator, **kwargs):
        left[0] -= _bytes_of_variable(kwargs.get("initial_value"))
        left[1] -= 1
        if min(left) < 0:
            raise ValueError("the configuration is of a larger model than the weights are")
        return next_creator(**kwargs)

    with tf.variable_creator_scope(create):
        yield


def _bytes_of_variable(initial_value):
    """Bytes of the variable that is about to be made; 0 where that is not known.

    What Keras gives TensorFlow is a function of nothing, in whose closure the Keras variable is.
    """
    cells = getattr(initial_value, "__closure__", None) or ()
    for made in [cell.cell_contents for cell in cells] + [initial_value]:
        if hasattr(made, "shape") and hasattr(made, "dtype"):
            return math.prod(made.shape) * tf.as_dtype(made.dtype).size
    return 0
