"""Wrong command lines and damaged files: exit status 2, one line with the cure, nothing written."""

import os

import numpy as np
import pytest
from refusals import assert_refused, assert_refused_in_one_line, call_command

from ddpm_keras.app import cache
from ddpm_keras.errors import UsageError
from ddpm_keras.reading import bounds

LONG = "x" * 300

# Command lines that are wrong by themselves: (script, arguments, words of the line).
WRONG = [
    # Options that do not exist, or not so.
    ("train.py", "--emma 0.9", "--emma|did you mean --ema?"),
    ("train.py", "--step=1", "--step=1|did you mean --steps?"),
    ("train.py", "stray", "stray|--help"),
    ("train.py", "-- stray", "stray|--help"),
    ("train.py", "-- --steps 5", "--steps comes after --|write it before"),
    ("train.py", "--flip -- --seed=5", "--seed=5 comes after --|write it before"),
    ("train.py", "-x", "-x|--help"),
    ("train.py", "--no-ema", "--no-ema"),
    ("train.py", "--flip=true", "--flip or --no-flip takes no value"),
    ("sample.py", "one two", "two|--help"),
    ("sample.py", "one -- two", "two|--help"),
    ("train.py", "--ema=--", "--ema cannot be --"),
    ("train.py", "--steps=--", "--steps cannot be --"),
    ("sample.py", "run --out=--", "--out cannot be --|./--"),
    ("evaluate.py", "run --decay=-- --step 3", "--decay cannot be --"),
    # Options that are given twice.
    ("train.py", "--seed 1 --seed 2", "--seed|twice"),
    ("train.py", "--seed 1 --seed=1", "--seed|twice"),
    ("train.py", "--flip --no-flip", "--flip|twice"),
    ("train.py", "--resume --resume", "--resume|twice"),
    ("train.py", "--ema 0.9 --ema 0.99", "--ema|twice"),
    ("sample.py", "run --out a.png --out b.png", "--out|twice"),
    ("evaluate.py", "run --weights raw --weights ema", "--weights|twice"),
    # Values that are no numbers, or outside of the range.
    ("train.py", "--steps 0", "--steps|at least 1"),
    ("train.py", "--steps -5", "--steps|at least 1|-5"),
    ("train.py", "--steps 1.5", "--steps|a whole number|1.5"),
    ("train.py", "--steps 1e3", "--steps|a whole number|1e3"),
    ("train.py", "--steps 99999999999", "--steps|below 2147483648"),
    ("train.py", "--steps " + "9" * 5000, "--steps|a whole number|..."),
    ("train.py", "--batch-size 0", "--batch-size|at least 1"),
    ("train.py", "--learning-rate 0", "--learning-rate|above 0"),
    ("train.py", "--learning-rate=-1e-3", "--learning-rate|above 0"),
    ("train.py", "--learning-rate nan", "--learning-rate|nan"),
    ("train.py", "--learning-rate inf", "--learning-rate|finite|inf"),
    ("train.py", "--learning-rate 1e400", "--learning-rate|finite|inf"),
    ("train.py", "--learning-rate 1e-400", "--learning-rate|above 0"),
    ("train.py", "--learning-rate", "--learning-rate|expected one argument"),
    ("train.py", "--warmup-steps -1", "--warmup-steps|at least 0"),
    ("train.py", "--clip-norm nan", "--clip-norm|nan"),
    ("train.py", "--dropout 1", "--dropout|below 1"),
    ("train.py", "--groups -1", "--groups|at least 0"),
    ("train.py", "--timesteps 1", "--timesteps|at least 2"),
    ("train.py", "--seed -1", "--seed|at least 0"),
    ("train.py", "--seed 4294967296", "--seed|below 4294967296"),
    ("train.py", "--num-images 1", "--num-images|at least 2"),
    ("train.py", "--quality-images 3", "--quality-images|at least 4"),
    ("train.py", "--channel-multipliers 1 0", "--channel-multipliers|at least 1"),
    ("train.py", "--channel-multipliers", "--channel-multipliers|at least one"),
    ("sample.py", "run --num 0", "--num|at least 1"),
    ("sample.py", "run --steps 0", "--steps|at least 1"),
    ("sample.py", "run --guidance nan", "--guidance|nan"),
    ("sample.py", "run --guidance -1", "--guidance|at least 0"),
    ("sample.py", "run --labels -1", "--labels|at least 0"),
    ("sample.py", "run --labels", "--labels|at least one"),
    ("sample.py", "run --seed 9999999999", "--seed|below 4294967296"),
    ("evaluate.py", "run --num-images 1", "--num-images|at least 2"),
    ("evaluate.py", "run --num-images 0", "--num-images|at least 2"),
    ("evaluate.py", "run --sigma-rel 0", "--sigma-rel|above 0"),
    ("evaluate.py", "run --sigma-rel 0.3", "--sigma-rel|below 0.2887"),
    ("evaluate.py", "run --decay 1", "--decay|below 1"),
    ("evaluate.py", "run --decay nan", "--decay|nan"),
    # Values that are not among the choices.
    ("train.py", "--schedule square", "--schedule|square|cosine"),
    ("train.py", "--sampler euler", "--sampler|euler|ddim"),
    ("train.py", "--precision half", "--precision|half|bfloat16"),
    ("train.py", "--strategy tpu", "--strategy|tpu|mirrored"),
    ("train.py", "--preset imagenet", "--preset|imagenet|cifar10"),
    ("train.py", "--ema-schedule linear", "--ema-schedule|linear|warmup"),
    ("sample.py", "run --precision fp8", "--precision|fp8|float16"),
    # Empty values, and values that cannot be.
    ("train.py", ["--dataset", ""], "--dataset|empty"),
    ("train.py", ["--run-dir", " "], "--run-dir|empty"),
    ("train.py", ["--preset="], "--preset|empty"),
    ("train.py", ["--run-dir", "a\0b"], "--run-dir|zero byte"),
    ("train.py", ["--run-dir", "a\udcff"], "--run-dir|UTF-8"),
    # What a terminal would take for a command is shown.
    ("train.py", ["--emma\x1b[31m"], "--emma\\x1b[31m"),
    ("sample.py", ["\u202erun"], "no \\u202erun"),
    ("evaluate.py", ["\x1b]0;title\x07"], "\\x1b]0;title\\x07 is not a run"),
    ("sample.py", ["run", "--out", ""], "--out|empty"),
    ("sample.py", [""], "source|empty"),
    ("evaluate.py", ["run", ""], "runs|empty"),
    # Averages.
    ("train.py", "--ema", "--ema|at least one"),
    ("train.py", "--ema 1.0", "--ema|below 1|1.0"),
    ("train.py", "--ema 0.99999999999999999", "--ema|below 1"),
    ("train.py", "--ema nan", "--ema|nan"),
    ("train.py", "--ema -0.1", "--ema|at least 0"),
    ("train.py", "--ema x", "--ema|a number|'x'"),
    ("train.py", "--ema 0.9 0.9", "--ema|0.9 twice"),
    ("train.py", "--ema 0.9 0.99 0.90", "--ema|0.9 twice"),
    ("train.py", "--ema-schedule warmup warmup", "--ema-schedule|warmup twice"),
    ("train.py", "--ema-schedule step --ema 0.9", "--ema|step|leave --ema out"),
    ("train.py", "--ema-rules", "--ema-rules|at least one"),
    ("train.py", "--ema-rules powr:0.05", "--ema-rules|'powr'|power:0.05"),
    ("train.py", "--ema-rules lawa:5", "lawa:5|'every_steps'|lawa takes k, every_steps|lawa:5:100"),
    ("train.py", "--ema-rules raw=power:0.05", "'raw'"),
    ("train.py", "--ema-schedule lawa", "--ema-schedule|lawa|warmup"),
    # Files of options.
    ("train.py", "--config nowhere.yaml", "--config nowhere.yaml|No such file|YAML or JSON"),
    ("train.py", "--config .", "--config .|YAML or JSON"),
    # Options that do not go together.
    ("train.py", "--accumulate 9 --batch-size 8", "--accumulate 9|--batch-size|at most 8"),
    ("train.py", "--accumulate 65", "--accumulate 65|64 images"),
    ("train.py", "--sampling-steps 30 --timesteps 20", "--sampling-steps 30|at most 20"),
    ("train.py", "--sampler dpm --sampling-steps 21 --timesteps 20", "--sampling-steps|at most 20"),
    ("train.py", "--attention-resolutions 4 4", "--attention-resolutions|4 twice"),
    ("train.py", "--quality-every-epochs 0 --quality-images 9", "--quality-images|-every-epochs 0"),
    ("train.py", "--snapshots 100 --steps 10", "--snapshots 100|at most 10"),
    ("train.py", "--ema-rules step --ema 0.9", "--ema|--ema-rules|warmup:0.999"),
    ("train.py", "--lr-schedule linear --steps 100", "--lr-schedule linear|--warmup-steps"),
    ("train.py", "--lr-decay-share 0.1", "--lr-decay-share|wsd|leave it out"),
    ("train.py", "--data-dir data", "--data-dir|digits|leave it out"),
    ("train.py", "--data-dir data --dataset .", "--data-dir|leave it out"),
    ("train.py", "--dataset .", "--run-dir runs/|lies in --dataset .|another place"),
    ("train.py", "--dataset . --run-dir out", "--run-dir out lies in --dataset ."),
    ("train.py", "--dataset . --run-dir ./", "--run-dir . lies in --dataset ."),
    ("train.py", "--dataset . --run-dir ../new --data-cache kept", "--data-cache|kept lies in"),
    ("train.py", "--unreadable skip", "--unreadable|digits|leave it out"),
    ("sample.py", "", "--from-diffusers|run directory"),
    ("sample.py", "run --from-diffusers folder", "one source"),
    ("sample.py", "run --labels 1 2 3 --num 2", "--labels|3 classes for 2 images"),
    ("sample.py", "run --progress --inpaint a.png --mask b.png", "--progress and --inpaint"),
    ("sample.py", "run --from-image a.png --interpolate 1 2", "--interpolate and --from-image"),
    ("sample.py", "run --strength 0.5", "--strength|--from-image"),
    ("sample.py", "run --strength 1.5 --from-image a.png", "--strength|at most 1"),
    ("sample.py", "run --mask b.png", "--mask|--inpaint"),
    ("sample.py", "run --inpaint a.png", "--inpaint|--mask"),
    ("sample.py", "run --inpaint a.png --mask b.png --sampler dpm", "--inpaint|ddim or ddpm"),
    ("sample.py", "run --inpaint a.png --mask b.png", "--inpaint|no file a.png"),
    ("sample.py", "run --from-image a.png", "--from-image|no file a.png"),
    ("sample.py", "run --interpolate 1", "--interpolate|two seeds"),
    ("sample.py", "run --interpolate 1 2 3", "--interpolate|two seeds"),
    ("sample.py", "run --interpolate 3 3", "--interpolate names 3 twice"),
    ("sample.py", "run --interpolate 3 03", "--interpolate|one end twice"),
    ("sample.py", "run --interpolate 1 4294967297", "--interpolate|seeds below 4294967296"),
    ("sample.py", "run --interpolate 1 " + "9" * 5000, "--interpolate|seeds below"),
    ("sample.py", "run --interpolate a.png ./a.png", "--interpolate|one end twice"),
    ("sample.py", "run --interpolate 1 2 --num 1", "--interpolate|--num at least 2"),
    ("sample.py", "run --encode", "--encode|--interpolate"),
    ("sample.py", "run --interpolate 1 2 --encode", "--encode|not for seeds"),
    ("sample.py", "run --interpolate a.png b.png --encode --sampler dpm", "--encode|ddim"),
    ("sample.py", "run --interpolate a.png b.png --encode --seed 1", "--seed|draws no noise"),
    ("sample.py", "run --interpolate 1 a.png", "--interpolate|no file 1"),
    ("sample.py", "run --interpolate 1 2 --strength 0.5", "--strength|seeds"),
    ("sample.py", "run --guidance-rescale 0.7", "--guidance-rescale|--guidance"),
    ("sample.py", "run --guidance 2 --guidance-rescale 1.7", "--guidance-rescale|at most 1"),
    ("sample.py", "run --guidance 1 --guidance-interval 1 2", "--guidance-interval|1 is none"),
    ("sample.py", "run --step 0", "--step 0|nothing is trained"),
    ("evaluate.py", "run --step 0", "--step 0|nothing is trained"),
    ("evaluate.py", "run --guidance-rescale 0.7", "--guidance-rescale|--guidance 2"),
    ("evaluate.py", "run --guidance 2 --guidance-interval 9 3", "--guidance-interval|LOW"),
    ("sample.py", "run --guidance 2 --guidance-interval 9 3", "--guidance-interval|LOW below HIGH"),
    ("sample.py", "run --export sampler --num 3", "--num|sampler that is exported"),
    ("sample.py", "run --export net.keras --steps 3", "--steps|network that is exported"),
    ("sample.py", "run --export net.keras --precision float16", "--precision|network that is"),
    ("sample.py", "run --export sampler.png", "sampler.png|folder|.keras"),
    ("sample.py", "run --export .keras", ".keras is a suffix without a name"),
    ("sample.py", "run --weights raw --decay 0.9", "--weights and --decay|one"),
    ("sample.py", "run --sigma-rel 0.1 --decay 0.9", "--sigma-rel and --decay|one"),
    ("sample.py", "run --sigma-rel 0.3", "--sigma-rel|below 0.2887"),
    ("sample.py", "run --decay 0", "--decay|above 0"),
    ("sample.py", "--from-diffusers folder --guide raw", "--guide|run directory"),
    ("evaluate.py", "", "run directories|--images"),
    ("evaluate.py", "--images a", "--images|--against"),
    ("evaluate.py", "--against a", "--images|--against"),
    ("evaluate.py", "run --images a --against b", "--images"),
    ("evaluate.py", "--weights raw run", "run directories|--"),
    ("evaluate.py", "run --weights raw raw", "--weights|raw twice"),
    ("evaluate.py", "run --decay 0.9 0.90", "--decay|0.9 twice"),
    ("evaluate.py", "run --guidance 1 2", "--guidance|--tune-ema"),
    ("evaluate.py", "run --tune-ema --guidance 2 2", "--guidance|2.0 twice"),
    ("evaluate.py", "run --tune-metric kid", "--tune-metric|--tune-ema"),
    ("evaluate.py", "run --tune-ema --tune-metric fid", "--tune-metric fid|frechet|kid"),
    ("evaluate.py", "run --tune-ema --tune-metric kid_std", "--tune-metric kid_std|recall"),
    ("evaluate.py", "run --sigma-rel 0.1 0.1", "--sigma-rel|0.1 twice"),
    *(
        ("evaluate.py", f"--images a --against b {option}", f"{option.split()[0]}|--images")
        for option in (
            "--weights raw", "--sigma-rel 0.1", "--decay 0.9", "--sampler ddim", "--steps 5",
            "--guidance 2", "--guide raw", "--step 2", "--tune-ema", "--bits-per-dim",
            "--num-images 10",
            "--reference held-out", "--seed 1", "--batch-size 7", "--precision float32",
        )
    ),
    # What is not there.
    ("train.py", "--dataset ./nowhere", "nowhere"),
    ("train.py", "--resume", "--run-dir|no run"),
    ("train.py", "--resume --run-dir nowhere", "nowhere|config.json"),
    ("sample.py", "nowhere", "nowhere|train.py"),
    ("sample.py", "nowhere.keras", "nowhere.keras|train.py"),
    ("sample.py", ".", "config.json"),
    ("sample.py", LONG, "too long"),
    ("sample.py", "--from-diffusers nowhere", "nowhere|diffusers"),
    ("evaluate.py", "nowhere", "nowhere|config.json"),
    ("evaluate.py", "--images a --against b", "no folder with images"),
    ("evaluate.py", "--images a --against ./a", "--images and --against|one folder"),
    # What the data do not allow.
    ("train.py", "--attention-resolutions 5", "5|nearest is 4"),
    ("train.py", "--groups 24", "32 channels|24 groups|such as 8"),
    ("train.py", "--image-size 7", "7|2"),
    ("train.py", "--timesteps 2000000000", "timesteps is 2000000000|from 1 to 100000"),
    ("train.py", "--validation-images 10000", "--validation-images|at most 360"),
]  # fmt: skip


def words(arguments):
    return arguments.split() if isinstance(arguments, str) else arguments


def identify(value):
    return value[:40] if isinstance(value, str) else ascii(value)[:40]


@pytest.mark.parametrize(("script", "arguments", "expected"), WRONG, ids=identify)
def test_wrong_command_lines(script, arguments, expected, tmp_path, monkeypatch, capfd):
    outcome = call_command(
        script, *words(arguments), folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
    )
    assert_refused_in_one_line(outcome, script, expected.split("|"), tmp_path)


# Places that nothing can be written to: what makes one in a folder, and words of the line.
def make_file(folder):
    (folder / "target").write_text("a file")


def make_dangling(folder):
    (folder / "target").symlink_to(folder / "nowhere")


def make_loop(folder):
    (folder / "target").symlink_to(folder / "target")


UNWRITABLE = [
    (make_file, "target", "target|Not a directory"),
    (make_file, "target/below/run", "target|Not a directory"),
    (make_dangling, "target", "target|No such file"),
    (make_dangling, "target/run", "target|No such file"),
    (make_loop, "target/run", "target|symbolic links"),
    (None, LONG, "too long"),
    (None, f"fine/{LONG}/fine", "too long"),
    (None, "/".join(["d" * 200] * 30), "too long"),
    pytest.param(None, "/proc/run", "/proc", marks=pytest.mark.skipif(
        not os.path.isdir("/proc/self"), reason="needs a file system that refuses even root")),
]  # fmt: skip
PLACES = pytest.mark.parametrize(("make", "target", "expected"), UNWRITABLE)


@PLACES
@pytest.mark.parametrize("what", ["run", "cache", "out"])
def test_places_that_cannot_be_written_to(
    make, target, expected, what, tiny_run, tmp_path, monkeypatch, capfd
):
    if make:
        make(tmp_path)
    before = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    arguments = {
        "run": ["train.py", "--run-dir", target],
        "cache": ["evaluate.py", tiny_run],
        "out": ["sample.py", tiny_run, "--out", target],
    }[what]
    if what == "cache":
        monkeypatch.setattr("ddpm_keras.app.cache.folder", lambda: tmp_path / target)
    outcome = call_command(*arguments, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    line_words = expected.split("|")
    if what == "out" and target == "target" and make is make_file:
        line_words = ["target", "is a file"]
    assert_refused_in_one_line(outcome, arguments[0], line_words, tmp_path, before)


@pytest.mark.parametrize("value", ["1e9", "-1", "64M"])
def test_a_bound_that_is_no_number_is_refused_as_such(
    value, tiny_run, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv(bounds.VARIABLE, value)
    outcome = call_command(
        "sample.py", tiny_run, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
    )
    said = f"sample.py: {bounds.VARIABLE} is '{value}'"
    assert_refused_in_one_line(outcome, "sample.py", [said], tmp_path)


def test_a_training_needs_a_cache_it_can_write_to(tmp_path, monkeypatch, capfd):
    (tmp_path / ".cache").write_text("a file")
    outcome = call_command("train.py", folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert_refused_in_one_line(outcome, "train.py", [".cache"], tmp_path, [".cache"])


@pytest.mark.parametrize("variable", ["DDPM_KERAS_CACHE", "XDG_CACHE_HOME", None])
def test_a_cache_in_a_home_folder_that_is_not_there_is_refused(variable, monkeypatch):
    for name in ("DDPM_KERAS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "~no-such-user/kept")
    else:  # as of a user whom the system does not know
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    words = ["~no-such-user/kept" if variable else "~/.cache", "DDPM_KERAS_CACHE"]
    assert_refused(cache.check, words, UsageError)


def test_a_folder_without_classes_is_not_learned_by_class(tmp_path, monkeypatch, capfd):
    from ddpm_keras import images

    images.write(np.zeros((8, 8, 8, 1), np.uint8), tmp_path / "photos")
    before = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    outcome = call_command(
        "train.py", "--dataset", "photos", "--conditional",
        folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd,
    )  # fmt: skip
    assert_refused_in_one_line(outcome, "train.py", ["--conditional"], tmp_path, before)
