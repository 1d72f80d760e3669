"""Averages go back to the best epoch with the weights, whoever keeps them."""

import keras
import numpy as np
import pytest
import small_gan
from ema_doors import Bare
from ema_optimizers import SGD, O, X, Y, assert_equal
from small_trainings import compiled, numbers, small_network

from ddpm_keras import EMA, EMAModel, EMAOptimizer, callbacks
from ddpm_keras.ema import LAWA
from ddpm_keras.ema.optimizer import averages_of

RULES = {"a": 0.5, "b": LAWA(2, 1)}


def two_optimizers():
    model = small_gan.GAN()
    model.compile(EMAOptimizer(SGD(0.1), RULES), EMAOptimizer(SGD(0.1), RULES))
    return model


def own_step():
    model = Bare(small_network(), EMA(RULES))
    model.compile(SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def classifier(optimizer, model=None):
    return compiled(model or small_network(), optimizer)


MODELS = {
    "an optimizer": lambda: classifier(EMAOptimizer(SGD(0.1), RULES)),
    "one inside of a loss scale": lambda: classifier(
        O.LossScaleOptimizer(EMAOptimizer(SGD(0.1), RULES), 2.0)
    ),
    "a part of an optimizer": lambda: classifier(
        O.MultiOptimizer(O.OptimizerMap(SGD(0.1), {".*kernel": EMAOptimizer(SGD(0.1), RULES)}))
    ),
    "two optimizers": two_optimizers,
    "a train_step": own_step,
    "a model": lambda: classifier(SGD(0.1), EMAModel(small_network(), ema=RULES)),
}


class Watch(keras.callbacks.Callback):
    """What there is after each epoch, each worse than the one before."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(found(self.model))
        logs["score"] = -epoch


def found(model):
    """The weights that are averaged, then the averages of a rule each, and the steps."""
    every = averages_of(model)
    weights = [ema.sources[i] for ema in every for i in ema.averaged_positions]
    averages = [
        ema.variables(name)[i] for ema in every for name in RULES for i in ema.averaged_positions
    ]
    return numbers(weights), numbers(averages), [ema.num_updates for ema in every]


@pytest.mark.parametrize("name", MODELS)
def test_averages_go_back_to_the_best_epoch_with_the_weights(name, recwarn):
    keras.utils.set_random_seed(0)
    model, watch = MODELS[name](), Watch()
    given = (small_gan.images(),) if name == "two optimizers" else (X, Y)
    stop = callbacks.EarlyStopping("score", mode="max", patience=2, restore_best_weights=True)
    model.fit(*given, batch_size=16, epochs=5, callbacks=[watch, stop], verbose=0)
    assert len(watch.seen) == 3
    best = watch.seen[0]
    assert len(best[2]) == (2 if name == "two optimizers" else 1)
    for now, then in zip(found(model), best, strict=True):
        assert_equal(now, then)
    model.fit(*given, batch_size=48, verbose=0)  # and go on from there, by a step
    weights, averages, steps = found(model)
    assert steps == [each + 1 for each in best[2]]
    np.testing.assert_allclose(averages[0], (best[1][0] + weights[0]) / 2, atol=1e-6)
    assert not [w for w in recwarn if "averages" in str(w.message)]


@pytest.mark.parametrize(
    "callback",
    [
        callbacks.EvaluateAverages(small_gan.images()),
        callbacks.EarlyStopping("d_loss", mode="min", restore_best_weights=True),
    ],
)
def test_averages_of_every_optimizer_know_where_a_training_ends(callback):
    """Keras tells the optimizer of `compile` alone."""
    model = two_optimizers()
    small_gan.fit(model, 1, callbacks=[callback])
    model.set_weights([weight + 1 for weight in model.get_weights()])
    with pytest.warns(UserWarning, match="replaced since the last fit: a, b start anew") as said:
        model.fit(small_gan.images(), batch_size=48, verbose=0)
        found(model)
    assert len([w for w in said if "start anew" in str(w.message)]) == 2
    assert [ema.age("a") for ema in averages_of(model)] == [1, 1]


def test_an_end_that_is_told_again_hides_no_weights_that_were_replaced_meanwhile():
    """Keras' own `EarlyStopping` replaces them before other callbacks hear of the end."""
    model = MODELS["an optimizer"]()
    stop = keras.callbacks.EarlyStopping("score", mode="max", restore_best_weights=True)
    evaluate = callbacks.EvaluateAverages((X, Y))
    model.fit(X, Y, batch_size=16, epochs=3, callbacks=[Watch(), stop, evaluate], verbose=0)
    with pytest.warns(UserWarning, match="replaced since the last fit"):
        model.optimizer.ema.variables("a")
