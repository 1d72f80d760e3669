"""Names for what annotations say often."""

import os
from collections.abc import Callable
from typing import Any

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], Any]  # called as progress(done, total)
Predictor = Callable[[Any, Any], Any]  # predict(x, t) gives epsilon
