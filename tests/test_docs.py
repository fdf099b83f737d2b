"""Documentation under test: what the code has stands in `docs/`, and what `docs/` names exists."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from connections.services import CLOSE
from connections.wire import NAMES
from jobs.registry import periodic_jobs, workers
from outbox import event_types
from tests.test_architecture import CHECKOUT, PARTS

DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
EMITTERS = {"emit", "build_event", "_emit", "_emit_addressed", "_finish", "_tell"}
SENDERS = {"encode", "notice"}
TYPE = re.compile(r"[a-z]+(\.[a-z]+)+")
TARGET = re.compile(r"(?:^|`|[A-Z_]+=\S+ )make (?:--\S+ )*([a-z-]+)", re.MULTILINE)


def rows(page: str, section: str = "") -> dict[str, list[str]]:
    """The rows of the tables below a heading, by what stands in backticks in their first cell."""
    text = (DOCS / page).read_text()
    if section:
        text = re.split(rf"^#+ {section}$", text, flags=re.MULTILINE)[1]
        text = re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in lines}


def sources(*parts: str) -> Iterator[Path]:
    for part in sorted(parts or PARTS):
        yield from sorted((CHECKOUT / part).rglob("*.py"))


def calls(paths: Iterator[Path]) -> Iterator[tuple[str, ast.Call]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func).rpartition(".")[2], node


def texts(call: ast.Call) -> Iterator[str]:
    for argument in call.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def variables() -> dict[str, ast.Call]:
    """Every `env.<type>("NAME", default)` of the settings."""
    tree = ast.parse((CHECKOUT / "broadcast_project" / "settings.py").read_text())
    reads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).startswith("env.")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]
    return {ast.literal_eval(node.args[0]): node for node in reads}


def as_written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return (",".join(default) if isinstance(default, list) else str(default)) or "–"


def test_every_environment_variable_is_described() -> None:
    assert set(rows("settings.md")) == set(variables())


@pytest.mark.parametrize("name", sorted(variables()))
def test_a_variable_is_described_with_its_type_and_default(name: str) -> None:
    call = variables()[name]
    kind, default, _meaning = rows("settings.md")[name]
    assert kind == ast.unparse(call.func).removeprefix("env.").replace("dj_db_url", "url").replace(
        "dj_email_url", "url"
    )
    try:
        expected = as_written(ast.literal_eval(call.args[1]))
    except ValueError:  # it depends on the machine
        assert default
    else:
        assert default == expected


def test_every_periodic_job_is_described_with_its_interval() -> None:
    found = {job.name: job.every for job in periodic_jobs.values() if in_project(job.run)}
    described = rows("jobs.md", "Periodic jobs")
    assert {name: interval for name, (interval, _what) in described.items()} == found


def test_every_worker_is_described() -> None:
    found = {name for name, worker in workers.items() if in_project(worker)}
    assert set(rows("jobs.md", "Workers")) == found


def in_project(thing: object) -> bool:
    return getattr(thing, "__module__", "").partition(".")[0] in PARTS  # tests declare some, too


def emitted() -> set[str]:
    found = {
        text
        for name, call in calls(sources())
        if name in EMITTERS
        for text in texts(call)
        if TYPE.fullmatch(text)
    }
    return found | {CLOSE, *NAMES}


def test_every_event_type_is_described() -> None:
    assert set(rows("events.md", "Event types")) == emitted()


def test_every_event_type_is_declared_with_a_sentence() -> None:
    """Those who write a rule, or an endpoint, choose from what is declared."""
    found = {name for part in PARTS for name in declared_in(part)}
    assert found == emitted()
    assert all(event_types.declared[name] for name in found)


def declared_in(part: str) -> Iterator[str]:
    for path in sources(part):
        if path.name == "events.py":
            yield from import_module(
                ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
            ).EVENTS


def test_every_event_of_the_stream_is_described() -> None:
    sent = {
        text
        for name, call in calls(sources("connections"))
        if name in SENDERS
        for text in texts(call)
        if text.isupper()
    }
    assert set(rows("events.md", "The stream")) == sent | set(NAMES.values())


def test_every_error_of_a_connect_is_described() -> None:
    tree = calls(sources("connections"))
    refusals = [call for name, call in tree if name in {"Refusal", "unauthorized"}]
    codes = {text for call in refusals for text in texts(call) if re.fullmatch("[a-z_]+", text)}
    assert all(f"`{code}`" in (DOCS / "events.md").read_text() for code in codes)
    assert codes


def test_every_check_is_described() -> None:
    ids = {
        keyword.value.value
        for name, call in calls(sources())
        if name in {"Error", "Warning"}
        for keyword in call.keywords
        if keyword.arg == "id" and isinstance(keyword.value, ast.Constant)
    }
    assert set(rows("operations.md", "Checks")) == ids


@pytest.mark.parametrize(
    "command",
    sorted(p.stem for p in sources() if p.parent.name == "commands" and p.stem != "__init__"),
)
def test_a_command_is_named(command: str) -> None:
    named = re.compile(rf"manage\.py {command}\b")
    assert any(named.search(page.read_text()) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text())
    assert not [link for link in links if not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_leads_to_every_page() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert not [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in readme]


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    words = " ".join(re.findall(r"^(?:\.PHONY:|LINTS :=)(.+)$", makefile, re.MULTILINE))
    named = {target for page in PAGES for target in TARGET.findall(page.read_text())}
    assert named
    assert named <= set(words.split())
