"""The texts that reports are made of, in the folder `templates`."""

import functools

import jinja2
import markupsafe

from . import words


def get(name):
    """The template of this name, such as "report.html.j2"; what it shows in HTML is escaped."""
    return _environment().get_template(name)


@functools.cache
def _environment():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm_keras.report"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = words.number
    environment.globals["source"] = functools.partial(_source, environment)
    return environment


def _source(environment, name):
    """A file of that folder as it is, for a page to hold."""
    return markupsafe.Markup(environment.loader.get_source(environment, name)[0])
