"""Time of the metrics beside pytorch-fid, torch-fidelity and clean-fid, and that the numbers agree.

    make peers && python benchmarks/metrics.py        # about 10 minutes on two CPU cores
    python benchmarks/metrics.py --quick              # about 2 minutes: smaller, one round

Run it on an idle machine. Everything works on the same features (D = 2048) and the same Inception
weights (random ones: the time does not depend on them). TensorFlow and PyTorch in one process
compete for threads, so each implementation has a process of its own, and rounds take turns, so that
whatever else changes with time hits all of them. Medians are compared.
"""

import argparse
import collections
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
IMPLEMENTATIONS = ("ddpm_keras", "pytorch_fid", "torch_fidelity", "clean_fid")
TASKS = {
    # task: (what is timed, unit, its least ratio to which peer, peer)
    "frechet": ("Fréchet distance from mean and covariance", "s", 4.0, "pytorch_fid"),
    "kernel": ("KID, 20 subsets of 1,000", "s", None, None),
    "precision_recall": ("precision and recall, k = 3", "s", None, None),
    "features": ("Inception features, 299x299", "images/s", 1.0, "torch_fidelity"),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--rows", type=int, default=5000, help="rows of each feature matrix (5000)")
    parser.add_argument("--images", type=int, default=128, help="images of 299x299 (128)")
    parser.add_argument("--quick", action="store_true", help="1 round, 2,500 rows, 32 images")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.rows, options.images = 1, 2500, 32
    if options.worker:
        print(json.dumps(work(options.worker, pathlib.Path(options.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(pathlib.Path(folder), options.rows, options.images)
        measured = collections.defaultdict(list)
        for number in range(options.rounds):
            for name in IMPLEMENTATIONS:
                print(f"round {number + 1} of {options.rounds}: {name} ...", file=sys.stderr)
                for task, result in run(name, folder).items():
                    measured[task, name].append(result)
    report(measured, options)


def prepare(folder, rows, images):
    """Features, images and weights that all implementations use."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from inception_weights import random_state

    for name, seed, shift in (("real", 0, 0.0), ("generated", 1, 0.02)):
        noise = np.random.RandomState(seed).randn(rows, 2048)
        np.save(folder / f"{name}.npy", np.maximum(noise * 0.5 + 0.4 + shift, 0))
    pixels = np.random.RandomState(2).randint(0, 256, (images, 299, 299, 3))
    np.save(folder / "images.npy", pixels.astype(np.uint8))
    np.savez(folder / "inception.npz", **random_state())


def run(name, folder):
    """One round of an implementation in a process of its own: task -> [value, result]."""
    command = [sys.executable, "-W", "ignore", __file__, "--worker", name, "--folder", folder]
    environment = {**os.environ, "DDPM_KERAS_LAZY": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed; is it installed (make peers)?\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(name, folder):
    """Times the tasks of one implementation; returns task -> [value, number it gives]."""
    real, generated = (np.load(folder / f"{x}.npy") for x in ("real", "generated"))
    functions = {
        "ddpm_keras": ours,
        "pytorch_fid": pytorch_fid,
        "torch_fidelity": torch_fidelity,
        "clean_fid": clean_fid,
    }[name](real, generated, folder)
    results = {}
    for task, function in functions.items():
        if task == "features":
            images = np.load(folder / "images.npy")
            function(images[:32])  # traces, warms up
            value, result = timed(lambda f=function, x=images: float(np.mean(f(x))))
            results[task] = [len(images) / value, result]
        else:
            results[task] = list(timed(function))
    return results


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, float(result)


def ours(real, generated, folder):
    from ddpm_keras import quality

    summaries = [quality.FeatureStatistics.of(x) for x in (real, generated)]
    for summary in summaries:
        summary.mean, summary.covariance  # noqa: B018 - as the peers, from finished covariances
    extractor = quality.FIDInceptionFeatures(folder / "inception.npz")
    return {
        "frechet": lambda: quality.frechet_distance(*summaries),
        "kernel": lambda: quality.kernel_distance(real, generated, 20, 1000, seed=2020)[0],
        "precision_recall": lambda: sum(quality.precision_recall(real, generated)),
        "features": extractor,
    }


def pytorch_fid(real, generated, folder):
    load_torch()
    from pytorch_fid.fid_score import calculate_frechet_distance

    moments = [m for x in (generated, real) for m in (x.mean(axis=0), np.cov(x.T))]
    return {"frechet": lambda: calculate_frechet_distance(*moments)}


def clean_fid(real, generated, folder):
    load_torch()
    from cleanfid import fid

    moments = [m for x in (generated, real) for m in (x.mean(axis=0), np.cov(x.T))]

    def kernel():
        np.random.seed(2020)
        return fid.kernel_distance(real, generated, num_subsets=20, max_subset_size=1000)

    return {"frechet": lambda: fid.frechet_distance(*moments), "kernel": kernel}


def torch_fidelity(real, generated, folder):
    torch = load_torch()
    from torch_fidelity import metric_fid, metric_kid, metric_prc
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    x, y = torch.from_numpy(generated), torch.from_numpy(real)
    moments = [metric_fid.fid_features_to_statistics(rows) for rows in (x, y)]
    with np.load(folder / "inception.npz") as file:
        state = {name: torch.from_numpy(array) for name, array in file.items()}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    torch.save(state, folder / "inception.pth")
    network = FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(folder / "inception.pth")
    )

    def frechet():
        return metric_fid.fid_statistics_to_metric(*moments, verbose=False)[
            "frechet_inception_distance"
        ]

    def kernel():
        return metric_kid.kid_features_to_metric(
            x, y, kid_subsets=20, kid_subset_size=1000, rng_seed=2020, verbose=False
        )["kernel_inception_distance_mean"]

    def precision_recall():
        result = metric_prc.prc_features_to_metric(x, y, verbose=False)
        return result["precision"] + result["recall"]

    def features(images):
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        with torch.no_grad():
            return torch.cat([network(part)[0] for part in pixels.split(32)]).numpy()

    return {
        "frechet": frechet,
        "kernel": kernel,
        "precision_recall": precision_recall,
        "features": features,
    }


@functools.cache  # the library is registered once
def load_torch():
    """PyTorch, with the operators defined that torchvision looks for when it is imported."""
    import torch

    load_torch.library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        try:
            load_torch.library.define(
                f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        except RuntimeError:  # a matching torchvision has defined them already
            pass
    return torch


def report(measured, options):
    """Prints a table: medians, how many times faster this project is, and the numbers given."""
    print(
        f"Medians of {options.rounds} rounds; {options.rows:,} rows of 2048 features, "
        f"{options.images} images.\n"
    )
    print(f"{'':<44}{'median':>16}{'this project':>18}  gives")
    reached = True
    for task, (title, unit, target, peer) in TASKS.items():
        print(f"{title}")
        mine = statistics.median(value for value, _ in measured[task, "ddpm_keras"])
        for name in IMPLEMENTATIONS:
            if (task, name) not in measured:
                continue
            median = statistics.median(value for value, _ in measured[task, name])
            ratio = mine / median if unit == "images/s" else median / mine
            text = "" if name == "ddpm_keras" else f"{ratio:.2f} x as fast"
            result = measured[task, name][0][1]
            print(f"    {name:<40}{median:>9.3g} {unit:<8}{text:>16}  {result:.10g}")
            if name == peer:
                reached &= ratio >= target
    wanted = "Fréchet distance 4 times as fast as pytorch-fid, features as fast as torch-fidelity"
    print(f"\n{wanted}: {'reached' if reached else 'NOT reached'}.")


if __name__ == "__main__":
    main()
