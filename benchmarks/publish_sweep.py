"""A sweep's result as a committed one: results/<date>-<machine>-<versions>-sweep-NAME.json, results/sweep-NAME.md and
its page, sweep-NAME.html.

python benchmarks/publish_sweep.py OUTPUT/sweep.json
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from record import RESULTS, record

from mobileprune.sweep.markdown import markdown


def page(value: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {text}" for name, text in value["machine"].items())
    return f"{markdown(value['sweep'])}\n{value['date']}; {machine}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="the document that `mobileprune sweep` wrote")
    document = parser.parse_args().sweep
    sweep = json.loads(document.read_text("utf-8"))
    path = record(f"sweep-{sweep['name']}", {"sweep": sweep})
    value = json.loads(path.read_text("utf-8"))
    (RESULTS / f"{value['benchmark']}.md").write_text(page(value), encoding="utf-8")
    shutil.copyfile(document.with_suffix(".html"), RESULTS / f"{value['benchmark']}.html")
    print(path)


if __name__ == "__main__":
    main()
