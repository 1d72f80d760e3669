"""Sampling with a model: a series of images, batch by batch, on every replica that holds it."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from . import noise, samplers
from .ema import WeightSet
from .guidance import Guidance
from .keras_internals import layers_of
from .networks import UNet
from .networks.compiled import xla_works
from .samplers import Chain
from .scalars import number, whole

_NUMBERS = len(dataclasses.fields(Guidance))

_MOST_IMAGES = 2**31  # of a seed: their numbers are 32-bit
_LEAST_STEPS, _MOST_PIXELS = 20, 16 * 16
_HALF = ("bfloat16", "float16")  # XLA's convolutions in them are slow on a processor


class Sampling:
    """How a series of images is drawn with a `DDPM`: what was asked for, checked, in parts.

    Image i depends on its own seed alone, so that a series can be drawn in any parts. A part is a
    slice of 0..num_images - 1.

    Args:
        model: the `DDPM`.
        num_images: number of images.
        weights ... guidance_interval: as of `DDPM.sample`.

    Raises:
        ValueError: an argument is not of its kind.
    """

    def __init__(
        self,
        model,
        num_images,
        weights=None,
        sampler=None,
        seed=0,
        batch_size=64,
        labels=None,
        guidance_scale=None,
        output="uint8",
        start=0,
        progress=None,
        guide=None,
        guidance_rescale=None,
        guidance_interval=None,
    ):
        if output not in ("uint8", "float"):
            raise ValueError(f'output is "uint8" or "float", not {output!r}.')
        self.model, self.schedule = model, model.schedule
        self.num_images = whole(num_images, "num_images", 1)
        self.batch_size = whole(batch_size, "batch_size", 1)
        self.seed, self.start = whole(seed, "seed"), whole(start, "start", 0)
        if self.start + self.num_images > _MOST_IMAGES:
            raise ValueError(
                f"start is {start}; a series has images 0 to {_MOST_IMAGES - 1}: use another seed."
            )
        self._check_guided_by(guide, guidance_scale)
        self.guidance = Guidance.checked(guidance_scale, guidance_rescale, guidance_interval)
        self.labels = self._checked_labels(labels)
        self.sampler = samplers.get(sampler, self.schedule)
        if self.guided:
            self._check_steers(guide)
        self.values = [model.finite_values(weights)]
        if guide is not None:
            self._check_guide(guide, weights)
            guides = [model.finite_values(guide)]
            self.values += guides if self.guided else []
        if progress is not None and not callable(progress):
            raise ValueError(f"progress must be a function of (done, total); got {progress!r}.")
        self.output, self.progress = output, progress

    def parts(self):
        """Yields the part of each batch; says after each that it is done."""
        for first in range(0, self.num_images, self.batch_size):
            part = slice(first, min(first + self.batch_size, self.num_images))
            yield part
            if self.progress is not None:
                self.progress(part.stop, self.num_images)

    def images(self, begin, first=0):
        """All images, denoised from where they begin.

        Args:
            begin: function of a part that gives its noisy images, float32.
            first: step of the sampler that these are for.

        Returns:
            An array (num_images, height, width, channels), as `output` says.
        """
        drawn = [self.finished(self.denoise(begin(p), p, first)) for p in self.parts()]
        return np.concatenate(drawn)

    def seeds(self, part):
        """The seeds of the images of a part, int32 (batch, 2)."""
        return samplers.image_seeds(self.seed, self.start + part.start, part.stop - part.start)

    def noise(self, part):
        """x_T of the images of a part, standard normal, float32."""
        return samplers.initial_noise(self.seeds(part), self.model.image_shape)

    @property
    def timesteps(self):
        """Those that the sampler visits, descending, int64 (steps,)."""
        return self.sampler.timesteps(self.schedule)

    def first_step(self, strength):
        """The step from which on `strength`, a share in [0, 1], of all steps are left."""
        if not 0.0 <= number(strength, "strength") <= 1.0:
            raise ValueError(f"strength is {strength}; use a number from 0 to 1.")
        left = round(strength * len(self.timesteps))
        if strength and not left:
            raise ValueError(
                f"strength is {strength}, which is less than half of one of "
                f"{len(self.timesteps)} steps: give more of it or of them, or 0 to change nothing."
            )
        return len(self.timesteps) - left

    def noised(self, x_start, part, first):
        """Images in [-1, 1] made as noisy as step `first` needs them: pure noise for step 0."""
        timesteps = self.timesteps
        if first == len(timesteps):
            return tf.constant(x_start)
        epsilon = self.noise(part)
        if first == 0:
            return epsilon
        t = tf.fill([len(x_start)], int(timesteps[first]))
        return noise.q_sample(self.schedule, x_start, t, epsilon)

    def denoise(self, x, part, first=0):
        """Images (batch, height, width, channels) from noisy ones, by all steps from `first` on."""
        if first == len(self.timesteps):
            return x.numpy()
        function = self.model.traced.sampling(self.sampler, self.guided, first, len(self.values))
        return function(self.values, x, self.seeds(part), self._condition(part)).numpy()

    def memory(self, x):
        """As of `Chain`, for `step`."""
        return Chain(self.sampler, self.schedule, prediction=self.model.prediction).memory(x)

    def step(self, k, x, memory, part, draw=None):
        """`Chain.step` of all steps of the sampler, with this model."""
        function = self.model.traced.step(self.sampler, self.guided, len(self.values))
        draw = tf.constant(k + 1 if draw is None else draw)
        rows = (x, memory, self.seeds(part), self._condition(part))
        return function(self.values, tf.constant(k), draw, *rows)

    def finished(self, images):
        """Images, float32, as `output` says.

        Raises:
            ValueError: one of them is not finite.
        """
        images = np.clip(checked_finite(images), -1.0, 1.0)
        if self.output == "float":
            return images
        return np.rint((images + 1.0) * 127.5).astype(np.uint8)

    @property
    def guided(self):
        return self.guidance is not None

    def _condition(self, part):
        """What `DDPM.predict_output` takes besides x, t and the guide, as tensors."""
        labels = [] if self.labels is None else [tf.constant(self.labels[part])]
        numbers = dataclasses.astuple(self.guidance) if self.guided else ()
        return labels + [tf.constant(each, tf.float32) for each in numbers]

    def _check_guided_by(self, guide, scale):
        """Refuses guidance without anything to guide by, and a guide without guidance."""
        if scale is None and guide is not None:
            raise ValueError("guide needs guidance_scale: give its strength, such as 2; 1 is none.")
        if scale not in (None, 1.0) and guide is None and self.model.num_classes is None:
            raise ValueError(
                "guidance_scale needs a network with num_classes, or a guide: leave it out, or "
                'give a guide such as "raw".'
            )

    def _check_steers(self, guide):
        """Refuses guidance that changes no image: at no step, or without a class to guide to."""
        visited = self.timesteps
        if not self.guidance.visits(visited):
            raise ValueError(
                f"guidance_interval {self.guidance.low:g} to {self.guidance.high:g} holds none of "
                f"the {len(visited)} timesteps of the sampler, from {visited[0]} to {visited[-1]}: "
                "give one that does."
            )
        if guide is None and (self.labels == self.model.num_classes).all():
            raise ValueError(
                "guidance_scale needs classes to guide to, or a guide, and all labels are "
                f"{self.model.num_classes}, which means none: name classes, or leave it out."
            )

    def _check_guide(self, guide, weights):
        """Refuses a weight set that is to guide itself, which changes nothing."""
        one, other = (
            each if isinstance(each, WeightSet) else self.model.resolve(each)
            for each in (guide, weights)
        )
        if one is other or (isinstance(one, str) and one == other):
            raise ValueError(
                f"guide and weights are both {self.model.resolve(guide)!r}: guide by another one."
            )

    def _checked_labels(self, labels):
        """One int32 label an image, or None for an unconditional network."""
        model = self.model
        if model.num_classes is None:
            if labels is not None:
                raise ValueError(
                    "labels need a network with num_classes; leave them out, or build the network "
                    "with some."
                )
            return None
        if labels is None:
            labels = np.arange(self.start, self.start + self.num_images) % model.num_classes
        if np.ndim(labels) == 0:
            labels = np.full(self.num_images, labels)
        return model.inputs_taken.check_labels(labels, self.num_images, none_allowed=True)


def checked_finite(images):
    """Images as they are; refused where one is not finite."""
    if not np.isfinite(images).all():
        raise ValueError(
            "The images are not finite, since what the network predicts overflows: draw with "
            "another weight set or precision, or with less guidance."
        )
    return images


class Chosen(Sampling):
    """Some images of a series, which need not follow one another.

    Args:
        model: the `DDPM`.
        indices: their numbers, ints (N,).
        **settings: the other arguments of `Sampling`, but labels and start.
    """

    def __init__(self, model, indices, **settings):
        classes = model.num_classes
        labels = None if classes is None else np.asarray(indices) % classes
        super().__init__(model, len(indices), labels=labels, **settings)
        self.indices = [int(index) for index in indices]

    def seeds(self, part):
        return tf.concat([samplers.image_seeds(self.seed, i, 1) for i in self.indices[part]], 0)


class Traced:
    """Functions of a `DDPM` traced once for all weight sets, which they take as an argument.

    Those that sample take a list of the values of one weight set, or of two, the second of which
    guides the first. A plain object, so that Keras and TensorFlow find nothing here to save.
    """

    def __init__(self, model):
        self.model = model
        self.losses = functools.cache(self._losses)
        self.sampling = functools.cache(self._sampling)
        self.step = functools.cache(self._step)

    def _losses(self, dtype):
        def losses(values, images, start, labels):
            with self.model.weight_scope(values):
                return self.model._fixed_losses(images, *(labels or [None]), start)[0]

        images, _, labels, weights = self._signature(guided=False)
        images = tf.TensorSpec(images.shape, dtype)
        signature = (weights, images, tf.TensorSpec((), tf.int32), labels)
        return tf.function(losses, autograph=False, input_signature=signature)

    def _sampling(self, sampler, guided, first, count):
        model, evaluate = self.model, self._evaluation(guided, sampler)

        def denoise(values, x, seeds, condition):
            def of_replica(x, seeds, *condition):
                def predict(x, t):
                    return evaluate(values, x, t, condition)

                return sampler(predict, x, model.schedule, seeds, first, model.prediction)

            return _on_replicas(model.distribute_strategy, of_replica, x, seeds, *condition)

        images, seeds, condition, weights = self._signature(guided)
        signature = ([weights] * count, images, seeds, condition)
        return tf.function(denoise, autograph=False, input_signature=signature)

    def _evaluation(self, guided, sampler):
        """The function (values, x, t, condition) that predicts, compiled where that is faster."""

        def evaluate(values, x, t, condition):
            with self.model.weight_scope(values[0]):
                return self._predictor(guided, condition, values[1:])(x, t)

        # Guided, the batch is twice as large at some steps: XLA pads what may vary, very slowly.
        steps = len(sampler.timesteps(self.model.schedule))
        compiles = not guided and _compiles(self.model, steps)
        return tf.function(evaluate, autograph=False, jit_compile=True) if compiles else evaluate

    def _step(self, sampler, guided, count):
        model = self.model
        chain = Chain(sampler, model.schedule, prediction=model.prediction)

        def step(values, k, draw, x, memory, seeds, condition):
            def of_replica(x, memory, seeds, *condition):
                predict = self._predictor(guided, condition, values[1:])
                with model.weight_scope(values[0]):
                    return chain.step(predict, k, x, memory, seeds, draw)

            strategy = model.distribute_strategy
            return _on_replicas(strategy, of_replica, x, memory, seeds, *condition)

        images, seeds, condition, weights = self._signature(guided)
        scalar = tf.TensorSpec((), tf.int32)
        memory = tf.TensorSpec((None, chain.depth, *model.image_shape), tf.float32)
        signature = ([weights] * count, scalar, scalar, images, memory, seeds, condition)
        return tf.function(step, autograph=False, input_signature=signature)

    def _predictor(self, guided, condition, guides):
        """`predict(x, t)` of the condition, guided by the weight set in `guides`, if any."""
        labels = condition[0] if self.model.num_classes is not None else None
        guidance = Guidance(*condition[-_NUMBERS:]) if guided else None
        guide = guides[0] if guides else None
        return functools.partial(
            self.model.predict_output, labels=labels, guidance=guidance, guide=guide
        )

    def _signature(self, guided):
        """Specifications of images, seeds, the condition and the weights."""
        model = self.model
        weights = [tf.TensorSpec(weight.shape, weight.dtype) for weight in model.network.weights]
        labels = [tf.TensorSpec((None,), tf.int32)] if model.num_classes is not None else []
        guidance = [tf.TensorSpec((), tf.float32)] * _NUMBERS if guided else []
        images = tf.TensorSpec((None, *model.image_shape), tf.float32)
        return images, tf.TensorSpec((None, 2), tf.int32), [*labels, *guidance], weights


def _compiles(model, steps):
    """Whether a sampler of so many steps has the network compiled by XLA, as a whole.

    On small maps most of the time goes by between the operations, and XLA leaves few of them; on
    large ones its convolutions are slower than those of TensorFlow. What compiling takes is more
    than a few steps save. It depends on the sampler and the model alone, so that an image is the
    same whatever it is drawn with. See docs/performance.md.
    """
    height, width, _ = model.image_shape
    return (
        steps >= _LEAST_STEPS
        and height * width <= _MOST_PIXELS
        and isinstance(model.network, UNet)  # any other may do what XLA cannot
        and all(layer.compute_dtype not in _HALF for layer in layers_of(model.network))
        and model.distribute_strategy.num_replicas_in_sync == 1
        and not tf.config.list_logical_devices("GPU")
        and xla_works()
    )


def _on_replicas(strategy, function, *batch):
    """What a function gives for a batch, each replica of this machine doing its share of rows.

    Args:
        strategy: a `tf.distribute.Strategy`.
        function: of what is in `batch`, which gives tensors with a row for each row it got.
        batch: tensors; those without axes are the same for all rows.
    """
    if strategy.num_replicas_in_sync == 1:
        return function(*batch)
    replicas = len(strategy.extended.worker_devices)  # of this machine: a worker draws alone
    if replicas == 1:
        return function(*batch)
    count = tf.shape(batch[0])[0]
    places = tf.range(count + (-count) % replicas) % count  # as many for each, so some twice

    def share():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        own = places[number % replicas :: replicas]
        return function(*(tf.gather(rows, own) if rows.shape.rank else rows for rows in batch))

    def joined(shares):
        rows = tf.stack(strategy.experimental_local_results(shares), axis=1)
        return tf.reshape(rows, [-1, *rows.shape[2:]])[:count]

    return tf.nest.map_structure(joined, strategy.run(share))
