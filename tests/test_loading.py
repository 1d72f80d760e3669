"""How the commands load TensorFlow: with no more than they use."""

import subprocess
import sys

LOADED = """
import os, sys
os.environ["DDPM_KERAS_LAZY"] = "1"
from ddpm_keras.app import console
console.load_tensorflow()
from ddpm_keras import data
data.load("digits")
import gc
print(sorted({"keras", "matplotlib", "pandas", "sklearn", "tensorflow"} & set(sys.modules)))
from sklearn.datasets import load_digits
import matplotlib.figure
print(len(load_digits().images), gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_packages_that_no_command_uses_are_left_out_and_can_be_had_later():
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert loaded.stdout == "['keras', 'tensorflow']\n1797 True True\n", loaded.stderr
