"""What commands print."""

import warnings

from ddpm_keras.app import output


def warn(text):
    with warnings.catch_warnings():  # as libraries do, which forgets what was shown
        warnings.simplefilter("always")
        warnings.warn(text, stacklevel=1)


def test_a_warning_is_one_line_and_given_once_a_command(capfd):
    for _ in range(2):
        with output.guarded():
            for text in ("a file\nis damaged", "another is", "a file\nis damaged"):
                warn(text)
        assert capfd.readouterr().err == "Warning: a file is damaged\nWarning: another is\n"
