"""Several workers: the same training as on as many replicas, stopped and resumed together."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from local_workers import configurations, free_ports
from refusals import call_command

import ddpm_keras  # noqa: F401 - registers the model
from ddpm_keras.app import cluster, interrupt, workers
from ddpm_keras.errors import UsageError

ROOT = Path(__file__).parents[1]
SMALL = (
    "--channel-multipliers 1 --base-channels 4 --attention-resolutions --timesteps 20 "
    "--batch-size 16 --steps 6 --log-every-steps 2 --epoch-steps 3 --ema 0.5 "
    "--ema-schedule constant --validation-images 8 --quality-every-epochs 0 --num-images 20 "
    "--snapshots 3 --sampling-steps 4"
)
TRAIN = f"train.py {SMALL} --strategy multiworker"
DRAWN = "--num 10 --batch-size 3 --steps 4"
MEASURED = "--batch-size 4 --weights ema"
FIRST = {  # each with the exit status of both workers
    f"{TRAIN} --run-dir whole --no-evaluate": (0, 0),
    f"SIGTERM 1 4 {TRAIN} --run-dir stopped --no-evaluate": (130, 143),
    "train.py --resume --run-dir stopped": (0, 0),
    "train.py --resume --run-dir stopped --seed 5": (2, 2),
    f"sample.py whole {DRAWN} --out drawn.npz --strategy multiworker": (0, 0),
    f"evaluate.py whole {MEASURED} --strategy multiworker": (0, 0),
    f"SIGKILL 1 5 {TRAIN} --run-dir killed --no-evaluate": (75, None),
}
SECOND = {
    "train.py --resume --run-dir killed": (0, 0),
    f"SIGKILL 0 4 {TRAIN} --run-dir beheaded --no-evaluate": (None, 75),
}


def start(script, folder, *arguments, task=None):
    """A command in a process of its own."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "DDPM_KERAS_CACHE": str(folder)}
    if task is not None:
        environment["TF_CONFIG"] = task if isinstance(task, str) else json.dumps(task)
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def outputs(processes, timeout=280):
    """What processes print until they end; whatever goes wrong, none is left."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def tell(story, folder):
    """What two workers print that run the commands of a story, whose statuses are checked."""
    processes = []
    for index, task in enumerate(configurations(2)):
        script = ("tests/workers_story.py", folder, f"statuses{index}.json", *story)
        processes.append(start(*script, task=task))
    printed = outputs(processes)
    for index, text in enumerate(printed):
        statuses = json.loads((folder / f"statuses{index}.json").read_text())
        expected = [of_both[index] for of_both in story.values()]
        assert statuses == [status for status in expected if status is not None], text
    return printed


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(folder, what each worker printed) of both stories."""
    folder = tmp_path_factory.mktemp("workers")
    return folder, tell(FIRST, folder), tell(SECOND, folder)


def state(run):
    """All that a run's model holds, by the names of its arrays."""
    model = keras.saving.load_model(run / "model.keras")
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(variable) for variable in variables]


def test_two_workers_train_as_two_replicas_do(told, tmp_path):
    options = (*SMALL.split(), "--run-dir", "run", "--strategy", "mirrored", "--no-evaluate")
    process = start("tests/train_on_two_replicas.py", tmp_path, *options)
    (text,) = outputs([process])
    assert process.returncode == 0, text
    runs = told[0] / "whole", tmp_path / "run"
    one, other = (keras.saving.load_model(run / "model.keras") for run in runs)
    assert one.ema.num_updates == other.ema.num_updates == 6
    for weights in one.weight_sets:
        pairs = zip(one.weight_values(weights), other.weight_values(weights), strict=True)
        for value, expected in pairs:
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=2e-5)


LOST = """
import sys, threading, time
from ddpm_keras.app import cluster, console

class Waits:
    def __del__(self):
        time.sleep(100)

waits = Waits()  # as what TensorFlow holds does, for what will not come

def main(argv):
    threading.Thread(target=lambda: (time.sleep(0.5), print("written"))).start()
    raise cluster.WorkerLost("worker 1 is gone")

sys.exit(console.run(main))
"""


def test_who_has_lost_another_ends_at_once_but_for_what_is_being_written():
    environment = os.environ | {"DDPM_KERAS_LAZY": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOST], env=environment, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (75, "written\n"), done.stderr
    assert done.stderr.endswith(": worker 1 is gone\n")


@pytest.mark.parametrize("name", ["stopped", "killed"])
def test_workers_that_went_on_equal_those_that_never_stopped(told, name):
    whole, other = told[0] / "whole", told[0] / name
    for value, expected in zip(state(other), state(whole), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert {path.name for path in other.rglob("snapshot-*")} == {
        path.name for path in whole.rglob("snapshot-*")
    }


def test_one_worker_that_is_told_to_stop_stops_both_after_the_same_step(told):
    folder, (chief, other), _ = told
    assert "Interrupted at step 5; everything is saved" in chief
    assert "Interrupted" not in other
    config = json.loads((folder / "stopped" / "config.json").read_text())
    assert (config["replicas"], config["workers"]) == (2, 2)


def test_a_lost_worker_is_told_in_one_line_with_the_way_to_go_on(told):
    folder, (chief, _), (_, other) = told
    for text, lost, run in ((chief, "worker 1", "killed"), (other, "worker 0", "beheaded")):
        (line,) = [line for line in text.splitlines() if "is gone" in line]
        assert line.startswith(f"train.py: {lost} is gone")
        assert line.endswith(f"train.py --resume --run-dir {run}")
        assert "Traceback" not in text


def test_images_drawn_by_two_workers_are_those_of_one_process(told, tmp_path, monkeypatch, capfd):
    folder = told[0]
    shutil.copytree(folder / "whole", tmp_path / "whole")
    options = f"whole {DRAWN} --out drawn.npz".split()
    call = {"folder": tmp_path, "monkeypatch": monkeypatch, "capfd": capfd}
    assert call_command("sample.py", *options, **call).status == 0
    with np.load(folder / "drawn.npz") as drawn, np.load(tmp_path / "drawn.npz") as expected:
        np.testing.assert_array_equal(drawn["images"], expected["images"])


def test_an_evaluation_by_two_workers_is_that_of_one_process(told, tmp_path, monkeypatch, capfd):
    import workers_story

    from ddpm_keras.app import references

    folder = told[0]
    shutil.copytree(folder / "whole", tmp_path / "whole")
    (tmp_path / "whole" / "evaluation.json").unlink()
    monkeypatch.setattr(references, "choose_extractor", None)  # put back at the end
    workers_story.measure_by_means()
    call = {"folder": tmp_path, "monkeypatch": monkeypatch, "capfd": capfd}
    assert call_command("evaluate.py", "whole", *MEASURED.split(), **call).status == 0
    found, expected = (
        json.loads((place / "whole" / "evaluation.json").read_text())["weights"]
        for place in (folder, tmp_path)
    )
    assert found == expected and set(found) == {"ema_0.5"}


@pytest.mark.parametrize(
    ("settings", "chief"),
    [
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}', True),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}', False),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            False,
        ),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, '
            '"task": {"type": "chief", "index": 0}}',
            True,
        ),
    ],
)
def test_the_first_worker_is_the_chief(settings, chief, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", settings)
    place = cluster.place("multiworker")
    assert place.is_chief is chief and place.count == 2
    for strategy in ("none", "mirrored"):
        said = f"TF_CONFIG names 2 processes, and under --strategy {strategy} this one is alone"
        with pytest.warns(UserWarning, match=said):
            assert cluster.place(strategy) == cluster.Place(0, 1)


@pytest.mark.parametrize("settings", ["{", "[]", "[1]", '{"task": 3}', '{"task": {"index": 0}}'])
def test_a_wrong_tf_config_is_refused_with_its_form(settings, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", settings)
    with pytest.raises(UsageError, match='TF_CONFIG must be like {"cluster"'):
        cluster.place("multiworker")
    assert cluster.place("none") == cluster.Place()  # which does not ask for it


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{", "TF_CONFIG"),
        ("", "--strategy multiworker needs TF_CONFIG"),
        ({"cluster": {"worker": ["a:1"]}}, "--strategy multiworker needs TF_CONFIG"),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 5}}, "worker 5"),
    ],
)
def test_a_wrong_tf_config_stops_the_command_before_anything_is_written(tmp_path, task, words):
    process = start("train.py", tmp_path, *TRAIN.split()[1:], "--run-dir", "run", task=task)
    (output,) = outputs([process], timeout=60)
    assert process.returncode == 2 and len(output.splitlines()) == 1, output
    assert words in output and not (tmp_path / "run").exists()


def test_what_workers_send_each_other_comes_apart_again():
    sent = {2: b"", 0: b"1", 10: b"12345678", 1: b"123456789"}
    words = [workers._words(index, payload) for index, payload in sent.items()]
    assert {each.dtype for each in words} == {np.dtype(np.int64)}
    assert workers._parts(np.concatenate(words + words[-1:])) == sent


class Among(workers.Crew):
    """One of several processes that were all told the same, with what the others give."""

    def __init__(self, index, count, others=()):
        super().__init__(tf.distribute.get_strategy())
        self.index, self.count, self.others = index, count, others

    def gather(self, payload):
        parts = list(self.others)
        parts.insert(self.index, payload)
        return parts


def test_workers_that_were_told_different_things_are_refused():
    crew = Among(0, 2, [json.dumps({"--seed": 1, "--ema": [0.5]}).encode()])
    crew.agree({"--seed": 1, "--ema": (0.5,)})
    with pytest.raises(UsageError, match="--seed is 2 in worker 0 and 1 in worker 1"):
        crew.agree({"--seed": 2, "--ema": (0.5,)})


@pytest.mark.parametrize(
    ("size", "replicas", "among", "expected"),
    [
        (8, 2, 2, [[(0, 4)], [(4, 8)]]),
        (7, 2, 2, [[(0, 4)], [(4, 7)]]),
        (8, 4, 2, [[(0, 2), (2, 4)], [(4, 6), (6, 8)]]),
    ],
)
def test_each_process_takes_the_places_in_a_batch_of_its_replicas(size, replicas, among, expected):
    for index, own in enumerate(expected):
        crew = Among(index, among)
        crew.strategy = types.SimpleNamespace(num_replicas_in_sync=replicas)
        assert crew.shares(size) == own


@pytest.mark.parametrize(("count", "size"), [(1, 3), (7, 3), (9, 3), (10, 2), (3, 5)])
@pytest.mark.parametrize("among", [1, 2, 4])
def test_batches_drawn_in_turns_come_in_order(count, size, among):
    def draw(number, start):
        assert number <= size or among == 1
        return np.arange(start, start + number, dtype=np.uint8)[:, None]

    sent = []
    for index in range(1, among):
        other = Among(index, among)
        other.gather = sent.append
        assert other.draw(draw, count, 5, size) is None
    drawn = Among(0, among, sent).draw(draw, count, 5, size)
    np.testing.assert_array_equal(drawn[:, 0], np.arange(5, 5 + count))


def test_a_signal_to_any_of_the_processes_stops_at_the_next_safe_place():
    interrupt.install()
    told = []
    with pytest.raises(interrupt.Interrupted), interrupt.safe_places():
        interrupt.stop_here(lambda own: told.append(own) or False)
        os.kill(os.getpid(), signal.SIGTERM)  # raises nothing now
        interrupt.stop_here(lambda own: told.append(own) or False)  # others have their time
        interrupt.stop_here(lambda own: told.append(own) or True)
    assert told == [False, True, True] and interrupt.status() == 143


SIGNALLED = """
import os, signal
from ddpm_keras.app import devices, interrupt
interrupt.install()
devices.strategy("multiworker")
try:
    os.kill(os.getpid(), signal.SIGTERM)
    print("lost")
except KeyboardInterrupt:
    print(interrupt.status())
"""


def test_a_signal_comes_though_tensorflow_takes_those_of_workers():
    configuration = next(iter(configurations(1)))
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED],
        env=os.environ | {"TF_CONFIG": configuration, "CUDA_VISIBLE_DEVICES": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["143"], done.stderr[-2000:]


def met(places, seconds=20):
    """What `cluster.meet` ends with in each place: None, or an exception."""
    with ThreadPoolExecutor(len(places)) as threads:
        waiting = [threads.submit(cluster.meet, place, seconds) for place in places]
        return [each.exception() for each in waiting]


def places(count):
    hosts = tuple(f"localhost:{port}" for port in free_ports(count))
    return [cluster.Place(index, count, hosts) for index in range(count)]


def test_workers_wait_for_each_other_and_leave_the_port_free():
    three = places(3)
    assert met([three[2], three[0], three[1]]) == met(three) == [None] * 3


def test_a_worker_that_has_left_is_waited_for_again():
    chief, other = places(2)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(cluster.meet, chief, 20)
        port = int(chief.hosts[0].split(":")[1])
        while True:  # until the chief listens
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port)) as one:
                one.sendall(b"no number")
                break
        cluster.meet(other, 20)
        assert waiting.result() is None


@pytest.mark.parametrize(("came", "missing"), [((0, 1), 2), ((0, 2), 1), ((1, 2), 0)])
def test_a_worker_that_does_not_come_is_named(came, missing):
    three = places(3)
    found = met([three[index] for index in came], 1)
    assert all(isinstance(error, cluster.Missing) for error in found)
    words = f"worker {missing} (localhost"
    assert str(found[0]).startswith(words) and "has not come in 1 s" in str(found[0])
    with pytest.raises(cluster.WorkerLost, match="has not come.* on every worker: go on"):
        with workers.missed(three[0], lambda: "go on"):
            raise found[0]


def test_a_port_that_is_taken_is_refused():
    chief = places(2)[0]
    with socket.create_server(("", int(chief.hosts[0].split(":")[1]))):
        with pytest.raises(UsageError, match="TF_CONFIG: localhost:.* name another port"):
            cluster.meet(chief, 5)


def test_only_the_loss_of_a_worker_is_told_as_one():
    words = "on /job:worker/replica:0/task:0/device:CPU:0, from target /job:worker/task:3 while"
    lost = tf.errors.UnavailableError(None, None, words)
    with pytest.raises(cluster.WorkerLost, match="^worker 3 is gone.* on every worker: go on$"):
        with workers.missed(cluster.Place(0, 4), lambda: "go on"):
            raise lost
    with pytest.raises(tf.errors.UnavailableError), workers.missed(cluster.Place(), None):
        raise lost
