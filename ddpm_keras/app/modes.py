"""What sample.py draws: images from noise, or what else its options ask of a model."""

import contextlib
import functools

import numpy as np

from .. import drawing, images
from ..data import decode
from ..data.words import reason, shown
from ..errors import UsageError
from ..samplers import Chain
from . import consistency, named, progress
from .parser import flag

USUAL_STEPS = 50  # of a sampler
STATES = 10  # in a picture of the way from noise; an animation has one for each step


def drawer(options, model, settings):
    """The function (count, start, progress=None) that draws images number `start` and on, uint8.

    Args:
        options: a `SampleOptions`.
        model: a `DDPM`.
        settings: arguments of `DDPM.sample` that are the same for all images.

    Raises:
        UsageError: an image file is not what the model can be given.
    """
    draw = _draw_from(options, model)
    _check_seed(options, settings["sampler"], model.schedule)

    def of_part(count, start, progress=None):
        labels = _labels(options.labels, start, count)
        return draw(count, labels=labels, start=start, progress=progress, **settings)

    return of_part


def _draw_from(options, model):
    """The function (count, **settings) that the mode of the options stands for."""
    if options.from_image:
        image = read_image("from_image", options.from_image, model.image_shape)
        return lambda count, **settings: drawing.image_to_image(
            model, np.repeat(image, count, axis=0), options.strength, **settings
        )
    if options.inpaint:
        image = read_image("inpaint", options.inpaint, model.image_shape)
        mask = read_image("mask", options.mask, (*model.image_shape[:2], 1))[0] > 127
        return lambda count, **settings: drawing.inpaint(
            model, np.repeat(image, count, axis=0), mask, **settings
        )
    if options.interpolate:
        return functools.partial(_between, options, model)
    return model.sample


def _check_seed(options, sampler, schedule):
    """Refuses a seed of noise that nothing draws."""
    between = options.interpolate and options.interpolates_seeds
    if options.seed and between and not Chain(sampler, schedule).draws:
        raise UsageError(
            f"--seed means nothing for --interpolate of seeds by {options.sampler}, which draws no "
            "noise; leave it out, or use --sampler ddpm."
        )


def _between(options, model, count, start, **settings):
    """The images between the two ends that --interpolate names."""
    ends = options.interpolate
    if options.interpolates_seeds:
        return drawing.interpolate_noise(model, *map(int, ends), count, **settings)
    first, second = (read_image("interpolate", end, model.image_shape)[0] for end in ends)
    if options.encode:
        del settings["seed"]
        return drawing.interpolate_encodings(model, first, second, count, **settings)
    return drawing.interpolate_images(model, first, second, count, options.strength, **settings)


def sampler(options, schedule):
    """The sampler that the options name, of so many steps where they name none and there are.

    To inpaint it draws noise in each step, and makes 250 steps; to encode it clips nothing.
    """
    usual, more = USUAL_STEPS, {}
    if options.inpaint:
        usual = drawing.INPAINTING_STEPS
        more = {"eta": 1.0} if options.sampler.startswith("ddim") else {}
    elif options.encode:
        usual, more = drawing.ENCODING_STEPS, {"clip": False}
    steps = options.steps or min(usual, schedule.timesteps)
    return named.sampler(options.sampler, schedule, steps=steps, **more)


def write(options, model, settings, what, crew):
    """Draws all that a `SampleOptions` asks for and writes it.

    Args:
        options, model, settings: as of `drawer`.
        what: is drawn, for the progress bar.
        crew: the `workers.Crew` of the processes that draw, of which this is the chief.

    Returns:
        The number of images written: fewer than asked for where Ctrl-C ended it.
    """
    if options.progress:
        return _write_way(options, model, settings, what)
    draw = drawer(options, model, settings)
    if options.out.endswith(consistency.ANIMATIONS):
        return _write_animation(options, draw, what)
    if options.interpolate:  # whose images are parts of one way
        return _write_images(options, draw, options.num, what)

    def draw_together(count, start):
        crew.ask([count, start])
        return crew.draw(draw, count, start, options.batch_size)

    return _write_images(options, draw_together, options.batch_size * crew.count, what)


def help(options, model, settings, crew):
    """What a worker does that is not the chief in `write`: it draws batches for it.

    Returns:
        0, the exit status.
    """
    draw = drawer(options, model, settings)
    for count, start in crew.asked():
        crew.draw(draw, count, start, options.batch_size)
    return 0


def _write_images(options, draw, size, what):
    """So many at a time, as they come."""
    writer = images.Writer(options.out)
    try:
        with progress.counted(f"sampling {what}", options.num) as counted, writer:
            for start in range(0, options.num, size):
                count = min(size, options.num - start)
                writer.add(draw(count, start))
                counted(writer.count, options.num)
    except KeyboardInterrupt:
        if not writer.count:
            raise
    return writer.count


def _write_animation(options, draw, what):
    """The images between two ends, there and back."""
    with progress.counted(f"sampling {what}", options.num) as counted:
        drawn = draw(options.num, 0, counted)
    frames = [images.grid(image[np.newaxis]) for image in drawn]
    images.animate([*frames, *frames[-2:0:-1]], options.out)
    return options.num


def _write_way(options, model, settings, what):
    """The way of images from noise: a picture of some states, or an animation of all."""
    still = options.out.endswith(".png")
    steps = len(settings["sampler"].timesteps(model.schedule))
    with progress.counted(f"sampling {what}", options.num) as counted:
        way = drawing.denoise_progressively(
            model,
            options.num,
            STATES if still else steps,
            labels=_labels(options.labels, 0, options.num),
            progress=counted,
            **settings,
        )
    if still:
        images.save(way.picture(), options.out)
    else:
        images.animate(way.frames(), options.out)
    return options.num


def read_image(name, path, shape):
    """A file as one image of this shape, uint8 (1, height, width, channels).

    Args:
        name: of the option that names it.
        path: the file.
        shape: (height, width, channels) of the model's images.

    Raises:
        UsageError: it is no image, or not of this size.
    """
    if shape[-1] not in (1, 3):
        raise UsageError(f"{flag(name)} needs a model of grey or colour images, not {shape}.")
    with _image_errors(name, path):
        size = decode.header(path).size
    if size != tuple(shape[:2]):  # before it is decoded, which a large one takes memory for
        raise UsageError(
            f"{flag(name)} {shown(path)} is {size[1]}x{size[0]} pixels, and the model draws "
            f"{shape[1]}x{shape[0]}; resize it."
        )
    with _image_errors(name, path):
        return decode.decode(path, np.empty((1, *shape), np.uint8))


@contextlib.contextmanager
def _image_errors(name, path):
    """Reports a file that is no image, on which decoders fail in many ways."""
    try:
        yield
    except Exception as error:
        raise UsageError(
            f"{flag(name)} {shown(path)} cannot be read as an image ({reason(error)}); give "
            "another."
        ) from None


def _labels(labels, start, count):
    """Labels of images number `start` and on, the given ones in turn; None where none are given."""
    return [labels[i % len(labels)] for i in range(start, start + count)] if labels else None
