"""Samplers of every kind and setting that tests go through, short ones."""

from ddpm_keras import samplers

GRIDS = ("trailing", "linspace", "leading_unchecked")
EVERY_SAMPLER = [
    samplers.DDPM(steps=7),
    samplers.DDPM("fixed_small", steps=5, clip=False, spacing="trailing"),
    samplers.DDIM(steps=6),
    samplers.DDIM(steps=6, eta=0.7, spacing="linspace"),
    samplers.DDIM(steps=5, recompute_epsilon=False),
    samplers.DPMSolver(steps=6),
    samplers.DPMSolver(steps=4, clip="dynamic"),
    samplers.DPMSolver(steps=7, order=3, spacing="trailing"),
    samplers.DPMSolver(steps=7, order=2, eta=1.0, clip=True),
    samplers.UniPC(steps=5),
    samplers.UniPC(steps=7, order=3, variant="bh1", spacing="linspace", clip=True),
    samplers.Heun(steps=7, spacing="linspace", clip=True),
    samplers.Heun(steps=7, churn=3.0),
    samplers.DPMSolver(steps=6, order=1, spacing="leading_unchecked", clip=True),
]
