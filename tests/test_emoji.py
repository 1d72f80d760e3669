"""The set of small colour images that studies/emoji.py makes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_keras import data

sys.path.append(str(Path(__file__).parents[1] / "studies"))

import emoji  # noqa: E402

needs_font = pytest.mark.skipif(
    not emoji.FONT.is_file(), reason="needs Debian's fonts-noto-color-emoji"
)


@needs_font
def test_the_pictures_are_a_data_set_on_white(tmp_path, capsys):
    folder = tmp_path / "emoji"
    emoji.main([str(folder), "--size", "16"])
    images = data.load(str(folder))
    assert images.train.shape[1:] == (16, 16, 3)
    count = len(images.train) + len(images.held_out)
    assert count > 1400 and f"{count} pictures" in capsys.readouterr().out
    assert (images.train[:, ::15, ::15].mean((1, 2, 3)) > 250).mean() > 0.99
    assert 190 < images.train.mean() < 220 and images.train.std((0, 1, 2)).min() > 50
    assert "SIL Open Font License" in (folder / "LICENCE.txt").read_text()
    face = np.asarray(Image.open(folder / "1f600.png"), int)  # a grinning face is yellow
    assert face[8, 8, 0] > 200 and face[8, 8, 2] < 150
    for code, picture in emoji.draw(emoji.FONT, 16).items():
        np.testing.assert_array_equal(picture, Image.open(folder / f"{code:x}.png"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "--font", "nowhere.ttf"], "nowhere.ttf is not there: apt-get install"),
        ([".", "--font", __file__], ". is there already; name a new folder"),
        (["new", "--size", "0", "--font", __file__], "--size is 0; use 1 to 136"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        emoji.main(arguments)
    assert stop.value.code == 2 and words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
