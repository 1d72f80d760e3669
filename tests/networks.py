"""Networks and models small enough to be traced in a second."""

import keras
import numpy as np

from ddpm_keras import DDPM, UNet
from ddpm_keras.networks.layers import TimestepEmbedding


def small_network():
    """`network([x, t])` for images (8, 8, 1), with a dropout layer."""
    x, t = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    time = keras.layers.Dense(4)(TimestepEmbedding(4)(t))
    h = keras.layers.Conv2D(4, 3, padding="same")(x) + time[:, None, None, :]
    h = keras.layers.Dropout(0.2)(keras.ops.silu(h))
    return keras.Model([x, t], keras.layers.Conv2D(1, 3, padding="same")(h))


def beside(x, t):
    """x, of which t is an input that changes nothing: older Keras takes none that leads nowhere."""
    return x + 0.0 * keras.ops.cast(t, "float32")[:, None, None, None]


def conditional_model():
    """A `DDPM` of three classes whose weights are nowhere 0, with two averages that differ."""
    options = {"num_res_blocks": 1, "attention_resolutions": (), "num_classes": 3, "groups": 4}
    keras.utils.set_random_seed(0)
    model = DDPM(UNet((8, 8, 1), 8, (1,), **options), timesteps=60, ema=(0.5, 0.9))
    random = np.random.default_rng(0)
    for weight in model.network.weights:
        weight.assign(random.normal(0, 0.2, weight.shape))
    model.ema.update(model.network.weights)
    return model


class CorrelatedPair(keras.Model):
    """The best network for images of two pixels, Gaussian, with mean 0 and this correlation."""

    image_shape = (1, 2, 1)

    def __init__(self, schedule, deviation=0.25, correlation=0.8):
        super().__init__()
        variances = deviation**2 * np.array(
            [1 + correlation, 1 - correlation]
        )  # of sum, difference
        cumprod = schedule.alphas_cumprod[:, np.newaxis]
        self._scales = np.sqrt(1 - cumprod) / (cumprod * variances + 1 - cumprod)
        self.built = True

    def call(self, inputs, training=None):
        x, t = inputs
        scales = keras.ops.take(keras.ops.convert_to_tensor(self._scales, "float32"), t, axis=0)
        turned = keras.ops.stack([x[:, 0, 0, 0] + x[:, 0, 1, 0], x[:, 0, 0, 0] - x[:, 0, 1, 0]], 1)
        of_sum, of_difference = keras.ops.unstack(scales * turned / 2, axis=1)
        epsilon = keras.ops.stack([of_sum + of_difference, of_sum - of_difference], axis=1)
        return epsilon[:, np.newaxis, :, np.newaxis]
