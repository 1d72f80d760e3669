"""What is looked at before TensorFlow Datasets reads a folder: names of code, sizes of images."""

import io
import pathlib

from ..reading import bounds, json_parts, json_text
from .decode import check_pixels
from .words import shown

METADATA = ("dataset_info.json", "features.json")
_PACKAGE = "tensorflow_datasets."
_CLASSES = ("pythonClassName", "python_class_name", "type", "proto_cls", "protoCls")


def check_metadata(folder):
    """Refuses descriptions of a data set below a folder that would import code from elsewhere.

    Raises:
        ValueError: in one line that names the file.
    """
    for path in (path for name in METADATA for path in sorted(pathlib.Path(folder).rglob(name))):
        try:
            _check_classes(json_text.read(path))
        except ValueError as error:
            raise ValueError(
                f"{shown(path)} is missing or damaged ({error}): prepare the data set again, or "
                "copy it anew."
            ) from None


def check_images(name, count, shape, paths):
    """Refuses images that would take far more memory than their files have bytes.

    Args:
        name: of the data set.
        count: how many images there are said to be.
        shape: `(height, width, channels)` of each.
        paths: their files.
    """
    files = [path for path in map(pathlib.Path, paths) if path.is_file()]
    height, width, channels = shape
    needed = count * height * width * channels
    length = sum(path.stat().st_size for path in files)
    bounds.check(f"{count} images of {name}", needed, length)


def bounded_decoder(tfds):
    """A decoder that looks at the size of an image before its pixels are decoded."""
    import tensorflow as tf

    @tfds.decode.make_decoder()
    def decode(serialized, feature):
        checked = tf.numpy_function(_checked, [serialized], tf.string)
        return feature.decode_example(tf.reshape(checked, []))

    return decode()


def _checked(data):
    """An encoded image, if its pixels may be decoded."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        check_pixels(image, len(data))
    return data


def _check_classes(metadata):
    if not isinstance(metadata, dict):
        raise ValueError("it is no JSON object")
    for part in json_parts.dictionaries(metadata):
        names = (part[key] for key in _CLASSES if isinstance(part.get(key), str))
        other = next((n for n in names if "." in n and not n.startswith(_PACKAGE)), None)
        if other is not None:
            raise ValueError(f"it names {other[:60]}, which is no part of {_PACKAGE[:-1]}")
