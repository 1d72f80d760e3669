"""Reads files that a fuzzer makes of good ones, guided by the code that they reach (atheris).

    python tests/soak/fuzz.py                 all readers, a minute in all
    python tests/soak/fuzz.py --minutes 30    for longer
    python tests/soak/fuzz.py torch yaml      these readers

Whatever a file holds, a reader may only return, or raise a `ValueError` or an `OSError` of one
line; within 5 seconds, and within 256 MiB above what the process has. The file that makes it do
otherwise is kept in build/fuzz; the next run begins with the files that the last one found.
"""

import argparse
import contextlib
import functools
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["DDPM_KERAS_LAZY"] = "1"  # without TensorFlow, most readers answer in a millisecond

from fuzz_readers import READERS, ROOT  # noqa: E402

BUILD = ROOT / "build" / "fuzz"
MOST_MEMORY, MOST_SECONDS = 256, 5  # MiB


def fuzz(name, seconds):
    """Runs one reader in this process, which the fuzzer ends."""
    import atheris

    reader, corpus = READERS[name], BUILD / "corpus" / name
    with atheris.instrument_imports(include=["ddpm_keras"]):
        for module in reader.imports:
            with contextlib.suppress(ImportError):
                importlib.import_module(f"ddpm_keras.{module}")
    _write_seeds(reader, corpus)
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=shared if shared.is_dir() else None))

    reader.beside(folder)
    for data in reader.good():  # what the first reading of a good file imports is no growth
        reader.check(folder, data)
    flags = [f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}", "-max_len=65536"]
    flags += [f"-rss_limit_mb={_megabytes() + MOST_MEMORY}", f"-artifact_prefix={BUILD}/{name}-"]
    flags += ["-verbosity=0", "-print_final_stats=1"]
    check = functools.partial(reader.check, folder)
    atheris.Setup([sys.argv[0], *flags, str(corpus)], check, enable_python_coverage=True)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_seeds(reader, corpus):
    corpus.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(reader.good()):
        (corpus / f"seed-{index}").write_bytes(data)


def _megabytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="for all readers together")
    parser.add_argument("--seconds-alone", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    unknown = sorted(set(options.readers) - READERS.keys())
    if unknown:
        parser.error(f"there is no reader {unknown[0]}; they are {', '.join(READERS)}")
    if options.seconds_alone:
        fuzz(options.readers[0], options.seconds_alone)
        return 0
    names = options.readers or list(READERS)
    seconds = max(1, round(60 * options.minutes / len(names)))
    return 1 if any([_failed(name, seconds) for name in names]) else 0


def _failed(name, seconds):
    """Fuzzes one reader in a process of its own, and says how it went."""
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, name, "--seconds-alone", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
    output = done.stdout + done.stderr
    runs = [line.split()[-1] for line in output.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {runs[0] if runs else 'no'} files", "failed" if done.returncode else "right")
    if done.returncode:
        print(output[-3000:], flush=True)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
