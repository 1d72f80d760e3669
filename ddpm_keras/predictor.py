"""A Keras model of images and timesteps: what its network predicts, by itself and guided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from . import noise
from .aliases import Tensor
from .guidance import Guidance
from .inputs import ImageModel, fits

if TYPE_CHECKING:  # names in annotations alone
    from .ema.weight_sets import WeightSet


class NoisePredictor(ImageModel):
    """An `ImageModel` whose network predicts the noise in images, or what stands for it.

    A subclass has `schedule`, `prediction` and `num_classes`.
    """

    @property
    def image_shape(self) -> tuple[Any, ...]:
        """(height, width, channels) of the images."""
        shape = getattr(self.network, "image_shape", None)
        if shape is None:
            inputs = getattr(self.network, "inputs", None) or [None]
            shape = getattr(inputs[0], "shape", (None, None))[1:]
        if None in shape:
            raise ValueError(
                "The network does not say how large its images are: give it an attribute "
                "image_shape = (height, width, channels)."
            )
        return tuple(shape)

    def check_network(self):
        """Refuses a network that is built already, and gives something else than images."""
        network = self.network
        if network.built and getattr(network, "outputs", None):
            _check_output(network.outputs[0].shape, network.inputs[0].shape)

    def _output(self, x, t, labels, training):
        """What the network predicts, float32, shaped like x."""
        inputs = [x, t] if labels is None else [x, t, labels]
        output = tf.cast(self.network(inputs, training=training), tf.float32)
        _check_output(output.shape, x.shape)
        return tf.ensure_shape(output, x.shape) if None in output.shape[1:] else output

    def predict_epsilon(
        self, x: Tensor, t: Tensor, labels: Any = None, guidance: Any = None, guide: Any = None
    ) -> Tensor:
        """The noise in `x`, with the weights the network has now; as `predict_output`."""
        output = self.predict_output(x, t, labels, guidance, guide)
        return noise.to_epsilon(self.schedule, self.prediction, output, x, t)

    def predict_output(
        self, x: Tensor, t: Tensor, labels: Any = None, guidance: Any = None, guide: Any = None
    ) -> Tensor:
        """What the network predicts, as `prediction` says, with the weights it has now.

        Args:
            x: float32 (batch, height, width, channels).
            t: int32 (batch,).
            labels: int32 (batch,), for a conditional network.
            guidance: a `Guidance`, or its scale; None: the model itself.
            guide: the weight set to guide by, a name, a `WeightSet` or its values; None: the same
                weights without label.

        Returns:
            float32, shaped like x.
        """
        if guidance is None:
            return self._output(x, t, labels, training=False)
        if not isinstance(guidance, Guidance):
            guidance = Guidance(guidance)
        pair = self._with_label_and_without if guide is None else self._of_both
        return guidance.combined(*pair(x, t, labels, guide, guidance.acts(t)), t)

    def _with_label_and_without(self, x, t, labels, guide, acts):
        """What the network predicts for the labels and for none: the same where nothing `acts`."""
        once, none = (x, t, labels), tf.fill(tf.shape(labels), self.num_classes)
        twice = [tf.concat(pair, 0) for pair in ((x, x), (t, t), (labels, none))]
        rows = tf.cond(acts, lambda: twice, lambda: list(once))
        output, count = self._output(*rows, training=False), tf.shape(x)[0]
        return tf.ensure_shape(output[:count], x.shape), tf.ensure_shape(output[-count:], x.shape)

    def _of_both(self, x, t, labels, guide, acts):
        """What the network predicts, and with the guide's weights; the same if nothing `acts`."""
        good = self._output(x, t, labels, training=False)

        def worse():
            with self.weight_scope(guide):
                return self._output(x, t, labels, training=False)

        return good, tf.cond(acts, worse, lambda: good)

    def finite_values(self, weights: str | WeightSet | None = None) -> Any:
        """The values of a weight set as tensors, aligned with `network.weights`.

        Args:
            weights: a name of `weight_sets`, "ema" or a `WeightSet`; default `evaluation_weights`.

        Raises:
            ValueError: there is no such weight set, or it holds a number that is not finite.
        """
        weights = self.evaluation_weights if weights is None else weights
        self.check_finite(weights)
        return [tf.convert_to_tensor(value) for _, value in self._named_values(weights)]


def _check_output(output, image):
    """Refuses an output that is not shaped like the image, which the loss would broadcast."""
    output, image = tuple(output)[1:], tuple(image)[1:]
    if not fits(output, image):
        raise ValueError(
            f"The network gives {output} for images of shape {image}: build it so that its output "
            "has the shape of the image."
        )
