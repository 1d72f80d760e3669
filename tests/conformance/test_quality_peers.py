"""Metrics and Inception features equal those of pytorch-fid, torch-fidelity and clean-fid."""

import warnings

import numpy as np
import pytest
from inception_weights import random_state
from PIL import Image

from ddpm_keras.quality import (
    FeatureStatistics,
    FIDInceptionFeatures,
    ImageFolder,
    evaluate_features,
    extract_features,
    frechet_distance,
    kernel_distance,
    precision_recall,
)

REASON = "is not installed (make peers)"


def quietly_import(name):
    """A peer's module; what it warns of at import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name.split('.')[0]} {REASON}")


@pytest.fixture(scope="module")
def fid_score(torch):
    return quietly_import("pytorch_fid.fid_score")


@pytest.fixture(scope="module")
def fidelity(torch):
    return quietly_import("torch_fidelity")


def rectified(rows, dim, seed, shift=0.0):
    """float64 features, the same in float32, that look like those of rectified units."""
    noise = np.random.RandomState(seed).randn(rows, dim)
    return np.maximum(noise * 0.5 + 0.4 + shift, 0).astype(np.float32).astype(np.float64)


SIZES = [(64, 2000, 1e-8), (2048, 500, 1e-6)]


@pytest.mark.parametrize("dim, rows, tolerance", SIZES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frechet_distance_equals_pytorch_fid(fid_score, dim, rows, tolerance):
    real, generated = rectified(rows, dim, 0), rectified(rows, dim, 1, 0.02)
    statistics = [m for x in (generated, real) for m in (x.mean(axis=0), np.cov(x.T))]
    theirs = fid_score.calculate_frechet_distance(*statistics)
    assert frechet_distance(real, generated) == pytest.approx(theirs, rel=tolerance)


@pytest.mark.parametrize("dim, rows, tolerance", SIZES)
def test_frechet_distance_equals_torch_fidelity(torch, fidelity, dim, rows, tolerance):
    metric_fid = quietly_import("torch_fidelity.metric_fid")
    real, generated = rectified(rows, dim, 0), rectified(rows, dim, 1, 0.02)
    statistics = [
        metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (generated, real)
    ]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    theirs = theirs["frechet_inception_distance"]
    assert frechet_distance(real, generated) == pytest.approx(theirs, rel=tolerance)


def test_kernel_distance_equals_torch_fidelity(torch, fidelity):
    metric_kid = quietly_import("torch_fidelity.metric_kid")
    real, generated = rectified(700, 256, 0), rectified(500, 256, 1, 0.05)
    theirs = metric_kid.kid_features_to_metric(
        *(torch.from_numpy(x) for x in (generated, real)),
        kid_subsets=20,
        kid_subset_size=300,
        rng_seed=2020,
        verbose=False,
    )
    mean, std = kernel_distance(real, generated, num_subsets=20, subset_size=300, seed=2020)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9, abs=1e-12)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-9, abs=1e-12)


def test_kernel_distance_equals_clean_fid(torch):
    cleanfid = quietly_import("cleanfid.fid")
    real, generated = rectified(700, 256, 0), rectified(500, 256, 1, 0.05)
    np.random.seed(5)
    theirs = cleanfid.kernel_distance(real, generated, num_subsets=20, max_subset_size=300)
    mean, _ = kernel_distance(real, generated, num_subsets=20, subset_size=300, seed=5)
    assert mean == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_equal_torch_fidelity(torch, fidelity, k):
    metric_prc = quietly_import("torch_fidelity.metric_prc")
    real, generated = rectified(900, 16, 0), rectified(700, 16, 1, 0.15)
    theirs = metric_prc.prc_features_to_metric(
        *(torch.from_numpy(x) for x in (generated, real)), prc_neighborhood=k, verbose=False
    )
    precision, recall = precision_recall(real, generated, k=k)
    # Theirs are float32 shares: the counts are equal.
    assert 0 < precision < 1 and 0 < recall < 1
    assert (round(precision * 700), round(recall * 900)) == (
        round(theirs["precision"] * 700),
        round(theirs["recall"] * 900),
    )


def test_statistics_files_are_read_by_pytorch_fid(fid_score, tmp_path):
    features = rectified(50, 16, 0)
    FeatureStatistics.of(features).save(tmp_path / "reference.npz")
    mean, covariance = fid_score.compute_statistics_of_path(
        str(tmp_path / "reference.npz"), model=None, batch_size=1, dims=16, device="cpu"
    )
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.T), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def weights(torch, tmp_path_factory):
    """A file of random weights as torch-fidelity saves and reads it."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in random_state().items()}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def extractor(weights):
    return FIDInceptionFeatures(weights)


@pytest.mark.parametrize("size", [(32, 32), (299, 299), (400, 250)])
def test_features_equal_torch_fidelity(torch, fidelity, weights, extractor, size):
    module = quietly_import("torch_fidelity.feature_extractor_inceptionv3")
    network = module.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(weights)
    )
    images = np.random.RandomState(0).randint(0, 256, (2, *size, 3)).astype(np.uint8)
    theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))[0].numpy()
    ours = extractor(images)
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.std()


@pytest.mark.filterwarnings("ignore")  # of torch's data loader and its threads
def test_distance_of_two_folders_equals_torch_fidelity(fidelity, weights, extractor, tmp_path):
    random = np.random.RandomState(0)
    for folder, low in (("real", 0), ("generated", 60)):
        (tmp_path / folder).mkdir()
        for index in range(12):
            pixels = random.randint(low, 256, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((96, 80)).save(tmp_path / folder / f"{index}.png")
    theirs = fidelity.calculate_metrics(
        input1=str(tmp_path / "generated"),
        input2=str(tmp_path / "real"),
        fid=True,
        cuda=False,
        cache=False,
        batch_size=12,
        verbose=False,
        feature_extractor_weights_path=str(weights),
    )["frechet_inception_distance"]
    real, generated = (
        extract_features(extractor, ImageFolder(tmp_path / folder))
        for folder in ("real", "generated")
    )
    ours = evaluate_features(real, generated)["frechet"]
    assert ours == pytest.approx(theirs, rel=1e-4)
