"""`--ema-rules` and `--config`: what they are read as, what wins, what is refused in one line."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from refusals import assert_refused, command_status

from ddpm_keras import choices, ema
from ddpm_keras.app import rules, training
from ddpm_keras.app.options import train_options
from ddpm_keras.app.resuming import resumed_options
from ddpm_keras.app.run_directory import Run
from ddpm_keras.errors import UsageError

READ = [
    ("power:0.05", {"power_0.05": ema.PowerFunctionDecay(0.05)}),
    ("halflife:500k", {"halflife_500000": ema.HalfLife(500_000, 64)}),
    ("halflife:2M:128", {"halflife_2000000": ema.HalfLife(2_000_000, 128)}),
    ("halflife:1.5k:rampup_ratio=none", {"halflife_1500_none": ema.HalfLife(1500, 64, None)}),
    ("warmup:0.9999", {"warmup_0.9999": ema.WarmupDecay(0.9999)}),
    ("constant:1e-1", {"0.1": ema.ConstantDecay(0.1)}),
    ("power_warmup:0.9:2:0.75", {"power_warmup_0.9": ema.PowerWarmupDecay(0.9, 2.0, 0.75)}),
    ("lawa:5:100", {"lawa_5_100": ema.LAWA(5, 100)}),
    ("lawa:every_steps=100:k=5", {"lawa_5_100": ema.LAWA(5, 100)}),
    ("swa:1k step", {"swa_1000": ema.SWA(1000), "step": ema.StepDecay()}),
    ("ramp:0:0.9", {"ramp_0.9": ema.LinearRampDecay(0.0, 0.9, 2000)}),
    ("ramp:0:0.9:7", {"ramp_0.9": ema.LinearRampDecay(0.0, 0.9, 7)}),
    ("wsm:0.2", {"wsm_0.2": ema.WSM(0.2, 2000)}),
    ("wsm:0.2:decay=cosine", {"wsm_0.2_cosine": ema.WSM(0.2, 2000, "cosine")}),
    ("short=power:0.05 long=power:0.1", {
        "short": ema.PowerFunctionDecay(0.05), "long": ema.PowerFunctionDecay(0.1),
    }),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ, ids=[text for text, _ in READ])
def test_rules_are_read(text, expected):
    """In one word of the command line or in several, for a run of 2,000 steps of 64 images."""
    for argv in (["--ema-rules", text], ["--ema-rules", *text.split()]):
        options, _ = train_options(argv)
        assert options.ema_rules == tuple(text.split())
        averages = training.averages(options).decays
        assert averages == expected and list(averages) == list(expected)


def test_every_rule_has_an_example_that_holds():
    assert rules.EXAMPLES.keys() == choices.EMA_RULES.built_in
    decays = rules.averages(rules.EXAMPLES.values(), steps=2000, batch_size=64)
    assert [type(decay) for decay in decays.values()] == [
        choices.EMA_RULES.find(kind) for kind in rules.EXAMPLES
    ]
    assert ema.EMA(decays).names == tuple(decays)


WRONG = [
    ("powr:0.05", "there is no rule 'powr'|lawa:5:100|power:0.05"),
    ("power", "missing a required argument: 'sigma_rel'|power takes sigma_rel|power:0.05"),
    ("power:0.5", "sigma_rel must be|0.2887|such as power:0.05"),
    ("power:wide", "sigma_rel|'wide'"),
    ("power:0.1:0.2", "too many positional arguments|power takes sigma_rel"),
    ("power:0.1,step", "power:0.1,step|a space between rules"),
    ("warmup:1", "beta must be|below 1"),
    ("lawa:5", "'every_steps'|lawa takes k, every_steps|lawa:5:100"),
    ("lawa:5:every_steps=0", "every_steps must be|at least 1"),
    ("lawa:5:every=9", "unexpected keyword argument 'every'|k, every_steps"),
    ("lawa:5:100:k=5", "multiple values for argument 'k'"),
    ("lawa:k=1:5", "5 has to come before"),
    ("lawa:k=1:k=5", "k is given twice"),
    ("lawa:5:", "a value is empty"),
    ("lawa:5:k=", "a value is empty"),
    ("=step", "name of its average is empty"),
    ("halflife:0", "images must be positive|batch_size, rampup_ratio=0.05|halflife:500k"),
    ("wsm:0.2:decay=wsd", "Unknown decay|linear, cosine, sqrt"),
    ("power:0.05 power:0.050", "would be called 'power_0.05'|other=power:0.050"),
    ("a=power:0.05 a=step", "would be called 'a'|other=step"),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong_rules_are_told_with_what_they_take(text, words):
    def read():
        return training.averages(train_options(["--ema-rules", text])[0])

    assert_refused(read, ["--ema-rules", *words.split("|")], UsageError)


def test_names_that_cannot_be_are_refused():
    options, _ = train_options(["--ema-rules", "raw=power:0.05"])
    assert_refused(lambda: training.averages(options), ["'raw' cannot name an average"])


@pytest.mark.parametrize("option", ["--ema 0.9", "--ema-schedule step"])
def test_averages_are_named_in_one_way(option):
    argv = ["--ema-rules", "power:0.05", *option.split()]
    assert_refused(
        lambda: train_options(argv), ["--ema", "--ema-rules", "warmup:0.999"], UsageError
    )


def test_rules_that_a_decay_alone_does_not_make():
    for kind in ("power", "halflife", "swa", "lawa", "wsm"):
        assert kind not in choices.EMA_SCHEDULES and kind in choices.EMA_RULES
        assert_refused(lambda kind=kind: ema.by_rules((kind,), (0.9,), 9), [repr(kind), "warmup"])
    assert list(choices.EMA_SCHEDULES) == ["constant", "warmup", "power_warmup", "step", "ramp"]
    assert len(choices.EMA_SCHEDULES) == 5


# Files of options.


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path, as text."""

    def write(text, name="options.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


YAML = """
# A run of my own.
steps: 500
learning-rate: 2e-4          # which YAML itself would call text
flip: yes
attention_resolutions: []
dataset: digits
ema_rules:
- power:0.05
- lawa:5:100
"""
AS_ARGUMENTS = "--steps 500 --learning-rate 2e-4 --flip --attention-resolutions --dataset digits "
AS_ARGUMENTS += "--ema-rules power:0.05 lawa:5:100"


def same_options(options, other):
    return dataclasses.replace(options, config="") == dataclasses.replace(other, config="")


def test_a_file_says_what_the_command_line_would(write):
    expected, _ = train_options(AS_ARGUMENTS.split())
    as_json = {
        "steps": 500, "learning_rate": 2e-4, "flip": True, "attention_resolutions": [],
        "dataset": "digits", "ema_rules": "power:0.05 lawa:5:100",
    }  # fmt: skip
    texts = {"options.yaml": YAML, "options.json": "\t" + json.dumps(as_json)}
    marked = {f"marked.{name}": f"\ufeff{text}" for name, text in texts.items()}
    for path in (write(text, name) for name, text in (texts | marked).items()):
        options, given = train_options(["--config", path])
        assert same_options(options, expected) and options.config == path
        assert "steps" in given


def test_the_command_line_wins_over_the_file_and_it_over_the_preset(write):
    path = write("preset: mnist\nsteps: 7000\nema: 0.9\nseed: 3\nlog-every: 5\n")
    options, given = train_options(["--config", path, "--seed", "4"])
    assert (options.seed, options.steps, options.batch_size) == (4, 7000, 128)
    assert options.log_every_steps == 5  # by the name it had before
    assert (options.ema, options.ema_schedule, options.dataset) == ((0.9,), ("warmup",), "mnist")
    assert set(given) == {"config", "preset", "steps", "ema", "seed", "log_every_steps"}


NUMBERS = {"seed": ["010", "1_0", "+3"], "learning_rate": ["1e-3", ".5", "5.", "1_0.0"]}


@pytest.mark.parametrize(("name", "text"), [(n, text) for n in NUMBERS for text in NUMBERS[n]])
def test_a_number_in_yaml_is_what_it_is_on_the_command_line(name, text, write):
    """And not 8 for 010, as YAML 1.1 has it."""
    given, _ = train_options(["--config", write(f"{name}: {text}\n")])
    said, _ = train_options([f"--{name.replace('_', '-')}", text])
    assert getattr(given, name) == getattr(said, name)


def test_averages_of_the_command_line_replace_those_of_the_file(write):
    path = write(YAML)
    options, _ = train_options(["--config", path, "--ema", "0.9"])
    assert (options.ema, options.ema_rules) == ((0.9,), ())
    path = write("ema: [0.9]\nema_schedule: [constant]\n")
    options, _ = train_options(["--config", path, "--ema-rules", "step"])
    assert (options.ema, options.ema_schedule, options.ema_rules) == ((), (), ("step",))


@pytest.mark.parametrize("arguments", [AS_ARGUMENTS, "--ema-schedule step --snapshots 0", ""])
def test_the_configuration_of_a_run_works(arguments, write):
    trained, _ = train_options(arguments.split())
    values = dataclasses.asdict(trained) | {"run_dir": "runs/x"}
    path = write(json.dumps({"options": values, "versions": {}}), "config.json")
    options, given = train_options(["--config", path])
    assert same_options(options, trained) and set(given) == {"config"}
    options, given = train_options(["--config", path, "--ema", "0.5", "--ema-schedule", "constant"])
    assert (options.ema, options.ema_schedule, options.ema_rules) == ((0.5,), ("constant",), ())
    assert set(given) == {"config", "ema", "ema_schedule"}
    argv = ["--config", path, "--preset", "mnist"]
    assert_refused(lambda: train_options(argv), ["--preset", "--config", "leave it"], UsageError)


def test_the_configuration_of_a_run_before_there_were_rules(write):
    """Without what is newer it is as it was then, also to be resumed."""
    values = dataclasses.asdict(
        train_options(["--ema", "0.9", "--ema-schedule", "step", "warmup"])[0]
    )
    for name in (
        "config",
        "ema_rules",
        "optimizer",
        "lr_schedule",
        "lr_decay_share",
        "lr_decay",
        "groups",
    ):
        del values[name]
    path = write(json.dumps({"options": values, "versions": {}}), "config.json")
    options, _ = train_options(["--config", path])
    assert (options.optimizer, options.lr_schedule, options.groups) == ("adam", "constant", 32)
    assert list(training.averages(options).decays) == ["step", "warmup_0.9"]
    assert resumed_options(values, {"steps": 3000}).steps == 3000


WRONG_FILES = [
    ("step: 500", "unknown option 'step'|did you mean steps?"),
    ("lr: 1.0e-3", "unknown option 'lr'|did you mean learning_rate?"),
    ("zzzz: 500", "unknown option 'zzzz'|--help"),
    ("steps: 5\nsteps: 6", "steps twice"),
    ("batch_size: 5\nbatch-size: 6", "batch_size twice"),
    ("steps: five", "--steps|a whole number|'five'"),
    ("steps: 5.5", "--steps|a whole number|5.5"),
    ("steps: 0", "--steps|at least 1"),
    ("steps: 1:30", "--steps|a whole number|'1:30'"),
    ("seed: 0x10", "--seed|a whole number|'0x10'"),
    ("steps: true", "--steps|a whole number|True"),
    ("steps: [5]", "--steps|only one value"),
    ("steps:", "--steps|a whole number|None"),
    ("learning_rate: fast", "--learning-rate|a number|'fast'"),
    ("learning_rate: .nan", "--learning-rate|nan"),
    ("flip: 1", "--flip|true or false|1"),
    ("dataset: 2024", "--dataset|quotes|2024"),
    ("dataset: ''", "--dataset is empty"),
    ("schedule: square", "--schedule|square|cosine"),
    ("ema: [0.9, 0.9]", "--ema|0.9 twice"),
    ("ema: []", "--ema|at least one"),
    ("ema: {a: 0.9}", "--ema|a number"),
    ("ema: 0.9\nema_rules: step", "--ema|--ema-rules"),
    ("ema_rules: [lawe:5]", "--ema-rules|'lawe'"),
    ("resume: true", "resume is for the command line"),
    ("config: other.yaml", "config is for the command line"),
    ("- 5", "no options|steps: 5000"),
    ("", "no options"),
    ("5: 6", "no options"),
    ("? [1, 2]\n: 3", "no YAML"),
    ("a: [1\nb: }", "no YAML"),
    ("a: !!python/object:os.system x", "no YAML"),
    (b"\xff\xfe", "no text in UTF-8"),
]


@pytest.mark.parametrize(("text", "words"), WRONG_FILES, ids=[repr(t) for t, _ in WRONG_FILES])
def test_wrong_files_are_told_in_one_line(text, words, write):
    path = write(text)
    assert_refused(lambda: train_options(["--config", path]), words.split("|"), UsageError)


def test_wrong_files_of_json_and_none(write, tmp_path):
    for text, words in (
        ('{"steps": 5, "steps": 6}', ["steps twice"]),
        ('{"steps": 5', ["no YAML or JSON"]),
        ('{"options": {"preset": "x"}, "versions": {}}', ["--preset x: choose from"]),
        ('{"options": {"stepz": 5}, "versions": {}}', ["unknown option 'stepz'"]),
    ):
        path = write(text, "options.json")
        assert_refused(lambda path=path: train_options(["--config", path]), words, UsageError)
    options, _ = train_options(
        ["--config", write('{"options": {"steps": 5}, "versions": {}}', "c.json")]
    )
    assert (options.preset, options.steps) == ("digits", 5)
    for path in (tmp_path, tmp_path / "none.yaml"):
        words = ["--config", str(path), "name a YAML or JSON file"]
        assert_refused(lambda path=path: train_options(["--config", str(path)]), words, UsageError)
    argv = ["--config", write(YAML), "--resume"]
    assert_refused(lambda: train_options(argv), ["--config", "--resume"], UsageError)
    assert train_options([*argv[:-1], "--no-resume"])[0].steps == train_options(argv[:-1])[0].steps


# A run of all of it.

KINDS = "constant:0.5 power:0.1 halflife:64 lawa:2:2 swa:3 wsm:0.5 mine=ramp:0:0.9"


ARGUMENTS = (
    "--steps 6 --epoch-steps 3 --log-every 2 --batch-size 8 --timesteps 4 --base-channels 8 "
    "--channel-multipliers 1 --attention-resolutions --validation-images 8 --snapshots 0 "
    "--quality-every 0 --no-evaluate --config mine.yaml --run-dir run"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training of six steps, of a learning rate that falls; part of it is told by a file."""
    folder = tmp_path_factory.mktemp("rules")
    settings = "lr_schedule: cosine\nwarmup_steps: 2\noptimizer: adamw\nema_rules:\n"
    (folder / "mine.yaml").write_text(settings + "".join(f"- {kind}\n" for kind in KINDS.split()))
    assert command_status("train.py", *ARGUMENTS, folder=folder) == 0
    return Run(folder / "run")


def test_a_run_of_every_kind_of_rule_is_written_down(run):
    names = ["0.5", "power_0.1", "halflife_64", "lawa_2_2", "swa_3", "wsm_0.5", "mine"]
    assert run.config["weight_sets"] == ["raw", *(f"ema_{name}" for name in names)]
    assert run.options.ema_rules == tuple(KINDS.split()) and run.options.ema == ()
    history = [row for row in run.read_history() if row["step"] % 2 == 0]
    assert [row["learning_rate"] for row in history] == pytest.approx([1e-3, 5e-4, 0.0], abs=1e-9)
    betas = {name: [row[f"beta_ema_{name}"] for row in history] for name in names}
    assert betas["lawa_2_2"] == [1, 1, 1] and betas["0.5"] == [0.5] * 3  # none is due next
    assert betas["swa_3"] == pytest.approx([0, 1 / 2, 3 / 4])
    shares = {name: history[-1][f"initial_share_ema_{name}"] for name in names}
    assert shares == dict.fromkeys(names, 0.0) | {"0.5": 0.5**6}
    assert [row["window_ema_lawa_2_2"] for row in history] == [2, 4, 4]
    assert {path.name for path in run.tensorboard.glob("*")} > {f"ema_{name}" for name in names}


def test_a_resumed_run_of_a_falling_rate_is_the_uninterrupted_one(run, capfd):
    folder, again = run.path.parent, Run(run.path.parent / "again")
    shutil.copytree(run.path, again.path)
    for path in (*again.checkpoints.glob("step-00000006*"), again.model):
        path.unlink()
    resume = ["--resume", "--run-dir", "again"]
    assert command_status("train.py", *resume, "--steps", "9", folder=folder) == 2
    assert "--steps was 6" in capfd.readouterr().err
    assert command_status("train.py", *resume, folder=folder) == 0
    whole, resumed = (keras.saving.load_model(each.model) for each in (run, again))
    assert whole.weight_sets == resumed.weight_sets
    for name in whole.weight_sets:
        for a, b in zip(whole.weight_values(name), resumed.weight_values(name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_averages_of_a_share_of_the_run_keep_the_length_it_began_with(run, tmp_path):
    stored = dataclasses.replace(run.options, ema_rules=("wsm:0.5", "mine=ramp:0:0.9"))
    begun = training.averages(stored).decays
    other = Run(tmp_path)
    for first in ({"first_steps": 6}, {}):  # runs of before have no record of it
        other.write_config({"options": dataclasses.asdict(stored)} | first)
        longer = dataclasses.replace(stored, steps=9, resume=True)
        assert training.averages(longer).decays != begun
        assert training.averages(training.as_begun(longer, other)).decays == begun
