"""Pages from templates in this folder; they need no network."""

import time
from typing import Any

import nemo


def rendered(template: str, **values: Any) -> str:
    """A page. Whatever comes from files is escaped: the template engine does so with every value."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nemo.collections.nlp.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = time.strftime("%Y-%m-%d %H:%M")
    return environment.get_template(template).render(version=nemo.__version__, written=written, **values)
