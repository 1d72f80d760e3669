"""Quality of generated images: Fréchet and kernel distance, precision and recall.

The arithmetic works on feature matrices and needs NumPy only; the extractors, which make the
features, load TensorFlow when they are first used.
"""

from typing import TYPE_CHECKING

from .. import lazy
from .bootstrap import paired_difference
from .extractors import get_extractor
from .extractors.base import FeatureExtractor
from .features import extract_features, reference_path
from .folder import ImageFolder
from .frechet import frechet_distance, frechet_distance_infinity, frechet_floor
from .kernel import kernel_distance
from .memorisation import copying, nearest
from .metric import FeatureSets, Metric, Number
from .metrics import evaluate_features, evaluate_images
from .neighbours import precision_recall
from .record import Difference, Evaluation, Evaluations, Extractor, Measurement, Reference
from .statistics import FeatureStatistics
from .tuning import Trial, Tuning
from .two_sample import two_sample_accuracy
from .verdict import Verdict

if TYPE_CHECKING:  # read by editors; the classes are imported when they are first used
    from .extractors.classifier import ClassifierFeatures
    from .extractors.fid_inception import FIDInceptionFeatures
    from .extractors.inception import InceptionFeatures
    from .extractors.pixels import PixelFeatures
    from .extractors.random_network import RandomFeatures

_EXTRACTORS = {
    "ClassifierFeatures": ".extractors.classifier",
    "FIDInceptionFeatures": ".extractors.fid_inception",
    "InceptionFeatures": ".extractors.inception",
    "PixelFeatures": ".extractors.pixels",
    "RandomFeatures": ".extractors.random_network",
}

__all__ = [
    "ClassifierFeatures",
    "Difference",
    "Evaluation",
    "Evaluations",
    "Extractor",
    "FIDInceptionFeatures",
    "FeatureExtractor",
    "FeatureSets",
    "FeatureStatistics",
    "ImageFolder",
    "InceptionFeatures",
    "Measurement",
    "Metric",
    "Number",
    "PixelFeatures",
    "RandomFeatures",
    "Reference",
    "Trial",
    "Tuning",
    "Verdict",
    "copying",
    "evaluate_features",
    "evaluate_images",
    "extract_features",
    "frechet_distance",
    "frechet_distance_infinity",
    "frechet_floor",
    "get_extractor",
    "kernel_distance",
    "nearest",
    "paired_difference",
    "precision_recall",
    "reference_path",
    "two_sample_accuracy",
]


__getattr__ = lazy.attributes(__name__, _EXTRACTORS)
