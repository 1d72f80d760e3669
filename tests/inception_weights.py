"""Random weights of the Inception network of 2015-12-05, under the names of the published file."""

import functools

import keras
import numpy as np

from ddpm_keras.quality.extractors import fid_inception


@functools.cache
def random_state():
    """dict of name -> float32 array."""
    random = np.random.RandomState(0)
    state = {}
    for layer in fid_inception._build().layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width, channels, filters = layer.kernel.shape
            scale = np.sqrt(2 / (height * width * channels))
            kernel = random.randn(filters, channels, height, width) * scale
            state[f"{layer.name}.conv.weight"] = kernel
            state[f"{layer.name}.bn.weight"] = random.uniform(0.8, 1.2, filters)
            state[f"{layer.name}.bn.bias"] = random.randn(filters) / 10
            state[f"{layer.name}.bn.running_mean"] = random.randn(filters) / 10
            state[f"{layer.name}.bn.running_var"] = random.uniform(0.5, 1.5, filters)
    return {name: np.float32(value) for name, value in state.items()}
