"""Train on a NumPy array of colour images with `model.fit`; save, load and sample.

    python examples/own_images.py                 # trains, saves colour.keras, prints a checksum
    python examples/own_images.py colour.keras    # a new process draws the same pixels

The images are crops of a photograph: any uint8 array (N, height, width, channels) will do.
"""

import hashlib
import sys

import keras
import numpy as np
from sklearn.datasets import load_sample_images

from ddpm_keras import DDPM, EMA, UNet, samplers

if len(sys.argv) == 1:
    photo = load_sample_images().images[1]  # (427, 640, 3) uint8
    corners = np.random.default_rng(0).integers(0, (411, 624), (2048, 2))
    images = np.stack([photo[top : top + 16, left : left + 16] for top, left in corners])

    network = UNet((16, 16, 3), base_channels=32, channel_multipliers=(1, 2), num_res_blocks=1)
    model = DDPM(network, ema=EMA((0.9, 0.99)))
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    model.fit(images, epochs=5, batch_size=64)
    model.save("colour.keras")
else:
    model = keras.saving.load_model(sys.argv[1])
pictures = model.sample(16, sampler=samplers.DDIM(steps=20), seed=0)
print(pictures.shape, hashlib.sha256(pictures).hexdigest()[:16])
