"""DDPM as a Keras model: the training step, validation on fixed noise, and sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# pyright: reportAttributeAccessIssue=false
# (a cached property of a Keras model is taken for the descriptor itself)
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from . import exporting, noise, samplers, trained_for
from .aliases import PathLike, Progress
from .ema import WarmupDecay
from .ema.steps import MovingStatistics
from .keras_internals import scale_loss_for_distribution, unscale_loss_for_distribution
from .networks import UNet  # noqa: F401 - a saved model holds one, so it must be registered
from .predictor import NoisePredictor
from .sampling import Sampling, Traced
from .scalars import number, whole

if TYPE_CHECKING:  # names in annotations alone
    from .ema.weight_sets import WeightSet
    from .noise import NoiseSchedule
    from .samplers.base import Sampler

QUARTILES = 4
_TIMESTEPS = 1000  # by default, as published


@keras.saving.register_keras_serializable(package="ddpm_keras")
class DDPM(NoisePredictor):
    """Trains a network to undo noise, and keeps moving averages of its weights.

    Images are uint8 in 0..255 or float in `image_range`, (batch, height, width, channels); they are
    scaled to [-1, 1] in the graph. `fit` takes an array or tensor of them, a `tf.data.Dataset`, a
    `PyDataset`, a generator or a PyTorch `DataLoader` of `x`, `(x,)`, `(x, y)` or
    `(x, y, sample_weight)`. `y` are the labels of a conditional network, integers (N,) or (N, 1) in
    0..num_classes - 1, and is ignored without classes; `sample_weight`, finite and at least 0,
    weights the loss of each image. All randomness of training is a function of `seed`, the number
    of the step and the replica, so that a run that is resumed equals one that never stopped.

    Args:
        network: a `UNet`, or any Keras model called as `network([x, t])` (with classes:
            `network([x, t, labels])`) that returns a tensor shaped like x.
        schedule: a `noise.NoiseSchedule`, or "linear", "cosine" or "sigmoid".
        timesteps: number of timesteps for a schedule given by name, at least 2; by default 1000.
        prediction: what the network predicts: "epsilon" (the noise), "sample" (the image) or "v".
        weighting: of the loss by timestep: "simple" (Ho et al. 2020, eq. 14) or "min_snr" (Hang et
            al. 2023, gamma 5).
        ema: an `EMA`, a float, a sequence or dict of decays, or None. The default rises to 0.9999
            as training goes on.
        label_dropout: share of the labels replaced by "no label" in training, in [0, 1), for
            classifier-free guidance (Ho & Salimans 2022). Used by networks with `num_classes` only.
        accumulation_steps: micro-batches a batch is split into, for one optimizer step.
        seed: of the noise, the timesteps and the dropout masks. They are another series where XLA
            compiles the whole step, as by `compile(jit_compile=True)`, which Keras chooses by
            itself on a GPU.
        image_range: (low, high) of float images, low < high: (0, 255) for those of
            `keras.utils.image_dataset_from_directory`, (0, 1) for images divided by 255.

    Raises:
        ValueError: an argument is not among its choices, or the network's output is not shaped like
            its images.

    Example:

    ```python
    model = DDPM(UNet((8, 8, 1), 32, (1, 2), attention_resolutions=(4,)), ema=(0.99, 0.999))
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    model.fit(images, epochs=10, batch_size=128)
    pictures = model.sample(16, weights="ema_0.999", sampler=samplers.DDIM(steps=50))
    ```

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models".
    """

    _made_with = (
        *NoisePredictor._made_with,
        *("schedule", "prediction", "weighting", "label_dropout", "seed", "num_classes"),
    )

    def __init__(
        self,
        network: keras.Model,
        schedule: NoiseSchedule | str = "linear",
        timesteps: int | None = None,
        prediction: str = "epsilon",
        weighting: str = "simple",
        ema: Any = WarmupDecay(0.9999),  # noqa: B008 - decays are immutable
        label_dropout: float = 0.1,
        accumulation_steps: int = 1,
        seed: int = 0,
        image_range: tuple[float, float] = (-1, 1),
        **kwargs: Any,
    ):
        super().__init__(network, ema, accumulation_steps, image_range, **kwargs)
        self.schedule = noise.get(schedule, _TIMESTEPS if timesteps is None else timesteps)
        if timesteps not in (None, self.schedule.timesteps):
            raise ValueError(
                f"timesteps is {timesteps}, but the schedule has {self.schedule.timesteps}: leave "
                "timesteps out, or give the schedule by name."
            )
        if self.schedule.timesteps < 2:
            raise ValueError(
                "timesteps is 1, from which no image comes out of noise: use 2 or more."
            )
        noise.loss_weights(
            self.schedule, prediction, weighting, [0]
        )  # refuses what it cannot weigh
        self.label_dropout = number(label_dropout, "label_dropout")
        if not 0.0 <= self.label_dropout < 1.0:
            raise ValueError(f"label_dropout must be at least 0 and below 1, not {label_dropout}.")
        self.prediction = prediction
        self.weighting = weighting
        self.seed = whole(seed, "seed")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed must be an integer of 64 bits; got {seed}.")
        self.num_classes = getattr(network, "num_classes", None)
        self._grad_norm = keras.metrics.Mean("grad_norm")
        self._quartiles = [keras.metrics.Mean(f"loss_q{i + 1}") for i in range(QUARTILES)]
        self.traced = Traced(self)
        self.check_network()

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "prediction": self.prediction,
            "weighting": self.weighting,
            "label_dropout": self.label_dropout,
            "seed": self.seed,
        }

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        trained_for.write(store, self)

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(trained_for.without(store, self))

    def _add_to_network(self, path):
        trained_for.add_to_network(path, self)

    # Training

    def train_step(self, data: Any) -> Any:
        """One optimizer step on the diffusion loss, then one move of the averages."""
        images, labels, weights, count = self._unpacked(data)
        statistics = MovingStatistics(self.network)
        batch = self._noised(images, labels, self._step_key())
        batch["weight"] = _times(batch["weight"], weights) * tf.cast(count > 0, tf.float32)
        loss, per_image, gradients = self._gradients(self._loss_of_noised, batch)
        self.loss_tracker.update_state(unscale_loss_for_distribution(loss), sample_weight=count)
        self._track_quartiles(per_image[:count], batch["t"][:count])
        norm = self._apply_step(gradients, loss, statistics)
        finite = tf.math.is_finite(norm)  # the norm of a step that is not made counts nothing
        self._grad_norm.update_state(tf.where(finite, norm, 0.0), tf.cast(finite, tf.float32))
        return self.get_metrics_result()

    def _step_key(self):
        """The random key of this step and replica; the dropout masks are keyed on the step too."""
        key = tf.random.fold_in(tf.constant([self.seed, 0], tf.int64), self.train_counter.value)
        states = [v for v in self.network.variables if v.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            state.assign(
                tf.cast(tf.stack([self.seed + index, self.train_counter * 64]), state.dtype)
            )
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return tf.random.fold_in(key, replica)

    def _noised(self, images, labels, key):
        """What the loss needs of a batch: x_t, t, the target, its weight and the labels."""
        time_key, noise_key, label_key = tf.unstack(tf.random.split(key, 3))
        x_start = self.inputs_taken.scaled(images)
        batch = tf.shape(x_start)[0]
        t = tf.random.stateless_uniform([batch], time_key, 0, self.schedule.timesteps, tf.int32)
        epsilon = tf.random.stateless_normal(tf.shape(x_start), noise_key)
        if labels is not None:
            dropped = tf.random.stateless_uniform([batch], label_key) < self.label_dropout
            labels = tf.where(dropped, self.num_classes, labels)
        return self._example(x_start, t, epsilon, labels)

    def _example(self, x_start, t, epsilon, labels):
        return {
            "x": noise.q_sample(self.schedule, x_start, t, epsilon),
            "t": t,
            "target": noise.training_target(self.schedule, self.prediction, x_start, epsilon, t),
            "weight": noise.loss_weights(self.schedule, self.prediction, self.weighting, t),
            "labels": labels,
        }

    def _loss_of_noised(self, batch):
        """(mean over the batch, losses of shape (batch,)), with what the layers add as loss."""
        per_image = self._squared_error(batch, training=True)
        added = sum(tf.cast(extra, tf.float32) for extra in self.losses)
        return scale_loss_for_distribution(tf.reduce_mean(per_image) + added), per_image

    def _squared_error(self, batch, training):
        """Weighted mean squared error of each image, float32 (batch,) (Ho et al. 2020, eq. 14)."""
        output = self._output(batch["x"], batch["t"], batch["labels"], training)
        error = tf.square(output - batch["target"])
        return batch["weight"] * tf.reduce_mean(error, axis=list(range(1, error.shape.rank)))

    def _track_quartiles(self, per_image, t):
        """Loss by quarter of the timesteps (Nichol & Dhariwal 2021, section 3.3)."""
        quartile = t * QUARTILES // self.schedule.timesteps
        for index, metric in enumerate(self._quartiles):
            metric.update_state(per_image, sample_weight=tf.cast(quartile == index, tf.float32))

    # Validation

    def test_step(self, data: Any) -> Any:
        """The loss of the weight set `evaluation_weights` on the same noise at every call."""
        images, labels, weights, count = self._unpacked(data)
        start = tf.cast(self.loss_tracker.count.value, tf.int32)  # images seen since the reset
        with self.weight_scope(self.evaluated_values()):
            per_image, t = self._fixed_losses(images, labels, start)
        per_image = _times(per_image, weights)
        self.loss_tracker.update_state(tf.reduce_mean(per_image), sample_weight=count)
        self._track_quartiles(per_image[:count], t[:count])
        return {m.name: m.result() for m in (self.loss_tracker, *self._quartiles)}

    def _fixed_losses(self, images, labels, start):
        """Losses of images number `start`, `start` + 1, ..., each on its own noise and timestep.

        The timesteps follow the golden ratio, which spreads any run of consecutive numbers evenly.
        """
        x_start = self.inputs_taken.scaled(images)
        count = tf.shape(x_start)[0]
        index = tf.cast(start + tf.range(count), tf.float64)
        place = tf.math.floormod(0.5 + index * (5**0.5 - 1) / 2, 1.0)
        t = tf.cast(place * self.schedule.timesteps, tf.int32)
        seeds = samplers.image_seeds(self.seed, start, count)
        epsilon = samplers.initial_noise(seeds, self.image_shape)
        batch = self._example(x_start, t, epsilon, labels)
        return self._squared_error(batch, training=False), t

    def validation_loss(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        weights: str | WeightSet | None = None,
        repeats: int = 1,
        batch_size: int = 256,
    ) -> float:
        """The loss of one weight set on fixed noise, comparable between weight sets and epochs.

        Args:
            images: uint8 or float in `image_range`, an array (N, height, width, channels).
            labels: integers (N,) in 0..num_classes - 1, for a conditional network.
            weights: a name of `weight_sets`, "ema" or a `WeightSet`; default `evaluation_weights`.
            repeats: how often each image is used, with other noise and timestep, at least 1.
            batch_size: images at a time, at least 1; changes the result by rounding only.

        Returns:
            The mean loss, a float.

        Raises:
            ValueError: images or labels are not what the model is trained on.
        """
        repeats, batch_size = whole(repeats, "repeats", 1), whole(batch_size, "batch_size", 1)
        images, labels = self.evaluation_arrays(images, labels)
        values = self.finite_values(weights)
        function, losses = self.traced.losses(images.dtype), []
        for repeat in range(repeats):
            for start in range(0, len(images), batch_size):
                part = slice(start, start + batch_size)
                part_labels = [] if labels is None else [tf.constant(labels[part])]
                index = tf.constant(repeat * len(images) + start)
                losses.append(function(values, tf.constant(images[part]), index, part_labels))
        return float(np.mean(np.concatenate(losses), dtype=np.float64))

    # Sampling

    def sample(
        self,
        num_images: int,
        weights: str | WeightSet | None = None,
        sampler: Sampler | str | None = None,
        seed: int = 0,
        batch_size: int = 64,
        labels: ArrayLike | None = None,
        guidance_scale: float | None = None,
        output: str = "uint8",
        start: int = 0,
        progress: Progress | None = None,
        guide: str | WeightSet | None = None,
        guidance_rescale: float | None = None,
        guidance_interval: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Draws images with one weight set; the weights in training are not touched.

        An image depends on weights, sampler, seed, its index (and label and guidance) alone: to
        rounding, the batch size does not matter.

        With guidance, each prediction is moved away from a worse one: the network's own without the
        label (classifier-free guidance, Ho & Salimans 2022), or, where `guide` is given, that of
        another weight set with the same label (autoguidance, Karras et al. 2024, "Guiding a
        Diffusion Model with a Bad Version of Itself", section 4), which needs no classes. It is one
        or the other: a guide stands in the place of the network without label.

        Args:
            num_images: number of images.
            weights: a name of `weight_sets`, "ema" for the last average, or a `WeightSet`; by
                default `evaluation_weights`, which is "ema" unless set.
            sampler: from `ddpm_keras.samplers`, or its name; by default DDIM with 50 steps.
            seed: an int; the same seed gives the same noise to every weight set.
            batch_size: images at a time.
            labels: for a conditional network, one class for all or one each, 0..num_classes (which
                means none). By default image i gets class i mod num_classes.
            guidance_scale: strength of guidance: 1, as by default, is the model itself, more goes
                farther from the worse prediction. A guide needs it.
            output: "uint8", or "float" for float32 in [-1, 1].
            start: index of the first image, at least 0, to draw a long series in parts.
            progress: None, or a function called as `progress(done, total)` after each batch.
            guide: the weight set to guide by, as for `weights`: one that is averaged or trained
                less well, such as "raw" or one of an earlier step.
            guidance_rescale: share in which guided predictions keep their spread, in [0, 1], by
                default 0 (Lin et al. 2024, eq. 15-16, where it is 0.7).
            guidance_interval: (low, high): timesteps low <= t < high are guided, by default all
                (Kynkäänniemi et al. 2024).

        Returns:
            An array (num_images, height, width, channels).

        Raises:
            ValueError: an argument is not what it should be, or there is nothing to guide by.
        """
        drawing = Sampling(
            self,
            num_images,
            weights,
            sampler,
            seed,
            batch_size,
            labels,
            guidance_scale,
            output,
            start,
            progress,
            guide,
            guidance_rescale,
            guidance_interval,
        )
        return drawing.images(drawing.noise)

    def export_sampler(
        self,
        path: PathLike,
        weights: str | WeightSet | None = None,
        sampler: Sampler | str | None = None,
        guidance_scale: float | None = None,
        guide: str | WeightSet | None = None,
        guidance_rescale: float | None = None,
        guidance_interval: tuple[int, int] | None = None,
    ) -> None:
        """Writes a sampler and the network as one SavedModel that TensorFlow alone can run.

        Its `sample(seed, start, num_images)` gives the images of `model.sample` of these arguments,
        uint8; with classes it is `sample(seed, start, labels)`, with one image for each label.
        `network(x, t)`, or `network(x, t, labels)`, is the network alone.

        Args:
            path: a new or empty folder.
            weights, sampler, guidance_scale, guide, guidance_rescale, guidance_interval: as of
                `sample`.

        Raises:
            ValueError: something is at `path`, or an argument is not what `sample` takes.

        Example:

        ```python
        model.export_sampler("sampler", sampler=samplers.DDIM(50))
        sampler = tf.saved_model.load("sampler")
        images = sampler.sample(seed=0, start=0, num_images=16)     # as model.sample(16, seed=0)
        ```
        """
        drawing = Sampling(
            self,
            1,
            weights,
            sampler,
            guidance_scale=guidance_scale,
            guide=guide,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
        )
        exporting.write(drawing, path)


def _times(per_image, weights):
    return per_image if weights is None else per_image * weights
