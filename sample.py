"""Draws images from a run, from a .keras file, or from a diffusers folder.

    python sample.py runs/digits --num 64 --out samples.png
    python sample.py runs/digits --weights raw --out raw/            # one PNG an image
    python sample.py runs/digits --num 50000 --out samples.npz       # uint8, NHWC
    python sample.py runs/digits --export sampler/                   # for TensorFlow alone
    python sample.py runs/digits --progress --out denoising.webp     # how they come out of noise
    python sample.py runs/digits --interpolate 3 8 --out between.gif # two seeds, or two image files
    python sample.py runs/digits --from-image 7.png --strength 0.5   # others like it
    python sample.py runs/digits --inpaint 7.png --mask half.png     # white is painted anew
    python sample.py runs/digits --sigma-rel 0.08 --step 1500        # an average made afterwards
    python sample.py runs/digits --guide raw --guidance 2            # away from the raw weights
    python sample.py --pretrained digits --out digits.png            # a model of the package
    python sample.py --from-diffusers ddpm-cifar10-32 --sampler ddpm --steps 1000
    python sample.py --from-diffusers checkpoint-500 --weights raw   # not its averages

The same seed draws the same noise for every weight set, whatever the batch size.
"""

import os
import sys
import warnings
from pathlib import Path

os.environ["DDPM_KERAS_LAZY"] = "1"  # --help and wrong options answer before TensorFlow is loaded

from ddpm_keras import interop  # noqa: E402
from ddpm_keras.app import (  # noqa: E402
    cluster,
    consistency,
    console,
    exported,
    interrupt,
    invocation,
    stored_names,
)
from ddpm_keras.app.options import TrainOptions, sample_options  # noqa: E402
from ddpm_keras.app.run_directory import Run, check_target  # noqa: E402
from ddpm_keras.errors import UsageError  # noqa: E402


def main(argv):
    options = sample_options(argv)
    place = cluster.place(options.strategy)
    check(options, place.is_chief)

    console.load_tensorflow()
    from ddpm_keras.app import workers

    with workers.missed(place, lambda: invocation.command_again(argv)):
        return draw(options)


def draw(options):
    """Draws or exports what the options ask for; the exit status."""
    from ddpm_keras.app import devices, drawn, modes, stored, workers

    devices.set_precision(options.precision or "float32")  # of what is not stored in the model
    with console.input_errors():
        strategy = devices.strategy(options.strategy)
        with strategy.scope():
            model = load(options)
        if not is_run(options):
            source = (
                options.source or options.from_diffusers or f"--pretrained {options.pretrained}"
            )
            consistency.check_source(options, source, model.schedule.timesteps, model.num_classes)
        if options.precision:
            devices.compute_in(options.precision, model.network)
        weights, guide = weight_sets(options, model)
        crew = workers.Crew(strategy)
        drawn.agree(crew, options, model)
        if options.export and not crew.is_chief:
            return 0
        if options.export:
            return export(options, model, weights, guide)
        what = options.from_diffusers or options.pretrained or stored.called(weights)
        settings = {
            "weights": weights,
            "sampler": modes.sampler(options, model.schedule),
            "seed": options.seed,
            "batch_size": options.batch_size,
            **guidance(options, guide),
        }
        if not crew.is_chief:
            return modes.help(options, model, settings, crew)
        with crew.led():
            done = modes.write(options, model, settings, what, crew)
    if done < options.num:
        print(f"\nInterrupted; the {done} images that are done are in {options.out}.")
        return interrupt.status()
    print(f"{options.num} images: {options.out}")
    return 0


def check(options, writes=True):
    """Refuses a source or a target that cannot be, before TensorFlow is loaded.

    Args:
        options: a `SampleOptions`.
        writes: whether this process writes the target.
    """
    from ddpm_keras import images

    consistency.check_files(options)
    with console.input_errors():
        if options.export and writes:
            exported.format_of(options).check(options.export)
        elif writes:
            images.check_target(options.out, **consistency.targets(options))
        check_target(options.export or options.out, "--export" if options.export else "--out")
        if options.from_diffusers:
            consistency.check_without_run(options)
            interop.find_unet(options.from_diffusers, options.weights)
            interop.find_scheduler(options.from_diffusers)
            return
    if options.pretrained:
        consistency.check_without_run(options)
        return
    path = Path(options.source)
    if path.is_dir():
        run = Run.open(path)
        run.check_finished()
        consistency.check_drawing(options, run)
        stored_names.check_drawn(options, run)
    elif not path.exists():
        made = f"{invocation.program('train')} makes a run, such as runs/digits"
        raise UsageError(f"there is no {path}; {made}.")
    elif path.suffix != ".keras":
        raise UsageError(f"{path} is no model; give a run directory or a .keras file.")
    else:
        consistency.check_without_run(options)


def is_run(options):
    """Whether the source is a run directory."""
    return bool(options.source) and Path(options.source).is_dir()


def weight_sets(options, model):
    """What to draw with and what to guide by (or None): names, or weight sets of a run."""
    from ddpm_keras.app import stored

    if is_run(options):
        found = stored.StoredWeights(Run.open(options.source), model)
        weights, guide = found.find(options.weight_set), found.guide(options)
        if guide is not None and stored.called(guide) == stored.called(weights):
            raise UsageError(f"--guide {options.guide} is what is to be guided; name another one.")
        return weights, guide
    return model.resolve(options.weights), options.guide or None


def export(options, model, weights, guide):
    """Writes the network alone, or with the sampler as a graph from seeds to images."""
    from ddpm_keras.app import modes, stored

    chosen, drawing = exported.format_of(options), {}
    if chosen.draws:
        drawing = guidance(options, guide)
        drawing["sampler"] = modes.sampler(options, model.schedule)
    chosen.write(model, options.export, weights, **drawing)
    print(f"{chosen.what} with {stored.called(weights)}: {options.export}")
    return 0


def guidance(options, guide):
    """What the options say of guidance, by the arguments of `DDPM.sample`."""
    return {
        "guidance_scale": options.guidance,
        "guide": guide,
        "guidance_rescale": options.guidance_rescale or None,
        "guidance_interval": options.guidance_interval or None,
    }


def load(options):
    """The model to draw from; a bare UNet becomes one with raw weights only."""
    from ddpm_keras import DDPM, pretrained
    from ddpm_keras.app import models

    if options.pretrained:
        return pretrained.load(options.pretrained)
    if options.from_diffusers:
        return load_diffusers(options.from_diffusers, options.weights)
    path = Path(options.source)
    if is_run(options):
        return models.load_model(Run.open(path))
    model = models.read_model(path, "give another, or make it again")
    return model if isinstance(model, DDPM) else bare(path, model)


def bare(path, network):
    """A model of a network alone, with the noise schedule that it was trained on.

    Where neither its file nor a run beside it says that, it is that of the defaults, with a
    warning.
    """
    from ddpm_keras import DDPM, trained_for

    try:
        said = trained_for.of_network(path) or of_run_beside(path)
        schedule, prediction = said or of_options(TrainOptions())
        model = DDPM(network, schedule=schedule, prediction=prediction, ema=None)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{path} holds no network of a DDPM: {error}") from None
    if said is None:
        warnings.warn(
            f"{path} does not say what it was trained for, and no run is beside it: the defaults "
            "of a training are assumed, and images are wrong if they are not those.",
            stacklevel=2,
        )
    print(
        f"{path} is a network alone; noise schedule: {schedule.name}, {schedule.timesteps} "
        f"timesteps, {prediction}"
    )
    return model


def of_run_beside(path):
    """Noise schedule and prediction of the run in whose folder a file is, or None."""
    run = Run(path.parent)
    return of_options(run.options) if run.config_file.is_file() else None


def of_options(options):
    """Noise schedule and prediction that options of a training name."""
    from ddpm_keras.app import named

    return named.schedule(options), options.prediction


def load_diffusers(path, weights):
    """The model in a diffusers folder, and a line that says what was taken from where."""
    from ddpm_keras import DDPM

    network = interop.load_diffusers(path, weights=weights)
    schedule, prediction = interop.load_diffusers_schedule(path)
    of_schedule = interop.find_scheduler(path) or "none given, so as published"
    print(
        f"weights: {interop.find_unet(path, weights)}; noise schedule: {of_schedule} "
        f"({schedule.name}, {schedule.timesteps} timesteps, {prediction})"
    )
    return DDPM(network, schedule=schedule, prediction=prediction, ema=None)


if __name__ == "__main__":
    sys.exit(console.run(main))
