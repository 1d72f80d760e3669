"""Options of a training from a file, in YAML or JSON: `--config FILE`."""

import dataclasses
import json
import re
from pathlib import Path

import yaml

from .. import checksums
from ..errors import UsageError
from ..reading import bounds
from .parser import fields_of, flag, former_names, meant, read_given

# What belongs to one run alone, and is left in its config.json; no other file may say it.
_OF_ONE_RUN = ("config", "resume")
_NOT_OF_JSON = ("int", "float", "timestamp")  # kinds that YAML finds in plain text
_NUMBERS = {
    "int": r"-?(0|[1-9]\d*)",
    "float": r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?",
}
_OF_YAML = 16  # times that its text takes longer to read than JSON


def read(path, options, of_run):
    """The options in a file, checked as a command line is.

    Args:
        path: a YAML or JSON file with a value for each option that it names, or the config.json of
            a run, whose directory and way of starting are left to the new run.
        options: their dataclass.
        of_run: makes it of the options in a config.json.

    Returns:
        (dict of options, whether the file is a run's config.json and so names all of them).

    Raises:
        UsageError: the file cannot be read, or holds an unknown option or a wrong value.
    """
    try:
        values = _load(Path(path))
        if isinstance(values.get("options"), dict) and "versions" in values:
            _check_damage(path)
            stored = dataclasses.asdict(of_run(values["options"]))
            return {k: v for k, v in stored.items() if k not in (*_OF_ONE_RUN, "run_dir")}, True
        return read_given(options, _with_known_names(values, options)), False
    except UsageError as error:
        raise UsageError(f"{flag('config')} {path}: {error}") from None


def _check_damage(path):
    reason = checksums.damage(path)
    if reason:
        raise UsageError(f"it is damaged ({reason}).")


def _load(path):
    """What a file holds, a dict."""
    try:
        is_json = path.suffix == ".json"
        bounds.check_text(path.stat().st_size * (1 if is_json else _OF_YAML))
        text = path.read_text(encoding="utf-8-sig")  # as editors of Windows begin it
    except OSError as error:
        raise UsageError(f"{error.strerror}; name a YAML or JSON file of options.") from None
    except UnicodeDecodeError:
        raise UsageError("it is no text in UTF-8; name a YAML or JSON file of options.") from None
    except ValueError as error:
        raise UsageError(f"{str(error).rstrip('.')}.") from None
    try:
        if is_json:
            values = json.loads(text, object_pairs_hook=_once)
        else:
            values = yaml.load(text, _Loader)  # a SafeLoader
    except UsageError:
        raise
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"it is no YAML or JSON ({reason}).") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UsageError("it holds no options; write a line for each, such as steps: 5000.")
    return values


class _Loader(yaml.SafeLoader):
    """Reads plain YAML: no name twice, and no value that stands in several places.

    Numbers are those of JSON. What YAML 1.1 takes for others (010 for 8, 1:30 for 90) stays text,
    which is read as on the command line.
    """

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in _NOT_OF_JSON]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise UsageError("it refers to a value by an alias; write the value out.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        return _once([self.construct_object(each, True) for each in pair] for pair in node.value)


for _kind, _form in _NUMBERS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"{_form}$"), list("-0123456789")
    )


def _once(pairs):
    """A dict of pairs, none of which has the name of another."""
    result = {}
    for name, value in pairs:
        if name in result:
            raise UsageError(f"it gives {name} twice; give it once.")
        result[name] = value
    return result


def _with_known_names(values, options):
    """The values by the names of fields; on the command line `batch_size` is `--batch-size`."""
    known = [name for name in fields_of(options) if name not in _OF_ONE_RUN]
    result, older = {}, former_names(options)
    for given, value in values.items():
        name = given.replace("-", "_")
        name = older.get(name, name)
        if name not in known:
            raise UsageError(_unknown(given, known))
        if name in result:
            raise UsageError(f"it gives {name} twice; give it once.")
        result[name] = value
    return result


def _unknown(name, known):
    if name in _OF_ONE_RUN:
        return f"{name} is for the command line; leave it out of the file."
    close = meant(name, known)
    cure = f"did you mean {close}?" if close else "the names are those of --help."
    return f"it holds an unknown option {name!r}; {cure}"
