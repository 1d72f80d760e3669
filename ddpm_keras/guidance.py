"""Guidance: two predictions of the same thing, a good and a worse one, made into a better one.

What is predicted may be the noise, the image or v: for the same x_t each is linear in the others,
so the rules here give the same images by all of them.
"""


def extrapolated(good, worse, scale):
    """What lies on from the worse prediction through the good one: worse + scale (good - worse).

    It is classifier-free guidance where the worse prediction is that without a label (Ho & Salimans
    2022, eq. 6, with scale = 1 + w), and autoguidance where it is that of a worse network (Karras
    et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", section 4).

    Args:
        good: a prediction, (batch, ...).
        worse: another one for the same x_t and t.
        scale: 1 gives the good prediction to rounding, 0 the worse one.

    Returns:
        A prediction, shaped like both.
    """
    return worse + scale * (good - worse)
