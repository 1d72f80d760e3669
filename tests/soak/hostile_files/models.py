"""`.keras` files and weights in HDF5: configurations that import, build or repeat, and links."""

import io
import json
import zipfile

import h5py
import numpy as np

from . import Case
from .arrays import ZEROS, zip_of


def _model(path):
    from ddpm_keras.app import models

    return models.read_model(path, "give another")


def _weights(path):
    import keras

    import ddpm_keras

    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(4, name="dense")(inputs))
    return ddpm_keras.EMAModel(network, ema=0.9).load_weights(path)


def h5(write=lambda file: None):
    """The bytes of an HDF5 file."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        write(file)
    return target.getvalue()


def small(file):
    """The weights of a dense layer."""
    group = file.create_group("layers/dense/vars")
    group["0"], group["1"] = np.zeros((4, 4), np.float32), np.zeros(4, np.float32)


def keras_file(config, weights=None, **members):
    """A .keras file; a configuration is a value, or text as it is."""
    text = config if isinstance(config, (str, bytes)) else json.dumps(config)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", h5(small) if weights is None else weights)
        for name, value in members.items():
            archive.writestr(name, value)
    return target.getvalue()


def layer(name, module="keras.layers", registered=None, /, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


def sequential(*layers):
    first = layer("InputLayer", batch_shape=[None, 4], dtype="float32", name="input")
    return layer("Sequential", "keras", name="net", layers=[first, *layers])


def unet(**changes):
    config = dict(image_shape=[8, 8, 1], base_channels=8, channel_multipliers=[1], num_res_blocks=1)
    config |= dict(attention_resolutions=[], name="unet") | changes
    return layer("UNet", "ddpm_keras.networks.unet", "ddpm_keras>UNet", **config)


def ddpm(network=None, **changes):
    config = dict(network=network or unet(), timesteps=10, schedule="linear", ema=None) | changes
    return layer("DDPM", "ddpm_keras.ddpm", "ddpm_keras>DDPM", **config)


LAMBDA = "4wEAAAAAAAAAAAAAAAQAAAADAAAA8wYAAACXAGQAUwApAU6pACkB2gF4cwEAAAAg"


def function(name, module):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


CONFIGS = {
    "a Lambda layer": sequential(
        layer("Lambda", function={"class_name": "__lambda__", "config": {"value": LAMBDA}})
    ),
    "a lambda in an initialiser": sequential(
        layer(
            "Dense",
            units=4,
            kernel_initializer={"class_name": "__lambda__", "config": {"value": LAMBDA}},
        )
    ),
    "a SavedModel": sequential(layer("TFSMLayer", filepath="/etc", call_endpoint="serve")),
    "a TorchModuleWrapper": sequential(layer("TorchModuleWrapper", module="x")),
    "a vocabulary in a file": sequential(layer("StringLookup", vocabulary="/etc/passwd")),
    "a module beside it": sequential(layer("run", "hostile_marker", "run")),
    "a module of a package": sequential(layer("system", "os", "system", command="touch trace")),
    "an activation of os": sequential(layer("Dense", units=4, activation=function("system", "os"))),
    "an activation that downloads": sequential(
        layer("Dense", units=4, activation=function("get_file", "keras.utils"))
    ),
    "an activation that loads": sequential(
        layer("Dense", units=4, activation=function("load_model", "keras.saving"))
    ),
    "a class of another kind": layer("Popen", "subprocess", "Popen", args=["touch", "trace"]),
    "a class without a name": layer(None, "keras.layers"),
    "a class whose name is a list": layer(["Dense"], "keras.layers"),
    "a module that is a dict": layer("Dense", {"a": 1}),
    "a type of TensorFlow": {
        "class_name": "__typespec__",
        "config": [],
        "spec_name": "system",
        "module": "os",
        "registered_name": "system",
    },
    "a dense layer of terabytes": sequential(layer("Dense", units=10**12)),
    "a dense layer of gigabytes": sequential(layer("Dense", units=10**8)),
    "two layers of gigabytes": sequential(
        layer("Dense", units=30_000), layer("Dense", units=30_000)
    ),
    "an embedding of terabytes": sequential(layer("Embedding", input_dim=10**10, output_dim=100)),
    "a UNet of terabytes": ddpm(unet(base_channels=2**20)),
    "a UNet of gigabytes": ddpm(unet(base_channels=2048)),
    "a UNet of a million blocks": ddpm(unet(num_res_blocks=10**6)),
    "a UNet of a million levels": ddpm(unet(channel_multipliers=[1] * 10**5)),
    "a UNet of a million classes": ddpm(unet(num_classes=10**9)),
    "a UNet of one million pixels a side": ddpm(
        unet(image_shape=[2**20, 2**20, 1], attention_resolutions=[2**20])
    ),
    "a billion timesteps": ddpm(timesteps=10**9),
    "timesteps beyond 64 bits": ddpm(timesteps=10**30),
    "a hundred thousand averages": ddpm(
        ema=layer(
            "EMA",
            "ddpm_keras.ema.averages",
            "ddpm_keras>EMA",
            decays={f"a{i}": 0.5 for i in range(100_000)},
        )
    ),
    "an average of a billion weights": ddpm(
        ema=layer(
            "EMA",
            "ddpm_keras.ema.averages",
            "ddpm_keras>EMA",
            decays={
                "a": layer("LAWA", "ddpm_keras.ema.windows", "ddpm_keras>LAWA", k=10**9, every=1)
            },
        )
    ),
    "a hundred thousand layers": sequential(
        *(layer("Activation", activation="relu", name=f"a{i}") for i in range(15_000))
    ),
    "a configuration of 40 MB": json.dumps(sequential()) + " " * 40_000_000,
    "a configuration nested deeply": "[" * 100_000 + "]" * 100_000,
    "models within each other": None,
    "a configuration that is a list": [],
    "a configuration that is no JSON": "{",
    "no configuration": "null",
    "digits without end": '{"class_name": ' + "9" * 10_000 + "}",
}


def _nested():
    value = layer("Dense", units=4)
    for index in range(300):
        value = sequential(value) | {"build_config": {"input_shape": [None, 4]}}
        value["config"]["name"] = f"net{index}"
    return value


CONFIGS["models within each other"] = _nested()


def _external(file):
    file["layers"] = h5py.ExternalLink("/etc/passwd", "/")


def _external_storage(file):
    group = file.create_group("layers/dense/vars")
    group.create_dataset("0", (4, 4), np.float32, external=[("/etc/passwd", 0, 64)])


def _soft(file):
    small(file)
    file["layers/dense/vars/2"] = h5py.SoftLink("/layers/dense/vars/0")


def _virtual(file):
    layout = h5py.VirtualLayout((4, 4), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (4, 4))
    file.create_group("layers/dense/vars").create_virtual_dataset("0", layout)


def _huge(**how):
    def write(file):
        file.create_group("layers/dense/vars").create_dataset("0", dtype=np.float32, **how)

    return write


def _bomb(file):
    group = file.create_group("layers/dense/vars")
    array = group.create_dataset(
        "0", (100, 2**20), np.float32, compression="gzip", compression_opts=1, chunks=(1, 2**20)
    )
    for row in range(100):
        array[row] = 0


def _within(file):
    small(file)
    file["layers/self"] = file["layers"]
    _huge(shape=(2**40,))(file.create_group("other"))


def _objects(file):
    file.create_group("layers/dense/vars").create_dataset("0", (4,), h5py.string_dtype())


def _many(file):
    small(file)
    for index in range(2000):
        file.create_dataset(f"a{index}", (2**20,), np.float32)


WEIGHTS = {
    "a link to another file": _external,
    "values in another file": _external_storage,
    "a link within the file": _soft,
    "values that are virtual": _virtual,
    "an array of terabytes": _huge(shape=(2**40,)),
    "an array of exabytes": _huge(shape=(2**30, 2**30)),
    "an array of gigabytes that is not there": _huge(shape=(2**29,), chunks=(2**20,)),
    "a chunk of gigabytes": _huge(shape=(4,), maxshape=(None,), chunks=(2**29,)),
    "400 MB of zeros": _bomb,
    "a group within itself": _within,
    "text": _objects,
    "thousands of arrays that are not there": _many,
}
ARCHIVES = {
    "a member above it": lambda: keras_file(sequential(), **{"../escaped": "x"}),
    "a member at the root": lambda: keras_file(sequential(), **{"/tmp/escaped": "x"}),
    "a member more": lambda: keras_file(sequential(), **{"assets/run.py": "x"}),
    "a configuration of 400 MB": lambda: zip_of(
        {"metadata.json": b"{}", "config.json": ZEROS, "model.weights.h5": h5(small)}
    ),
    "weights of 400 MB": lambda: zip_of(
        {
            "metadata.json": b"{}",
            "config.json": json.dumps(sequential()).encode(),
            "model.weights.h5": ZEROS,
        }
    ),
    "no weights": lambda: zip_of({"config.json": json.dumps(sequential()).encode()}),
    "weights that are text": lambda: keras_file(sequential(), b"text"),
    "no members": lambda: zip_of({}),
    "text": lambda: b"no model" * 100,
}


def _written(name, data):
    def make(folder):
        (folder / name).write_bytes(data())
        return folder / name

    return make


CASES = [
    *(
        Case(f"keras: {name}", _written("m.keras", lambda c=config: keras_file(c)), _model)
        for name, config in CONFIGS.items()
    ),
    *(
        Case(f"keras zip: {name}", _written("m.keras", data), _model)
        for name, data in ARCHIVES.items()
    ),
    *(
        Case(
            f"keras weights: {name}",
            _written("m.keras", lambda w=write: keras_file(sequential(), h5(w))),
            _model,
        )
        for name, write in WEIGHTS.items()
    ),
    *(
        Case(f"h5: {name}", _written("m.weights.h5", lambda w=write: h5(w)), _weights)
        for name, write in WEIGHTS.items()
    ),
    Case("h5: nothing", _written("m.weights.h5", bytes), _weights),
    Case("h5: no HDF5", _written("m.weights.h5", lambda: b"text" * 100), _weights),
    Case("h5: a signature alone", _written("m.weights.h5", lambda: b"\x89HDF\r\n\x1a\n"), _weights),
]
