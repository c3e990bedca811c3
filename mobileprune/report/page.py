"""Pages from templates: every value is escaped, the style is inside, nothing is asked for outside the page."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2

MARKS = {"pass": "✓", "fail": "✕", "inconclusive": "?"}


def render(template: str, **content: Any) -> str:
    """``templates/<template>.html.j2``, filled in."""
    return _environment().get_template(f"{template}.html.j2").render(content)


def _environment() -> jinja2.Environment:
    folder = files("mobileprune.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["marks"] = MARKS
    return environment
