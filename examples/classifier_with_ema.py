"""A classifier of one's own, trained once, with three moving averages of its weights beside it.

    python examples/classifier_with_ema.py          # ten seconds on two CPU cores

Nothing here is about diffusion: `EMAModel` wraps any Keras network, and `fit` stays `fit`. The
learning rate is high and constant, so the raw weights never settle, and the averages show what they
buy.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

from ddpm_keras import EMA, EMAModel
from ddpm_keras.ema import WarmupDecay


def make_network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def main():
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 8 - 1).astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1000], order[1000:]

    averages = EMA({"short": 0.9, "long": 0.99, "warm": WarmupDecay(0.99)})
    model = EMAModel(make_network(), ema=averages)
    model.compile(
        optimizer=keras.optimizers.SGD(0.3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print(*averages.describe(steps=320, steps_per_epoch=32), sep="\n")
    model.fit(images[train], labels[train], batch_size=32, epochs=10, verbose=0)

    for weights in model.weight_sets:
        model.evaluation_weights = weights
        loss, accuracy = model.evaluate(images[test], labels[test], verbose=0)
        print(f"{weights:10s} loss {loss:.3f}, accuracy {accuracy:.1%}")

    model.save("classifier.keras")  # raw weights, averages, counter and optimizer: training goes on
    model.export_network("ema_warm", "classifier-ema.keras")  # a plain Keras network to ship


if __name__ == "__main__":
    main()
