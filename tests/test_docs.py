"""Every block of code in the README and in docs/ runs, and every link in them leads somewhere.

The Python blocks of a page run in order, as one program, in an empty folder. What a page takes for
granted, such as the reader's images, is in GIVEN; what is made smaller so that it takes seconds is
in SMALLER. Each line of the bash blocks is parsed by the command that it calls.
"""

import functools
import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import registers

import ddpm_keras
from ddpm_keras.app import options
from ddpm_keras.app.main import JOBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

COLOUR = """
images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), "uint8")
"""
TABLE = """
import keras
x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
y = x[:, :1] > 0
x_test, y_test = x, y
classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
"""
TRAINED = """
import keras
from ddpm_keras import DDPM, UNet, callbacks, data
model = DDPM(UNet((8, 8, 1)), ema=0.9)
model.compile("adam")
images = data.load("digits").train[:16]
"""
OTHERS = """
faces, people = np.random.default_rng(0).random((8, 8, 8)), np.arange(8)
from ddpm_keras import UNet, interop
interop.save_diffusers(UNet((8, 8, 1)), "ddpm-cifar10-32")
"""
PHOTOS = """
import pathlib, PIL.Image
pathlib.Path("photos").mkdir()
for i in range(16):
    pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), "uint8")
    PIL.Image.fromarray(pixels).save(f"photos/{i}.png")
"""
GIVEN = {
    "README.md": COLOUR + TABLE,
    "docs/data.md": OTHERS + PHOTOS,
    "docs/diffusers.md": OTHERS,
    "docs/ema.md": COLOUR + TABLE,
    "docs/how-to/own-images.md": PHOTOS,
    "docs/metrics.md": TRAINED,
}
SMALLER = {
    "README.md": {
        "(32, 32, 3)": "(8, 8, 3)",
        "epochs=10": "epochs=1",
        '"samples")': '"samples", num_images=4)',
        "steps=50": "steps=5",
    },
    "docs/ema.md": {
        "(32, 32, 3)": "(8, 8, 3)",
        "every_steps=1000": "every_steps=10",
        "epochs=100": "epochs=30",
    },
    "docs/metrics.md": {"sample(1000,": "sample(70,", "every_epochs=5": "every_epochs=50"},
}


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The fenced blocks of a page in one language, as (number of their first line, text)."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: block.start(1)].count("\n") + 1, block[1]


def small_unet(image_shape, *args, **kwargs):
    """A UNet that takes what `UNet` takes, and is traced in a second."""
    given = inspect.signature(ddpm_keras.networks.UNet).bind(image_shape, *args, **kwargs).arguments
    kept = {key: given[key] for key in ("num_classes",) if key in given}
    return ddpm_keras.networks.UNet(
        image_shape, 8, (1,), num_res_blocks=1, attention_resolutions=(), groups=2, **kept
    )


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=name)
def test_python_blocks_run_in_order(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ddpm_keras, "UNet", small_unet)
    program = {"np": np, "__name__": "__main__"}
    with registers.kept():
        exec(GIVEN.get(name(page), ""), program)
        for line, code in blocks(page, "python"):
            for large, small in SMALLER.get(name(page), {}).items():
                code = code.replace(large, small)
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), program)


def test_what_is_made_smaller_is_on_the_page():
    for page, replacements in SMALLER.items():
        for large in replacements:
            assert large in (ROOT / page).read_text(), (page, large)


PARSE = {
    "train": options.train_options,
    "sample": options.sample_options,
    "evaluate": options.evaluate_options,
    "report": options.report_options,
}


def check_command(words):
    """Raises if the words are no command that this project or its documents know."""
    match words:
        case [variable, *command] if re.fullmatch(r"[A-Z_]+=\S+", variable):
            check_command(command)
        case ["ddpm-keras", job, *arguments] if job in JOBS:
            PARSE[job](arguments)
        case ["python", script, *arguments] if script.removesuffix(".py") in JOBS:
            PARSE[script.removesuffix(".py")](arguments)
        case ["python", script, *_]:
            assert (ROOT / script).is_file(), script
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case ["pytest", *files]:
            assert all((ROOT / file).is_file() for file in files), files
        case ["tensorboard", "--logdir", _] | ["pip", "install", _]:
            pass
        case _:
            raise AssertionError(f"not a command that this test knows: {words}")


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "bash"))], ids=name)
def test_bash_blocks_are_command_lines(page):
    for first, code in blocks(page, "bash"):
        for number, text in enumerate(code.splitlines(), first):
            if words := shlex.split(text, comments=True):
                try:
                    check_command(words)
                except Exception as error:
                    raise AssertionError(f"{name(page)}:{number}: {text}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://", target):
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_a_picture_on_two_pages_is_of_the_same_training_on_both():
    captions = [
        (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/index.md")
    ]
    first = [re.search(r"^\*(.*?):", text, re.MULTILINE) for text in captions]
    assert first[0] and first[1] and first[0][1] == first[1][1]


def anchors(page):
    """What headings of a page are called in links to them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    commands = pytest.importorskip("mkdocs.commands.build", reason="pip install ddpm-keras[docs]")
    pytest.importorskip("mkdocstrings", reason="pip install ddpm-keras[docs]")
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    try:
        commands.build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        patch.undo()
    return folder


def test_every_public_name_is_in_the_reference(site):
    import zlib

    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    modules = ("ddpm_keras", *(f"ddpm_keras.{name}" for name in MODULES))
    public = {f"{module}.{x}" for module in modules for x in resolve(module).__all__}
    public = {path for path in public if callable(resolve(path))}  # classes and functions
    assert len(public) > 50
    assert not public - documented


MODULES = ("callbacks", "data", "drawing", "ema", "interop", "quality", "samplers")


def resolve(path):
    return functools.reduce(getattr, path.split(".")[1:], ddpm_keras)


def test_the_site_needs_no_network(site):
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?(https?:[^\"' >]*)", html)
        loaded += re.findall(r"<link[^>]*stylesheet[^>]*href=[\"']?(https?:[^\"' >]*)", html)
        assert not loaded, (page, loaded)
