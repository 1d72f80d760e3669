"""`python -m ddpm_keras train ...` is `ddpm-keras train ...`."""

import sys

from .app.main import main

sys.exit(main("python -m ddpm_keras"))
