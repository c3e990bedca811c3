"""The documentation as pages that need no server, for `make site`: the READMEs and the Python API, to a folder.

Whatever a page links to within the repository comes along, Markdown as a page, so that links lead where they do there.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pdoc.doc
import pdoc.render
import pdoc.render_helpers

import mobileprune
import mobileprune.api

ROOT = Path(__file__).parents[1]
API = Path("api/index.html")
BAR = {"mobileprune": "index.html", "The artifact": "export/index.html", "Benchmarks": "benchmarks/index.html"}
LINK = re.compile(r'(?<=[fc]=")[^":#]+(?=["#])')
STYLE = """body { max-width: 72rem; margin: auto; padding: 1rem; font: 16px/1.6 system-ui; color-scheme: light dark }
pre, table { overflow-x: auto; display: block; font-size: .9em } pre { padding: .8rem; border: 1px solid #8886 }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #8886; vertical-align: top } img { max-width: 100% }"""


def place(source: Path) -> Path:
    """Where a file of the repository is put: README.md is the page of its folder."""
    if source.name == "README.md":
        return source.with_name("index.html")
    return source.with_name(f"{source.name}.html") if source.suffix == ".md" else source  # results have a .html too


def bar(page: Path) -> str:
    links = {**BAR, "Python API": API.as_posix()}
    return " · ".join(f"[{words}]({os.path.relpath(there, page.parent)})" for words, there in links.items()) + "\n\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def pages(site: Path) -> None:
    """README.md, and all that can be reached from it."""
    found = [Path("README.md")]
    for source in found:  # grows meanwhile
        if source.suffix != ".md":
            (site / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, site / source)
            continue

        def moved(link: re.Match[str], source: Path = source) -> str:
            there = Path(os.path.normpath(source.parent / link[0]))
            there = there / "README.md" if (ROOT / there).is_dir() else there
            if there not in found:
                found.append(there)
            return os.path.relpath(place(there), source.parent)

        body = LINK.sub(moved, pdoc.render_helpers.to_html((ROOT / source).read_text("utf-8")))
        head = f'<meta charset="utf-8"><title>{source}</title><meta name="viewport" content="width=device-width">'
        top = pdoc.render_helpers.to_html(bar(place(source)))
        write(site / place(source), f"<!doctype html><html lang=en>{head}<style>{STYLE}</style>{top}{body}</html>\n")


def api(site: Path) -> None:
    """The names of ``mobileprune.__all__``, as the functions that they stand for."""
    public = ModuleType("mobileprune", bar(API) + (mobileprune.api.__doc__ or ""))
    names = {name: inspect.unwrap(getattr(mobileprune, name)) for name in mobileprune.__all__}
    public.__dict__.update(names, __all__=list(names))
    pdoc.render.configure(docformat="restructuredtext", search=False, show_source=False)
    module = pdoc.doc.Module(public)
    write(site / API, pdoc.render.html_module(module, {"mobileprune": module}))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pages(folder)
    api(folder)
