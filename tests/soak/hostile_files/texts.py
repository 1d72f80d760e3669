"""JSON, YAML and CSV: nested, repeated, endless, and with numbers that are none."""

import json

from . import Case

JSON = {
    "nested deeply": "[" * 200_000 + "]" * 200_000,
    "dicts nested deeply": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "40 MB": '{"a": "' + "x" * 40_000_000 + '"}',
    "millions of lists": '{"a": [' + "[]," * 5_000_000 + "[]]}",
    "a name twice": '{"a": 1, "a": 2}',
    "NaN": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "a number beyond all": '{"a": 1e999}',
    "digits without end": '{"a": ' + "9" * 100_000 + "}",
    "a list": "[1, 2]",
    "a number": "7",
    "nothing": "",
    "a zero byte": '{"a": "\0"}',
    "a lone surrogate as a name": '{"\\ud800": ' + "[" * 100_000,
    "a cut": '{"a": [1, 2',
}
BYTES = {"no UTF-8": b'{"a": "\xff\xfe"}', "UTF-16": '{"a": 1}'.encode("utf-16")}


def _diffusers(path):
    from ddpm_keras.interop import load_diffusers

    (path.parent / "diffusion_pytorch_model.bin").touch()  # read after the configuration
    return load_diffusers(path.parent)


def _index(path):
    from ddpm_keras.interop import weight_files

    return weight_files.read(path, 2**30)


def _scheduler(path):
    from ddpm_keras.interop import load_diffusers_schedule

    return load_diffusers_schedule(path.parent)


def _options_file(path):
    from ddpm_keras.app import config_file
    from ddpm_keras.app.options import TrainOptions, stored_options

    return config_file.read(path, TrainOptions, stored_options)


# The file that each reader looks for.
READERS = {
    "config.json of diffusers": (_diffusers, "config.json"),
    "index of shards": (_index, "diffusion_pytorch_model.safetensors.index.json"),
    "scheduler": (_scheduler, "scheduler_config.json"),
    "options": (_options_file, "options.json"),
}
INDEX = {
    "a file above it": {"a": "../model.safetensors"},
    "a file elsewhere": {"a": "/etc/passwd.safetensors"},
    "a file of another kind": {"a": "model.pickle"},
    "no name": {"a": {"b": 1}},
    "a file that is not there": {f"{i}": "model.safetensors" for i in range(50_000)},
}
YAML = {
    "lines that laugh": "a: &a [x, x]\n"
    + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    ),
    "an alias": "steps: &a 5\nbatch_size: *a\n",
    "a value within itself": "ema: &a [*a]\n",
    "a tag of Python": "steps: !!python/object/apply:os.system ['touch trace']\n",
    "a module of Python": "steps: !!python/module:hostile_marker\n",
    "a new object": "steps: !!python/object/new:os.system ['touch trace']\n",
    "lists nested deeply": "ema: " + "[" * 50_000,
    "a name twice": "steps: 5\nsteps: 6\n",
    "40 MB": "a: b\n" * 8_000_000,
    "a megabyte of names": "".join(f"a{i}: b\n" for i in range(100_000)),
    "a list": "- steps\n",
    "digits without end": "steps: " + "9" * 100_000 + "\n",
    "a merge": "<<: &a {steps: 5}\n<<: *a\n",
    "no text": "\0\1\2",
    "a name that is a list": "? [a, b]\n: c\n",
    "two documents": "steps: 5\n---\nsteps: 6\n",
}


def _written(name, text):
    def make(folder):
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return path

    return make


CASES = [
    *(
        Case(f"JSON of {kind}: {name}", _written(file, text), reader)
        for kind, (reader, file) in READERS.items()
        for name, text in {**JSON, **BYTES}.items()
        if kind != "scheduler" or name not in ("a zero byte",)
    ),
    *(
        Case(
            f"index: {name}",
            _written(READERS["index of shards"][1], json.dumps({"weight_map": places})),
            _index,
        )
        for name, places in INDEX.items()
    ),
    *(
        Case(f"YAML: {name}", _written("options.yaml", text), _options_file)
        for name, text in YAML.items()
    ),
]
