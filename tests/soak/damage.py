"""Damages files of a run one at a time, and has the commands read them.

    python tests/soak/damage.py                      # 300 places
    python tests/soak/damage.py --places 30          # fewer
    python tests/soak/damage.py --part 2 --parts 6   # a sixth of them

A place is a bit that is flipped, a file cut short, or an empty one, in turn over every file of a
run and of the cache, or a picture, snapshot or event file that is gone. Each is read by the
commands that read such a file, in turn. It has to be found: the file is named in one line, with
exit status 2, or 0 where the command goes on without it; where the file is made by the command
anew, it has to be whole then. Exits with 1 if one is not.

A command runs in a process forked of one that has imported everything, and computed nothing.
"""

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}

TRAIN = (
    "train.py --run-dir run --steps 8 --epoch-steps 4 --log-every-steps 2 --batch-size 8 "
    "--timesteps 20 --base-channels 4 --channel-multipliers 1 --attention-resolutions --ema 0.9 "
    "--ema-schedule constant --warmup-steps 2 --validation-images 4 --num-images 8 "
    "--sampling-steps 3 --snapshots 4 --quality-every-epochs 0"
)
TUNE = "evaluate.py run --num-images 8 --steps 3 --tune-ema"
RESUME = "train.py --resume --run-dir run --no-evaluate"
SAMPLE = "sample.py run --num 2 --steps 2 --out new.npz"
EVALUATE = "evaluate.py run --num-images 8 --steps 3 --weights raw"
REPORT = "report run"
# Which commands read a file, by the pattern of its path; the first that fits.
READERS = {
    "run/config.json": (RESUME, SAMPLE, EVALUATE, REPORT),
    "run/checkpoints/step-*4*": (RESUME, f"{SAMPLE} --step 4", f"{EVALUATE} --step 4"),
    "run/checkpoints/*": (RESUME,),
    "run/history.csv": (RESUME, REPORT, EVALUATE),
    "run/trajectory.npz": (RESUME, REPORT, EVALUATE),
    "run/snapshots/*": (RESUME, f"{SAMPLE} --decay 0.8", f"{EVALUATE} --sigma-rel 0.1"),
    "run/samples/epoch-*-*.png": (RESUME, REPORT),
    "run/samples/real.png": (REPORT, RESUME),
    "run/samples/*": (RESUME,),
    "run/model.keras": (SAMPLE, RESUME, EVALUATE),
    "run/network-ema.keras": (RESUME, SAMPLE.replace("run ", "run/network-ema.keras ", 1)),
    "run/evaluation.json": (REPORT, RESUME, EVALUATE),
    "run/evaluation/nearest-*": (REPORT, RESUME),
    "run/evaluation/trials-*": (RESUME, TUNE),
    "run/evaluation/influences-*": (RESUME, EVALUATE),
    "run/tensorboard/*": (RESUME,),
    "run/tensorboard/*/*": (RESUME,),
    "run/README.md": (REPORT,),
    "run/report*": (REPORT,),
    "run/report/*": (REPORT,),
    "cache/*": (EVALUATE,),
}
MADE_ANEW = ("run/README.md", "run/report*", "run/report/*")  # by whatever reads the run
DAMAGES = ("bit", "bit", "cut", "gone", "bit", "cut", "bit", "empty")
MISSED = ("run/samples/*", "run/snapshots/*", "run/tensorboard/*/*")  # where they are gone


def prepare():
    """Imports what takes long; nothing that starts TensorFlow's threads, which no fork keeps."""
    os.environ["DDPM_KERAS_LAZY"] = "1"
    import sklearn.datasets  # noqa: F401

    import evaluate  # noqa: F401
    import sample  # noqa: F401
    import train  # noqa: F401

    os.environ.pop("DDPM_KERAS_LAZY")
    from ddpm_keras import quality, report  # noqa: F401
    from ddpm_keras.app import measuring, modes, stored, table, training, tuning  # noqa: F401


def command(line, folder):
    """(exit status, output) of a command in a folder; the status is negative for a signal."""
    name, *arguments = line.split()
    out = folder / "output.txt"
    process = os.fork()
    if not process:
        _run(name, arguments, folder, out)
    deadline = time.monotonic() + 200
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(status), out.read_text(errors="replace")


def _run(name, arguments, folder, out):
    status = 70
    try:
        os.chdir(folder)
        handle = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ["DDPM_KERAS_CACHE"] = str(folder / "cache")
        sys.argv = [name, *arguments]
        if name == "report":
            from ddpm_keras.app import report as module
        else:
            module = __import__(name.removesuffix(".py"))
        status = module.console.run(module.main)
        sys.stdout.flush()
    finally:
        os._exit(status)


def make(folder):
    """A run that was trained, measured and searched, in a folder with its cache."""
    folder.mkdir(parents=True, exist_ok=True)
    for line in (TRAIN, TUNE):
        status, output = command(line, folder)
        if status:
            raise SystemExit(f"{line}: {status}\n{output}")


def places(folder, count):
    """List of (file, damage, command), every file in turn."""
    choice = random.Random(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [(path.relative_to(folder), _readers(path.relative_to(folder))) for path in files]
    files = [(path, readers) for path, readers in files if readers]
    found, turn = [], collections.Counter()
    while len(found) < count:
        path, readers = files[len(found) % len(files)]
        damage = DAMAGES[(turn[path] + len(found)) % len(DAMAGES)]
        if damage == "gone" and not any(map(path.match, MISSED)):
            damage = "bit"
        found.append((path, damage, choice.random(), readers[turn[path] % len(readers)]))
        turn[path] += 1
    return found


def _readers(path):
    fitting = (readers for pattern, readers in READERS.items() if path.match(pattern))
    return next(fitting, ())


def harm(path, damage, where):
    """Damages a file at a place, which is given as a share of its length; says how."""
    if damage == "gone":
        path.unlink()
        return damage
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    if damage == "bit":
        data[place] ^= 1 << int(where * 1e6) % 8
    else:
        del data[place if damage == "cut" else 0 :]
    path.write_bytes(data)
    return f"{damage} at {place}"


def judge(path, status, output, folder):
    """What became of a damaged file: "found", or what is wrong."""
    if "Traceback" in output or "nobody foresaw" in output or status not in (0, 2):
        return "traceback" if status != 0 or "Traceback" in output else "found"
    called = path.name.split(".")[0] if "checkpoints" in path.parts else path.name
    called = called.removesuffix(".json") if path.match("*.npy.json") else called
    words = ("damaged", "cannot be read", "is no ", "has lost ", "was changed ")
    lines = [line for line in output.splitlines() if any(word in line for word in words)]
    names = [called, f"tensorboard/{path.parent.name},"]  # a folder of event files is one
    said = [line for line in lines if any(name in line for name in names)]
    if status == 2:
        return "found" if len(said) == 1 else "refused, but not in one line that names the file"
    if said:
        return "found" if len(said) == 1 else "said more than once"
    if any(path.match(pattern) for pattern in MADE_ANEW):
        return "made anew" if _is_whole(folder / path) else "left damaged"
    return "silent"


def _is_whole(path):
    with contextlib.suppress(ImportError):
        from ddpm_keras import checksums

        return path.stat().st_size > 0 and checksums.damage(path) is None
    return path.stat().st_size > 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=300)
    parser.add_argument("--parts", type=int, default=1, help="into which the places are divided")
    parser.add_argument("--part", type=int, default=1, help="that is run, from 1 on")
    parser.add_argument("--run", type=Path, help="a folder to make the run in, or to take it from")
    options = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as temporary:
        whole, folder = options.run or Path(temporary) / "whole", Path(temporary) / "damaged"
        if not (whole / "run").is_dir():
            make(whole)
        results = collections.Counter()
        for path, damage, where, line in places(whole, options.places)[
            options.part - 1 :: options.parts
        ]:
            shutil.copytree(whole, folder)
            how = harm(folder / path, damage, where)
            status, output = command(line, folder)
            result = judge(path, status, output, folder)
            results[result] += 1
            if result not in ("found", "made anew"):
                last = " | ".join(output.strip().splitlines()[-3:])
                print(f"{result}: {path}, {how}, {line}: {status}: {last[:300]}", flush=True)
            shutil.rmtree(folder)
    print(", ".join(f"{result} {number}" for result, number in sorted(results.items())))
    return 0 if results.keys() <= {"found", "made anew"} else 1


if __name__ == "__main__":
    sys.exit(main())
