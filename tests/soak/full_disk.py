"""Trains on disks that get full, and looks whether all that was saved is still there.

    python tests/soak/full_disk.py                # 30 disks of other sizes (Linux; root or unshare)
    python tests/soak/full_disk.py --limits 3     # no disk: files that may not grow any further

Each disk, a tmpfs, has room for less than the training leaves. It has to end with status 2 and one
line; every file that is there has to be the one of a training with room enough; and with more room
the training has to go on to the same end. Exits with 1 where one does not.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import runs  # noqa: E402

KEPT = ["--keep", "99"]  # so that every checkpoint can be compared
RETURNED = 75  # of unshare where it may not


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disks", type=int, default=30)
    parser.add_argument("--limits", type=int, default=0)
    options = parser.parse_args(arguments)
    if not options.limits and not can_mount():
        if os.environ.get("SOAK_UNSHARED") or not shutil.which("unshare"):
            print("No disk can be mounted here (root or unshare -rm is needed): left out.")
            return 0
        again = ["unshare", "-rm", sys.executable, *sys.argv]
        return subprocess.run(again, env=os.environ | {"SOAK_UNSHARED": "1"}).returncode
    runs.prepare()
    with tempfile.TemporaryDirectory() as folder:
        return soak(Path(folder), options)


def can_mount():
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True)
        return not done.returncode and not subprocess.run(["umount", folder]).returncode


def soak(folder, options):
    whole = folder / "whole"
    if runs.wait(runs.start(whole, [*runs.FRESH, *KEPT])):
        sys.exit(runs.output(whole))
    files = [path for path in (whole / "run").rglob("*") if path.is_file()]
    sizes = sorted({path.stat().st_size for path in files})
    number, failures = options.limits or options.disks, 0
    for i in range(number):
        if options.limits:
            room = sizes[(i + 1) * len(sizes) // (number + 1)] - 1
            found = limited(folder / f"limit-{i}", whole, room)
        else:
            room = (i + 0.5) / number * sum(path.stat().st_size for path in files)
            found = on_disk(folder / f"disk-{i}", whole, int(room) // 4096 * 4)
        print(f"{room / 1024:,.0f} KiB: {'; '.join(found) or 'nothing lost'}", flush=True)
        failures += bool(found)
    print(f"{number} full disks, {failures} of which cost something.")
    return bool(failures)


def limited(folder, whole, size):
    """What is wrong after a training in which no file may be larger than a size, and after it."""
    started = runs.start(folder, [*runs.FRESH, *KEPT], lambda: limit_files(size))
    return [*ended(folder, whole, runs.wait(started)), *finished(folder, whole)]


def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def on_disk(folder, whole, kilobytes):
    """What is wrong after a training on a disk that gets full, and after it with more room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "none", str(folder), "-o"]
    subprocess.run([*mount, f"size={kilobytes}k"], check=True)
    try:
        started = runs.start(folder, [*runs.FRESH, *KEPT])
        found = ended(folder, whole, runs.wait(started))
        subprocess.run([*mount, "remount,size=1g"], check=True)
        return [*found, *finished(folder, whole)]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def ended(folder, whole, status):
    """What is wrong with how a training has ended that had no room, and with what it has left."""
    lines = runs.output(folder).splitlines()
    said = [line for line in lines if line.startswith("train.py: ")]
    found = [f"status {status}"] * (status != 2) + [f"said {said}"] * (len(said) != 1)
    found += ["a traceback"] * ("Traceback" in runs.output(folder))
    if (folder / "run").exists():
        there, right = runs.contents(folder / "run"), runs.contents(whole / "run")
        for each in (there, right):  # a training with no room need not be finished
            each.get("config.json", {}).pop("finished", None)
        for name in there.keys() & right.keys():
            _leave_out_what_is_unfinished(there[name], right[name])
        grown = {
            name for name in there if name.endswith(("events", "history.csv", "trajectory.npz"))
        }
        found += [
            f"{name} is left" for name in there.keys() - right.keys() if there[name] != "empty"
        ]
        same = there.keys() & right.keys() - grown
        found += [f"{name} differs" for name in same if there[name] != right[name]]
    return found


def _leave_out_what_is_unfinished(record, right):
    """Of a checkpoint whose epoch has still an end to come, what it will say after that."""
    if isinstance(record, dict) and record.get("unfinished") is not None:
        for each in (record, right):
            for key in ("unfinished", "files", "rows"):
                each.pop(key)


def finished(folder, whole):
    """What is wrong after going on, or beginning anew where nothing had begun."""
    begun = (folder / "run" / "config.json").exists()
    status = runs.wait(runs.start(folder, runs.RESUMED if begun else [*runs.FRESH, *KEPT]))
    if status:
        return [f"going on has status {status}: {runs.output(folder)[-300:]}"]
    return runs.differences(whole / "run", folder / "run")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
