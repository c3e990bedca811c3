"""Pages from templates: every value is escaped, the style is inside, nothing is asked for outside the page."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2

MARKS = {"pass": "✓", "fail": "✕", "inconclusive": "?"}


HERE = "mobileprune.report"


def render(template: str, package: str = HERE, **content: Any) -> str:
    """``templates/<template>.html.j2`` of ``package``, filled in; what it builds on may be of this package."""
    return _environment(package).get_template(f"{template}.html.j2").render(content)


@lru_cache
def _environment(package: str) -> jinja2.Environment:
    folders = [files(name) / "templates" for name in dict.fromkeys((package, HERE))]

    def source(name: str) -> str | None:
        found = next((file for folder in folders if (file := folder / name).is_file()), None)
        return found.read_text("utf-8") if found else None

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["marks"] = MARKS
    return environment
