"""What to do with a trained model besides drawing from noise: one file each.

Each function takes the model, what it is about, and as keywords what `DDPM.sample` takes: weights,
sampler, seed, batch_size, labels, guidance, output, start, progress. Image i depends on its own
noise, which follows from the seed and `start` + i, so that a long series can be drawn in parts.
Of a conditional network the images have no label unless `labels` says so. Images that are given are
those that the model is trained on: uint8, or float in its `image_range`.
"""

from .encoding import ENCODING_STEPS, encode, interpolate_encodings
from .inpainting import INPAINTING_STEPS, inpaint
from .interpolation import interpolate_images, interpolate_noise, slerp
from .progressive import Denoising, denoise_progressively
from .sdedit import image_to_image

__all__ = [
    "ENCODING_STEPS",
    "INPAINTING_STEPS",
    "Denoising",
    "denoise_progressively",
    "encode",
    "image_to_image",
    "inpaint",
    "interpolate_encodings",
    "interpolate_images",
    "interpolate_noise",
    "slerp",
]
