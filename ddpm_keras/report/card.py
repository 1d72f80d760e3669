"""The model card of a run, README.md: what the network beside it is, from the run's records alone.

Its head is the metadata that model hubs read; its end, a comment, tells whether it was changed.
"""

import hashlib

import yaml

from .. import checksums, files, names
from ..data.words import shown
from ..quality import metrics
from . import analysis, template, words

_SEAL = "\n<!-- written by ddpm-keras, and anew until it is changed: {} -->\n"
# Licences of the images that come with installed packages.
_LICENCES = {"digits": "cc-by-4.0"}


def write(run):
    """Writes README.md of a run that has its network; returns the path, or None without them.

    What somebody has changed in it since is kept, with a warning.

    Args:
        run: an `app.run_directory.Run`.

    Raises:
        UsageError: a file of the run is damaged.
    """
    if not (run.network.is_file() and run.config_file.is_file()):
        return None
    if is_changed(run.card):
        checksums.say_once(
            f"{run.card} was changed after it was written, and is kept; remove it to have it "
            "written anew."
        )
    else:
        page = text(analysis.RunRecord(run))
        files.write_text(run.card, page + _seal(files.encoded(page)))
    return run.card


def _seal(page):
    return _SEAL.format(hashlib.sha256(page).hexdigest())


def is_changed(path):
    """Whether a file is there that holds anything else than `write` has written."""
    content = path.read_bytes() if path.is_file() else b""
    page = content.rpartition(_SEAL.partition("{}")[0].encode())[0]
    return bool(content.strip()) and content != page + _seal(page).encode()


def text(record, weights=None, pretrained=None, licence=None):
    """The card of an `analysis.RunRecord`.

    Args:
        record: of the run.
        weights: the weight set that is shipped; None: the last average, as of every run.
        pretrained: what the model is called in the package, for the card of one that comes with it.
        licence: of the images, as model hubs call it; None: as the data set is known to have.
    """
    shipped = weights or record.config.get("weight_sets", [names.LAST])[-1]
    name = pretrained or record.name
    page = template.get("pretrained.md.j2" if pretrained else "card.md.j2").render(
        record=record,
        name=shown(name),
        options=record.config.get("options", {}),
        data=record.config.get("data", {}),
        shipped=shipped,
        protocol=_protocol(record, shipped),
        scores=_scores(record),
        sample=words.command(record, "sample", record.path, "--num", 64, "--out", "samples.png"),
    )
    head = yaml.safe_dump(metadata(record, name, licence), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{page}"


def _protocol(record, shipped):
    """How the weights that are shipped were made; and measured, if they were as they are."""
    step, measured = record.shipped_step, record.evaluation
    if measured and measured.step not in (None, step):
        return words.made(record, shipped, step)
    return words.protocol(record, shipped)


def metadata(record, name, licence=None):
    """The head of the card, a dict as the Hugging Face hub documents it; the model has a name."""
    data = record.config.get("data", {})
    known = None if data.get("path") else _LICENCES.get(data.get("name"))  # a folder is others'
    found = {
        "license": licence or known or "unknown",
        "library_name": "keras",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["diffusion", "ddpm", "ema", "ddpm-keras"],
    }
    results = list(_results(record, data))
    if results:
        found["model-index"] = [{"name": shown(name), "results": results}]
    return found


def _results(record, data):
    """An entry for each weight set that was measured: all of its numbers, and how they were got."""
    for name, measured in record.evaluation.weights.items() if record.evaluation else ():
        numbers = metrics.every_number().items()
        values = {key: each for key, each in numbers if getattr(measured, key) is not None}
        yield {
            "task": {"type": "unconditional-image-generation"},
            "dataset": {"name": shown(data.get("name", "images")), "type": "images"},
            "metrics": [
                {
                    "type": key,
                    "name": f"{record.metric if key == 'frechet' else each.title}, {name}",
                    "value": getattr(measured, key),
                }
                for key, each in values.items()
            ],
            "source": {"name": record.evaluation.way, "url": "evaluation.json"},
        }


def _scores(record):
    """Rows of a table of what was measured: the headings, then a row for each weight set."""
    if not record.evaluation:
        return []
    headings = record.evaluation.headings
    shown_numbers = metrics.shown_numbers()
    scales = {key: f" x {x.scale}" if x.scale != 1 else "" for key, x in shown_numbers.items()}
    rows = [["weights", *(headings[key] + scale for key, scale in scales.items())]]
    for name, measured in record.evaluation.weights.items():
        cells = (each.text(getattr(measured, key)) for key, each in shown_numbers.items())
        rows.append([name, *cells])
    return rows
