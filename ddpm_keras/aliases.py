"""Names for what annotations say often."""

import os
from collections.abc import Callable
from typing import Any

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], Any]  # called as progress(done, total)
Tensor = Any  # of TensorFlow, or an array
Predictor = Callable[[Tensor, Tensor], Tensor]  # predict(x, t) gives epsilon
