"""Makes a set of small colour images: the emoji of Debian's fonts-noto-color-emoji, on white.

    apt-get install fonts-noto-color-emoji
    python studies/emoji.py emoji                  # emoji/1f600.png and so on, 32x32, on white
    python train.py --dataset ./emoji

The same font gives the same pictures. It is under the SIL Open Font License 1.1, as a note in the
folder says.
"""

import argparse
import sys
from pathlib import Path

from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
STRIKE = 109  # the one size of the font's pictures
CANVAS = 136  # pixels: the width of a picture at that size
NOTE = """Glyphs of the font Noto Color Emoji (https://github.com/googlefonts/noto-emoji), drawn on
white at {size}x{size} pixels. A file is named by the code point of its character.

The font is under the SIL Open Font License, version 1.1: https://openfontlicense.org
"""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write, a new folder")
    parser.add_argument("--size", type=int, default=32, help="side in pixels (default: 32)")
    parser.add_argument("--font", type=Path, default=FONT, help=f"the font (default: {FONT})")
    options = parser.parse_args(argv)
    if not options.font.is_file():
        parser.error(f"{options.font} is not there: apt-get install fonts-noto-color-emoji")
    if options.folder.exists():
        parser.error(f"{options.folder} is there already; name a new folder")
    if not 1 <= options.size <= CANVAS:
        parser.error(f"--size is {options.size}; use 1 to {CANVAS}")
    print(f"{write(options.folder, options.size, options.font)} pictures in {options.folder}/")


def write(folder, size=32, font=FONT):
    """Writes every picture of the font, and the note; returns how many pictures there are."""
    folder.mkdir(parents=True)
    (folder / "LICENCE.txt").write_text(NOTE.format(size=size), encoding="utf-8")
    pictures = draw(font, size)
    for code, picture in pictures.items():
        picture.save(folder / f"{code:x}.png")
    return len(pictures)


def draw(font, size):
    """dict code point -> RGB picture, of the characters of a font that are seen on white."""
    face = ImageFont.truetype(str(font), STRIKE, layout_engine=ImageFont.Layout.BASIC)
    pictures = {
        code: picture(face, code, size) for code in sorted(FT2Font(str(font)).get_charmap())
    }
    return {code: each for code, each in pictures.items() if each.getextrema() != ((255, 255),) * 3}


def picture(face, code, size):
    """One character in the middle of a white square."""
    canvas = Image.new("RGB", (CANVAS, CANVAS), "white")
    left, top, right, bottom = face.getbbox(chr(code))
    corner = ((CANVAS - left - right) // 2, (CANVAS - top - bottom) // 2)
    ImageDraw.Draw(canvas).text(corner, chr(code), font=face, embedded_color=True)
    return canvas.resize((size, size), Image.Resampling.BOX)


if __name__ == "__main__":
    sys.exit(main())
