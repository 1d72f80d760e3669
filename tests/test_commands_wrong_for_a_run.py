"""What is wrong for a run, and runs that are damaged: exit status 2, one line, nothing written."""

import os
import shutil

import keras
import pytest
from refusals import assert_refused_in_one_line, call_command

from ddpm_keras import files


# Wrong for this run, or of a run that is damaged: how it is damaged, the command, its words.
def edit_config(**changes):
    def damage(run):
        path = run / "config.json"
        config = files.read_record(path)
        config["options"] |= changes
        files.write_record(path, config)

    return damage


def edit_record(name, **changes):
    """Of a record, with the right checksum."""

    def damage(run):
        files.write_record(run / name, files.read_record(run / name) | changes)

    return damage


def write(name, content):
    def damage(run):
        (run / name).write_bytes(content)

    return damage


def cut(pattern):
    def damage(run):
        for path in run.glob(pattern):
            path.write_bytes(path.read_bytes()[:-50])

    return damage


def remove(name):
    def damage(run):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def in_place_of(name, make):
    """Something else where a file or a folder of the run should be."""

    def damage(run):
        remove(name)(run)
        make(run / name)

    return damage


def pipe(path):
    os.mkfifo(path)


def link_to_nowhere(path):
    path.symlink_to("nowhere")


def link_to_itself(path):
    path.symlink_to(path.name)


def leave(name):
    """Removes all of the run but one file or folder."""

    def damage(run):
        for path in run.iterdir():
            if path.name != name:
                remove(path.name)(run)
        (run / name).touch()

    return damage


def intact(run):
    pass


WRONG_FOR_RUN = [
    (intact, "sample.py run --export run/model.keras", "--export run/model.keras|of the run run"),
    (intact, "sample.py run --export run/network-ema.keras --weights raw", "--export|of the run"),
    (intact, "sample.py run/model.keras --export ./run/model.keras", "--export|of the run run"),
    (intact, "sample.py run --out run/trajectory.npz", "--out run/trajectory.npz|of the run run"),
    (intact, "sample.py run --out run/samples/real.png", "--out|of the run run|another place"),
    (intact, "train.py --run-dir run", "run|--resume"),
    (remove("config.json"), "train.py --run-dir run", "config.json|--run-dir"),
    (leave("evaluation.json"), "train.py --run-dir run", "evaluation.json|--run-dir"),
    (leave("trajectory.npz"), "train.py --run-dir run", "trajectory.npz|--run-dir"),
    (leave("tensorboard"), "train.py --run-dir run", "tensorboard|--run-dir"),
    (intact, "train.py --resume --run-dir run --seed 4", "--seed was 0"),
    (intact, "train.py --resume --run-dir run --steps 3", "6 steps already|--steps"),
    (intact, "train.py --resume --run-dir run --preset mnist", "--preset was digits"),
    (intact, "train.py --resume --run-dir run --ema 0.9", "--ema was (0.5, 0.9)"),
    (write("config.json", b"{"), "train.py --resume --run-dir run", "config.json is damaged"),
    (write("config.json", b"[]"), "train.py --resume --run-dir run", "config.json is damaged"),
    (write("config.json", b"\xff\xfe"), "sample.py run", "config.json is damaged"),
    (write("config.json", b"{}"), "evaluate.py run", "config.json is damaged"),
    (write("config.json", b'{"options": {}}'), "sample.py run", "config.json is damaged"),
    (edit_config(colour=3), "sample.py run", "config.json|unknown option 'colour'"),
    (edit_config(seed=-1), "evaluate.py run", "config.json|--seed"),
    (edit_config(seed="3"), "evaluate.py run", "config.json|'seed'"),
    (edit_config(ema=0.9), "sample.py run", "config.json|'ema'"),
    (edit_config(flip=1), "sample.py run", "config.json|'flip'"),
    (edit_config(schedule="square"), "sample.py run", "config.json|square"),
    (cut("checkpoints/*.h5"), "train.py --resume --run-dir run", "no checkpoint|whole"),
    (cut("checkpoints/*.json"), "train.py --resume --run-dir run", "no checkpoint|whole"),
    (remove("checkpoints"), "train.py --resume --run-dir run", "no checkpoint|whole"),
    (edit_record("config.json", data={"num_train": 0}), "sample.py run", "data.num_train is 0"),
    (edit_record("config.json", data={"colour": 0}), "sample.py run", "data.colour is unknown"),
    (edit_record("config.json", weight_sets=[1]), "sample.py run", "weight_sets[0] is 1"),
    (edit_record("config.json", speed=1), "evaluate.py run", "config.json is damaged|speed"),
    (edit_record("config.json", command=None), "evaluate.py run", "command is None, not a text"),
    (remove("model.keras"), "sample.py run", "model.keras|--resume --run-dir run"),
    (remove("model.keras"), "evaluate.py run", "model.keras|--resume --run-dir run"),
    (cut("model.keras"), "sample.py run", "model.keras|cut short|--resume --run-dir run"),
    (write("model.keras", b""), "evaluate.py run", "model.keras|cut short|--resume --run-dir run"),
    (write("other.keras", b"none"), "sample.py run/other.keras", "other.keras|cannot be read"),
    (in_place_of("history.csv", os.mkdir), "train.py --resume --run-dir run", "csv is no file"),
    (in_place_of("history.csv", link_to_itself), "evaluate.py run", "history.csv is no file"),
    (in_place_of("trajectory.npz", pipe), "train.py --resume --run-dir run", "npz is no file"),
    (in_place_of("model.keras", link_to_nowhere), "sample.py run", "keras is no file, but a link"),
    (in_place_of("samples", link_to_nowhere), "sample.py run", "samples is no folder, but a link"),
    (
        in_place_of("checkpoints/step-00000006.json", pipe),
        "train.py --resume --run-dir run",
        "step-00000006.json is no file",
    ),
    (
        in_place_of("snapshots/snapshot-00000004.npz", os.mkdir),
        "evaluate.py run",
        "snapshot-00000004.npz is no file",
    ),
    (intact, "sample.py run/history.csv", "history.csv|.keras file"),
    (intact, "sample.py run --weights nonsense", "nonsense|raw, ema_0.5, ema_0.9"),
    (intact, "sample.py run --weights ema_0.50", "ema_0.50|raw, ema_0.5, ema_0.9"),
    (intact, "sample.py run --labels 1", "--labels|--conditional"),
    (intact, "sample.py run --guidance 2", "--guidance|--conditional"),
    (intact, "sample.py run --steps 21", "--steps 21|at most 20"),
    (intact, "sample.py run --steps 21 --sampler dpm", "--steps 21|at most 20"),
    (edit_config(conditional=True), "sample.py run --labels 11", "--labels|11|0 to 9"),
    (
        edit_config(conditional=True),
        "sample.py run --labels 10 --guidance 2",
        "--guidance|--labels 10 means none",
    ),
    (
        edit_config(conditional=True),
        "sample.py run --from-image run/samples/epoch-0001-raw.png --guidance 2",
        "--guidance|--from-image means none|--labels",
    ),
    (
        edit_config(conditional=True),
        "evaluate.py run --guidance 2 --guidance-interval 20 90",
        "--guidance-interval begins at 20|0 to 19",
    ),
    (intact, "sample.py run --out a.jpeg", "a.jpeg|.png or .npz"),
    (intact, "sample.py run --out a.webp", "a.webp|.png or .npz"),
    (intact, "sample.py run --progress --out a.npz", "a.npz|.png, .webp or .gif"),
    (intact, "sample.py run --progress --out a", "a|.png, .webp or .gif"),
    (intact, "sample.py run --from-image run/config.json", "--from-image|config.json"),
    (intact, "sample.py run --from-image run/samples/epoch-0001.png", "--from-image|8x8; resize"),
    (intact, "sample.py run --out .png", ".png is a suffix|images.png"),
    (intact, "sample.py run --out new/.npz", "new/.npz is a suffix|images.npz"),
    (intact, "sample.py run/model.keras --labels 1", "--labels|--conditional|leave it out"),
    (intact, "sample.py run/network-ema.keras --guidance 2", "--guidance|--conditional"),
    (intact, "sample.py run/model.keras --steps 21", "--steps 21|at most 20"),
    (intact, "sample.py --pretrained digits --labels 3", "--labels|--pretrained digits|leave it"),
    (intact, "sample.py run --interpolate 1 2 --seed 3", "--seed|by ddim, which draws no noise"),
    (intact, "sample.py run --out run", "run holds files already"),
    (intact, "sample.py run --out run/samples", "samples holds files already"),
    (intact, "sample.py run --out run/model.keras", "model.keras|.png or .npz"),
    (intact, "sample.py run/network-ema.keras --weights ema_0.5", "ema_0.5|raw"),
    (intact, "evaluate.py run --weights nonsense", "nonsense|raw, ema_0.5, ema_0.9"),
    (intact, "evaluate.py run --weights ema ema_0.9", "ema_0.9 twice"),
    (intact, "evaluate.py run run", "run is named twice"),
    (intact, "evaluate.py run ./run/../run", "named twice"),
    (intact, "evaluate.py run --steps 21", "--steps 21|at most 20"),
    (intact, "evaluate.py run --guidance 2", "--guidance|--conditional"),
    (intact, "evaluate.py run --extractor resnet", "--extractor resnet|inception"),
    (intact, "evaluate.py run --extractor run/config.json", "config.json"),
    (intact, "evaluate.py run --reference test", "--reference test|held-out"),
    (remove("snapshots"), "evaluate.py run --decay 0.9", "--decay|snapshots"),
    (remove("snapshots"), "evaluate.py run --sigma-rel 0.1", "--sigma-rel|snapshots"),
    (remove("snapshots"), "evaluate.py run --tune-ema", "--tune-ema|snapshots"),
    (remove("snapshots"), "sample.py run --decay 0.9", "--decay|snapshots"),
    (intact, "sample.py run --step 5", "--step 5|2, 3, 4, 6"),
    (intact, "sample.py run/model.keras --step 3", "--step|run directory"),
    (intact, "sample.py run/model.keras --sigma-rel 0.1", "--sigma-rel|run directory"),
    (intact, "evaluate.py run --step 5", "--step 5|2, 3, 4, 6"),
    (intact, "sample.py run --step 4", "ema@4|checkpoints of the steps 3, 6|--sigma-rel"),
    (intact, "evaluate.py run --step 2 --weights raw", "raw@2|3, 6|--sigma-rel"),
    (intact, "evaluate.py run --step 3 --decay 0.9", "--decay|step 3|2, 4, 6"),
    (intact, "evaluate.py run --step 3 --tune-ema", "--tune-ema|step 3|2, 4, 6"),
    (intact, "evaluate.py run --weights raw@3", "raw@3|--weights raw --step 3"),
    (intact, "sample.py run --weights raw@3 --step 3", "raw@3|--step"),
    (intact, "sample.py run --weights posthoc_sigma_x", "'x'|sigma_rel|number"),
    (intact, "sample.py run --weights posthoc_sigma_0.5", "0.5|0.2887"),
    (intact, "sample.py run --guide raw", "--guide|--guidance 2"),
    (intact, "evaluate.py run --guide raw --guidance 1", "--guide|--guidance 2"),
    (intact, "sample.py run --guide ema_0.7 --guidance 2", "--guide ema_0.7|raw, ema_0.5, ema_0.9"),
    (intact, "evaluate.py run --guide raw@5 --guidance 2", "--guide raw@5|3, 6"),
    (intact, "sample.py run --guide ema --guidance 2", "--guide ema|another"),
    (intact, "sample.py run --weights raw --step 3 --guide raw@3 --guidance 2", "--guide raw@3"),
    (intact, "evaluate.py run --guide raw --guidance 2 --weights raw", "raw|--guide"),
    (cut("checkpoints/step-00000003.*"), "sample.py run --step 3", "step-00000003|damaged"),
]


@pytest.mark.parametrize(("damage", "command", "expected"), WRONG_FOR_RUN)
def test_wrong_for_a_run(damage, command, expected, tiny_run, tmp_path, monkeypatch, capfd):
    shutil.copytree(tiny_run, tmp_path / "run")
    damage(tmp_path / "run")
    before = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    script, *arguments = command.split()
    outcome = call_command(
        script, *arguments, folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
    )
    assert_refused_in_one_line(outcome, script, expected.split("|"), tmp_path, before)


def test_a_name_that_the_run_does_not_have_is_refused_before_tensorflow(
    tiny_run, tmp_path, monkeypatch, capfd
):
    def never():
        raise AssertionError("TensorFlow was to be loaded")

    monkeypatch.setattr("ddpm_keras.app.console.load_tensorflow", never)
    for script in ("sample.py", "evaluate.py"):
        outcome = call_command(
            script, tiny_run, "--weights", "x",
            folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd,
        )  # fmt: skip
        assert_refused_in_one_line(outcome, script, ["--weights x"], tmp_path)


def test_a_model_that_is_no_ddpm_is_refused(tmp_path, monkeypatch, capfd):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    outcome = call_command(
        "sample.py", "other.keras", folder=tmp_path, monkeypatch=monkeypatch, capfd=capfd
    )
    assert_refused_in_one_line(outcome, "sample.py", ["other.keras"], tmp_path, ["other.keras"])
