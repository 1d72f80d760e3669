"""Reads files that ask for more than they hold, or for code, and says what it cost.

    python tests/soak/hostile.py              all of them
    python tests/soak/hostile.py npz keras    those with one of these words in their names
    python tests/soak/hostile.py --every 8    every eighth

Each is made here and read by the reader that a user would call, in a process of its own, which is
forked once everything is imported. It must be refused in one line, run nothing, take at most 256
MiB above what the process had before, and 5 seconds of processor time.
"""

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[2]))

FAMILIES = ("pickles", "arrays", "models", "texts", "pictures")
MOST_MEMORY, MOST_SECONDS = 256 * 2**20, 5
KILLED_ABOVE = 2**31  # bytes, and seconds of the clock, at which a reader is stopped
KILLED_AFTER = 60
MARKER = "import pathlib\npathlib.Path('trace').touch()\nrun = print\n"


def cases():
    """Every `Case`."""
    families = (importlib.import_module(f"hostile_files.{name}") for name in FAMILIES)
    return [case for family in families for case in family.CASES]


def prepare():
    """Imports what the readers need, so that only reading is measured; starts no threads."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    warnings.simplefilter("ignore")
    for name in (
        *("ddpm_keras", "ddpm_keras.data", "ddpm_keras.quality", "ddpm_keras.interop"),
        *("ddpm_keras.app.models", "ddpm_keras.app.run_directory", "ddpm_keras.app.config_file"),
        *("ddpm_keras.app.options", "ddpm_keras.ema.snapshots", "ddpm_keras.posthoc"),
        *("ddpm_keras.interop.weight_files", "ddpm_keras.quality.extractors.classifier"),
        *("tensorflow_datasets", "PIL.Image", "yaml", "h5py", "safetensors.numpy"),
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from PIL import Image

    Image.init()


def check(case):
    """What is wrong with how a case is read, a list of words, and what it cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = case.make(_made(folder / "given"))
        (folder / "given" / "hostile_marker.py").write_text(MARKER) if given != folder else None
        report = folder / "report.json"
        pid = os.fork()
        if pid == 0:
            _read_and_leave(case, given, folder / "given", report)
        killed = _watch(pid)
        if not report.exists():
            return [killed or "the process died"], {}
        result = json.loads(report.read_text())
        traces = [path for path in folder.rglob("trace")] + list(folder.glob("escaped*"))
    wrong = [result["wrong"]] if result["wrong"] else []
    wrong += ["code ran or a file was written elsewhere"] if traces else []
    wrong += ["too much memory"] if result["memory"] > MOST_MEMORY else []
    wrong += ["too slow"] if result["seconds"] > MOST_SECONDS else []
    return wrong, result


def _made(folder):
    folder.mkdir()
    return folder


def _read_and_leave(case, given, folder, report):
    """In the process of its own: reads, and writes down how that ended."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # where code that a file names would be found
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    base, begin = _reset_peak(), time.process_time()
    wrong = said = ""
    try:
        case.read(given)
        wrong = "it was read"
    except (ValueError, OSError) as error:
        said = str(error)
        wrong = "" if len(said.strip().splitlines()) == 1 else f"not one line: {said[:200]}"
        wrong = wrong or (f"{len(said)} characters" if len(said) > 1000 else "")
    except BaseException as error:
        said = repr(error)[:300]
        wrong = f"{said[:100]}\n{traceback.format_exc()[-600:]}"
    seconds = time.process_time() - begin
    result = {"wrong": wrong, "said": said[:300], "seconds": seconds, "memory": _peak() - base}
    report.write_text(json.dumps(result))
    os._exit(0)


def _reset_peak():
    """The memory that the process has now, from which its peak is counted."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _peak():
    return _memory("VmHWM")


def _memory(field, pid="self"):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _watch(pid):
    """Waits for a process; says why it was stopped, if it was."""
    begin, killed = time.monotonic(), None
    base = _memory("VmRSS", pid)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.005)
        with contextlib.suppress(OSError):
            if _memory("VmRSS", pid) - base > KILLED_ABOVE:
                killed = "stopped above 2 GiB"
            elif time.monotonic() - begin > KILLED_AFTER:
                killed = "stopped after a minute"
            if killed:
                os.kill(pid, signal.SIGKILL)
    return killed


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(argv)
    chosen = [
        case
        for case in cases()
        if not options.words or any(word in case.name for word in options.words)
    ][:: options.every]
    prepare()
    failed, most = 0, {"seconds": 0, "memory": 0}
    for case in chosen:
        wrong, result = check(case)
        failed += bool(wrong)
        most = {key: max(value, result.get(key, 0)) for key, value in most.items()}
        if wrong or options.verbose:
            cost = f"{result.get('seconds', 0):.1f} s, {result.get('memory', 0) / 2**20:.0f} MiB"
            print(f"{case.name}: {'; '.join(wrong) or 'refused'} ({cost}) {result.get('said')}")
    print(
        f"{len(chosen)} hostile files, {failed} failed; at most {most['seconds']:.1f} s and "
        f"{most['memory'] / 2**20:.0f} MiB"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
