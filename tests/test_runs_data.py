"""A run knows its images again: elsewhere they are found, and others are never taken for them."""

import json
import shutil

import keras
import numpy as np
import pytest
from refusals import assert_refused_in_one_line, call_command

from ddpm_keras import images, report
from ddpm_keras.app import dataset
from ddpm_keras.app.run_directory import Run

SMALL = "--channel-multipliers 1 --attention-resolutions --batch-size 8".split()
SMALL += "--num-images 8 --sampling-steps 2 --epoch-steps 2 --snapshots 0 --ema 0.5".split()
SMALL += "--steps 2 --validation-images 4 --quality-every-epochs 0 --no-evaluate".split()


@pytest.fixture
def call(monkeypatch, capfd):
    """`call(script, *arguments, folder=...)` runs a command and gives its `Outcome`."""

    def call(script, *arguments, folder):
        return call_command(script, *arguments, folder=folder, monkeypatch=monkeypatch, capfd=capfd)

    return call


@pytest.fixture(scope="module")
def project(digits, tmp_path_factory):
    """A folder with a trained run of `photos`, and what its training printed."""
    root = tmp_path_factory.mktemp("project")
    for name, rows in (("one", slice(0, 20)), ("two", slice(20, 40))):
        images.write(digits.train[rows], root / "photos" / name)
    (root / "photos" / "two" / "notes.txt").write_text("left out")
    with pytest.MonkeyPatch.context() as monkeypatch:
        outcome = _train(root, monkeypatch)
    return root, outcome


def _train(root, monkeypatch):
    import contextlib
    import io
    import sys

    import train

    monkeypatch.chdir(root)
    monkeypatch.setenv("DDPM_KERAS_CACHE", str(root / ".cache"))
    arguments = ["train.py", "--dataset", "photos", *SMALL, "--run-dir", "runs/photos"]
    monkeypatch.setattr(sys, "argv", arguments)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert train.console.run(train.main) == 0
    return out.getvalue()


@pytest.fixture
def copy(project, tmp_path):
    """A copy of the project, which a test may change; the images are still where they were."""
    return shutil.copytree(project[0] / "runs", tmp_path / "runs") / "photos"


def test_training_says_what_the_images_are(project):
    root, said = project
    assert f"{root}/photos: " in said and "40 images" not in said
    assert "2 classes: one " in said and "Note: Left out what is no image: 1 .txt." in said
    known = json.loads((root / "runs" / "photos" / "config.json").read_text())["data"]
    assert known["path"] == str(root / "photos") and known["name"] == "photos"


def test_images_are_found_from_a_folder_with_others_of_their_name(digits, copy, call, tmp_path):
    """The working directory has other images by the name that the run was given."""
    images.write(digits.train[100:140], tmp_path / "photos")
    outcome = call("evaluate.py", copy, "--weights", "raw", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    evaluated = json.loads((copy / "evaluation.json").read_text())
    known = json.loads((copy / "config.json").read_text())["data"]
    assert evaluated["reference"]["fingerprint"] == known["fingerprint"]


def moved(copy, where):
    """Lets the run believe that its images were at another place."""
    config = json.loads((copy / "config.json").read_text())
    config["data"]["path"] = str(where)
    del config["checksum"]  # of what it was
    (copy / "config.json").write_text(json.dumps(config))


def test_a_project_that_was_moved_whole_is_evaluated(project, copy, call, tmp_path):
    shutil.copytree(project[0] / "photos", tmp_path / "photos")
    moved(copy, "/nowhere/photos")
    assert call("evaluate.py", copy, "--weights", "raw", folder=tmp_path).status == 0


def change_a_pixel(folder):
    from PIL import Image

    path = next((folder / "one").glob("*.png"))
    array = np.array(Image.open(path))
    array[0, 0] ^= 1
    Image.fromarray(array).save(path)


def add_an_image(folder):
    shutil.copy(next((folder / "one").glob("*.png")), folder / "two" / "new.png")


def remove_an_image(folder):
    next((folder / "one").glob("*.png")).unlink()


def rename_a_class(folder):
    (folder / "one").rename(folder / "zero")


@pytest.mark.parametrize("change", [change_a_pixel, add_an_image, remove_an_image, rename_a_class])
@pytest.mark.parametrize("script", ["evaluate.py", "train.py"])
def test_changed_images_are_refused(project, copy, call, tmp_path, change, script):
    shutil.copytree(project[0] / "photos", tmp_path / "other" / "photos")
    moved(copy, tmp_path / "other" / "photos")
    change(tmp_path / "other" / "photos")
    before = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    arguments = [copy] if script == "evaluate.py" else ["--resume", "--run-dir", copy, "--steps", 4]
    outcome = call(script, *arguments, folder=tmp_path)
    assert_refused_in_one_line(outcome, script, ["have changed since"], tmp_path, before)


@pytest.mark.parametrize("script", ["evaluate.py", "train.py"])
def test_images_that_are_gone_are_refused(copy, call, tmp_path, script):
    moved(copy, "/nowhere/photos")
    before = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    arguments = [copy] if script == "evaluate.py" else ["--resume", "--run-dir", copy, "--steps", 4]
    outcome = call(script, *arguments, folder=tmp_path)
    words = ["no longer at /nowhere/photos", "link"]
    assert_refused_in_one_line(outcome, script, words, tmp_path, before)


def test_training_goes_on_in_another_folder(copy, call, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    outcome = call("train.py", "--resume", "--run-dir", copy, "--steps", 4, folder=elsewhere)
    assert outcome.status == 0 and "Continuing at step 2" in outcome.out, outcome.err


def test_a_run_of_images_in_a_folder_that_is_no_text(digits, call, tmp_path):
    name = "fot\udcffs"  # a byte that is no UTF-8
    images.write(digits.train[:20], tmp_path / name)
    outcome = call("train.py", "--dataset", name, *SMALL, "--run-dir", "run", folder=tmp_path)
    assert outcome.status == 0 and r"fot\udcffs: " in outcome.out, outcome.err
    assert r"--dataset 'fot\udcffs'" in (tmp_path / "run" / "README.md").read_text()
    events = (tmp_path / "run" / "tensorboard").glob("events.*")
    assert rb"fot\udcffs" in next(iter(events)).read_bytes()
    run = shutil.move(tmp_path / "run", tmp_path / "r\udcffn")
    report.write(Run.open(run))
    assert r"fot\udcffs" in (run / "report.html").read_text()


def test_a_run_of_images_needs_none_to_draw_others(copy, call, tmp_path):
    """What is drawn rests on the weights alone, so that the images may be gone."""
    moved(copy, "/nowhere/photos")
    outcome = call("sample.py", copy, "--num", 2, "--steps", 2, "--out", "a.npz", folder=tmp_path)
    assert outcome.status == 0 and np.load(tmp_path / "a.npz")["images"].shape == (2, 8, 8, 1)


WRONG = {
    "bad file": ({"x.png": b"text"}, [], ["x.png", "--unreadable skip"]),
    "sizes": ({}, ["other-size"], ["--image-size"]),
    "untrained class": ({}, ["untrained"], ["emu", "--conditional"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_images_are_refused_by_the_names_of_options(digits, call, tmp_path, case):
    files, extras, words = WRONG[case]
    images.write(digits.train[:8], tmp_path / "set" / "train" / "cat")
    images.write(digits.train[8:16], tmp_path / "set" / "train" / "dog")
    images.write(digits.train[16:24], tmp_path / "set" / "test" / "cat")
    if "other-size" in extras:
        images.write(np.zeros((1, 9, 9, 1), np.uint8), tmp_path / "set" / "test" / "dog")
    if "untrained" in extras:
        images.write(digits.train[24:26], tmp_path / "set" / "test" / "emu")
    for name, content in files.items():
        (tmp_path / "set" / "train" / "cat" / name).write_bytes(content)
    before = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    outcome = call("train.py", "--dataset", "set", *SMALL, "--conditional", folder=tmp_path)
    assert_refused_in_one_line(outcome, "train.py", words, tmp_path, before)


def test_a_run_is_the_same_with_prepared_images_and_in_memory(project, call, tmp_path, monkeypatch):
    """And it finds the folder of prepared images again, wherever it is gone on with."""
    settings = ["--dataset", project[0] / "photos", *SMALL, "--conditional", "--flip"]
    outcome = call("train.py", *settings, "--run-dir", "a", "--data-cache", "kept", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert list((tmp_path / "kept").glob("photos-*.npz"))
    monkeypatch.setattr("ddpm_keras.app.dataset._usual_cache", lambda options: None)
    assert call("train.py", *settings, "--run-dir", "b", folder=tmp_path).status == 0
    one, other = (
        keras.saving.load_model(tmp_path / name / "model.keras").get_weights() for name in "ab"
    )
    for weight, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(weight, expected)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = ["--resume", "--run-dir", tmp_path / "a", "--steps", 3]
    assert call("train.py", *again, folder=elsewhere).status == 0
    assert {path.name for path in elsewhere.iterdir()} <= {".cache"}


def test_classes_that_are_not_equally_many_are_said_where_they_are_drawn(digits, call, tmp_path):
    arrays = {"images": digits.train[:40], "labels": np.arange(40) // 30}
    np.savez(tmp_path / "most.npz", **arrays)
    given = ["--dataset", "most.npz", *SMALL, "--conditional", "--run-dir", "run"]
    assert call("train.py", *given, folder=tmp_path).status == 0
    outcome = call("evaluate.py", "run", "--extractor", "random", folder=tmp_path)
    assert outcome.status == 0 and "for that 25% of them would be of another class" in outcome.out
    assert dataset.of_uneven_classes(digits) == []


@pytest.mark.parametrize(
    ("trained", "held_out", "options", "words"),
    [(9, 1, SMALL, ["1 held out", "add images."]), (3, 9, [], ["--quality-every-epochs 0"])],
)
def test_a_cure_is_one_of_the_command(call, digits, tmp_path, trained, held_out, options, words):
    arrays = {"x_train": digits.train[:trained], "x_test": digits.held_out[:held_out]}
    np.savez(tmp_path / "few.npz", **arrays)
    outcome = call("train.py", "--dataset", "few.npz", *options, folder=tmp_path)
    assert_refused_in_one_line(outcome, "train.py", words, tmp_path, {"few.npz"})
