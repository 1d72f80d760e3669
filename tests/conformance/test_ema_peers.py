"""The averages of other implementations over the same weights, where their rule is the same.

Some peers copy the weights at their first one or two updates instead of averaging; the weights
stand still for those, so that the rules agree from there on.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from ddpm_keras.ema import (
    EMA,
    ConstantDecay,
    PowerWarmupDecay,
    StepDecay,
    WarmupDecay,
    optimizer_average,
)

STEPS = 300


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(0)
    steps = 0.1 * random.normal(size=(STEPS + 1, 50))
    steps[1:3] = 0.0
    return (random.normal(size=50) + np.cumsum(steps, 0)).astype(np.float32)


def ours(weights, decay):
    variable = keras.Variable(weights[0])
    ema = EMA({"average": decay})
    ema.build([variable])
    for value in weights[1:]:
        variable.assign(value)
        ema.update([variable])
    return ema.variables("average")[0].numpy()


def check(weights, decay, theirs):
    average = ours(weights, decay)
    assert np.abs(average - weights[-1]).max() > 0.01  # or anything would pass
    np.testing.assert_allclose(average, theirs, rtol=0, atol=1e-6 * np.abs(weights).max())


def module_of(torch, values):
    module = torch.nn.Linear(values.size, 1, bias=False)
    set_weights(torch, module, values)
    return module


def set_weights(torch, module, values):
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(values.copy())[None])


@pytest.mark.parametrize("power", [2 / 3, 0.75])
@pytest.mark.parametrize("beta", [0.9, 0.9999])
def test_ema_pytorch(torch, weights, beta, power):
    peer = pytest.importorskip("ema_pytorch", reason="ema-pytorch is not installed")
    module = module_of(torch, weights[0])
    ema = peer.EMA(module, beta=beta, update_after_step=0, update_every=1, power=power)
    for value in weights[1:]:
        set_weights(torch, module, value)
        ema.update()
    theirs = ema.ema_model.weight.detach().numpy()[0]
    check(weights, PowerWarmupDecay(beta, power=power), theirs)


@pytest.mark.parametrize(
    ("decay", "arguments"),
    [
        (PowerWarmupDecay(0.999), dict(decay=0.999, use_ema_warmup=True, power=2 / 3)),
        (
            PowerWarmupDecay(0.95, inv_gamma=5.0, power=0.75),
            dict(decay=0.95, use_ema_warmup=True, inv_gamma=5.0, power=0.75),
        ),
        (WarmupDecay(0.95), dict(decay=0.95)),
        (WarmupDecay(0.9999), dict(decay=0.9999)),
    ],
)
def test_diffusers(torch, weights, decay, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("diffusers.training_utils", reason="diffusers is not installed")
    module = module_of(torch, weights[0])
    ema = peer.EMAModel(module.parameters(), **arguments)
    for value in weights[1:]:
        set_weights(torch, module, value)
        ema.step(module.parameters())
    check(weights, decay, ema.shadow_params[0].numpy()[0])


@pytest.mark.parametrize("beta", [0.9, 0.999, None])
def test_torch_averaged_model(torch, weights, beta):
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    module = module_of(torch, weights[0])
    rule = {} if beta is None else {"multi_avg_fn": get_ema_multi_avg_fn(beta)}
    average = AveragedModel(module, **rule)
    for value in weights[1:]:
        set_weights(torch, module, value)
        average.update_parameters(module)
    decay = StepDecay() if beta is None else ConstantDecay(beta)
    check(weights, decay, average.module.weight.detach().numpy()[0])


@pytest.mark.parametrize("beta", [0.875, 1 - 2.0**-10])
def test_keras_use_ema(weights, beta):
    """With decays that float32 holds exactly: Keras subtracts a rounded decay from 1."""
    variable = keras.Variable(weights[0])
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=beta)
    optimizer.build([variable])
    seen = [weights[0]]
    for previous, value in zip(weights[:-1], weights[1:], strict=True):
        optimizer.apply([tf.constant(previous - value)])
        seen.append(variable.numpy())
    theirs = optimizer_average(optimizer, [variable]).values[0]
    check(np.stack(seen), ConstantDecay(beta), theirs)


@pytest.mark.parametrize("decay", [ConstantDecay(0.95), WarmupDecay(0.95), WarmupDecay(0.9999)])
def test_tensorflow_exponential_moving_average(weights, decay):
    variable = tf.Variable(weights[0])
    count = tf.Variable(0, dtype=tf.int64)
    warmup = {"num_updates": count} if isinstance(decay, WarmupDecay) else {}
    peer = tf.train.ExponentialMovingAverage(decay.beta, **warmup)
    peer.apply([variable])  # creates the average, as a copy
    for n, value in enumerate(weights[1:]):
        count.assign(n)
        variable.assign(value)
        peer.apply([variable])
    check(weights, decay, peer.average(variable).numpy())
