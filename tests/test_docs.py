"""The documentation says what is so: commands parse, links lead somewhere, numbers are those of committed results."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from mobileprune.cli.grammar import VERBS
from mobileprune.cli.parser import parser
from mobileprune.schemas import document, problems

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "export/README.md", "benchmarks/README.md")]
OF_BENCHMARKS = (
    "attacks",
    "engines",
    "publish",
    "publish_kernels",
    "publish_paper",
    "publish_sweep",
    "record",
    "seeds",
)
README = DOCUMENTS[0].read_text("utf-8")


def commands(text: str) -> list[str]:
    """The mobileprune command lines of all shell blocks, continuation lines joined."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("mobileprune ")]


def anchors(path: Path) -> set[str]:
    """Of a document's headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse_and_links_lead_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    for command in commands(text):
        parser().parse_args(shlex.split(command, comments=True)[1:])
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        there = path.parent / link if link else path
        assert there.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors(there), f"{path.name} links to {link}#{anchor}"


def test_readme_has_commands_to_check() -> None:
    assert len(commands(README)) >= 2


def test_every_verb_option_and_exit_code_is_documented() -> None:
    top = parser()
    chosen = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for verb in VERBS:
        assert f"`{verb} " in README or f"`{verb}`" in README, verb
        for action in chosen.choices[verb]._actions:
            assert action.help, f"{verb} {action.option_strings}"
    for code in (0, 1, 2, 3, 4, 5, 130, 143):
        assert re.search(rf"^\|[^|]*\b{code}\b", README, re.MULTILINE), code


def test_every_name_that_an_option_takes_is_in_the_readme() -> None:
    from mobileprune.attacks import ATTACKS
    from mobileprune.convert.harden import HARDENINGS
    from mobileprune.defenses import DEFENSES
    from mobileprune.models import FAMILIES, MODELS
    from mobileprune.pruning import METHODS
    from mobileprune.pruning.budgets import SHARED
    from mobileprune.pruning.patterns import NAMED

    for name in (*ATTACKS, *HARDENINGS, *DEFENSES, *FAMILIES, *MODELS, *METHODS, *SHARED, *NAMED):
        assert re.search(rf"[`|+ ]{name}", README), name


def test_flags_named_in_the_documents_exist() -> None:
    top = parser()
    chosen = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    known = {s for sub in chosen.choices.values() for a in sub._actions for s in a.option_strings} | {"--version"}
    known |= {"--seeds", "--repeats", "--jobs"}  # of benchmarks
    known |= {"--preset", "--build", "--install", "--prefix"}  # of CMake
    known |= {*re.findall(r'"(--[a-z0-9-]+)"', "".join(p.read_text() for p in ROOT.glob("export/runner/*.c")))}
    known |= {"--shell"}  # of register-python-argcomplete
    known |= {"--require-hashes", "--no-deps", "--no-build-isolation"}  # of pip
    for path in DOCUMENTS:
        for named in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", path.read_text("utf-8")):
            assert named in known, f"{path.name}: {named}"


def test_every_result_in_the_readme_is_a_committed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    try:
        import publish

        value = json.loads(max(publish.RESULTS.glob("*-leakage.json")).read_text("utf-8"))
        assert publish.page(value) == (publish.RESULTS / "leakage.md").read_text("utf-8")
        assert publish.drawing(value) == (publish.RESULTS / "leakage.svg").read_text("utf-8")
        import attacks

        value = json.loads(max(publish.RESULTS.glob("*-attacks.json")).read_text("utf-8"))
        assert attacks.page(value) == (publish.RESULTS / "attacks.md").read_text("utf-8")
        assert attacks.short(value) in README
        import publish_paper

        papers = [json.loads(path.read_text("utf-8")) for path in sorted(publish.RESULTS.glob("*-paper-*.json"))]
        assert publish_paper.short(papers) in README
        for value in papers:
            name = value["benchmark"]
            assert publish_paper.page(value) == (publish.RESULTS / f"{name}.md").read_text("utf-8")
            assert publish_paper.drawing(value) == (publish.RESULTS / f"{name}.svg").read_text("utf-8")
        import publish_kernels

        for path, text in publish_kernels.pages().items():
            assert text == path.read_text("utf-8")
        import engines
        import publish_sweep

        value = json.loads(max(publish.RESULTS.glob("*-engines.json")).read_text("utf-8"))
        assert engines.page(value) == (publish.RESULTS / "engines.md").read_text("utf-8")
        for path in publish.RESULTS.glob("*-sweep-*.json"):
            value = json.loads(path.read_text("utf-8"))
            assert problems(value["sweep"], "sweep") == []
            page = publish.RESULTS / f"{value['benchmark']}.md"
            assert publish_sweep.page(value) == page.read_text("utf-8")
    finally:
        for name in OF_BENCHMARKS:
            sys.modules.pop(name, None)


def test_every_verb_has_a_schema() -> None:
    assert set(VERBS) <= document()["$defs"].keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/results/*.json")), ids=lambda path: path.name)
def test_results_name_their_environment_and_no_machine_path(path: Path) -> None:
    value = json.loads(path.read_text("utf-8"))
    assert {"benchmark", "date", "machine"} <= value.keys()
    assert {"cpu", "cores", "torch", "onnxruntime"} <= value["machine"].keys()
    assert not re.search(r'"/(home|root|tmp|work)/', path.read_text("utf-8"))
