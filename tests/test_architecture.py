"""Which app may import which; the arrows of `docs/`, kept by reading every import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "jobs": set(),
    "outbox": {"jobs"},
    "connections": {"outbox", "jobs"},
    "broadcasts": {"connections", "outbox", "jobs"},
    "deliveries": {"outbox", "jobs"},
    "operations": {"outbox", "jobs"},
    "domains": {"outbox", "jobs"},
}
WIRING = "broadcast_project"  # may import every app; none may import it
PARTS = {*MAY_IMPORT, WIRING}


def imported(source: str, module: str) -> Iterator[str]:
    """The dotted names that `source` imports, relative ones resolved against `module`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            yield ".".join([*package, *filter(None, [node.module])])


def forbidden(source: str, module: str) -> list[str]:
    own = module.split(".")[0]
    allowed = {own, *MAY_IMPORT[own]}
    return [name for name in imported(source, module) if name.split(".")[0] in PARTS - allowed]


def modules(part: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((CHECKOUT / part).rglob("*.py")):
        yield ".".join(path.relative_to(CHECKOUT).with_suffix("").parts), path


@pytest.mark.parametrize("app", MAY_IMPORT)
def test_an_app_imports_only_what_its_arrow_points_to(app: str) -> None:
    wrong = {
        module: names
        for module, path in modules(app)
        if (names := forbidden(path.read_text(), module))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import domains.blog", "broadcasts.models"),
        ("from broadcasts.models import Broadcast", "outbox.relay"),
        ("def late():\n    from outbox import services", "jobs.runner"),
        ("from broadcast_project import settings", "jobs.tasks"),
        ("from ..operations import models", "deliveries.tasks"),
    ],
)
def test_an_import_against_an_arrow_is_seen(source: str, module: str) -> None:
    assert forbidden(source, module)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from outbox.services import emit", "domains.blog.services"),
        ("from . import models", "broadcasts.services"),
        ("import django.db", "jobs.models"),
    ],
)
def test_an_import_along_an_arrow_is_allowed(source: str, module: str) -> None:
    assert not forbidden(source, module)
