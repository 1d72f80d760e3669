"""Which average is best? Asked after the training, of snapshots of two averages.

    python examples/posthoc_ema.py                  # a minute or two on two CPU cores

The run tracks no average at all, only stores two power-function averages sixteen times. From those
files any width and any classical decay is made, and the validation loss is printed against the
length.
"""

import pathlib
import tempfile

import keras

from ddpm_keras import DDPM, EMA, UNet, callbacks, data, posthoc


def main():
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    network = UNet((8, 8, 1), 32, (1,), num_res_blocks=1, attention_resolutions=(), dropout=0.0)
    model = DDPM(network, ema=EMA(()))
    model.compile(keras.optimizers.Adam(2e-3, global_clipnorm=1.0))
    with tempfile.TemporaryDirectory() as directory:
        snapshots = pathlib.Path(directory) / "snapshots"
        taken = callbacks.PowerFunctionSnapshots(snapshots, sigma_rels=(0.05, 0.10))
        model.fit(digits.train, batch_size=32, epochs=30, verbose=2, callbacks=[taken])

        def report(name, weights, error=""):
            loss = model.validation_loss(digits.held_out, weights=weights, repeats=4)
            print(f"{name:22s} validation loss {loss:.4f} {error}")

        report("raw", "raw")
        targets = [{"sigma_rel": s} for s in (0.03, 0.05, 0.08, 0.12, 0.2)]
        targets += [{"decay": d} for d in (0.9, 0.99, 0.999)]
        for target in targets:
            made = posthoc.synthesize(snapshots, **target)
            report(made.name, made, f"(relative error {made.relative_error:.1e})")


if __name__ == "__main__":
    main()
