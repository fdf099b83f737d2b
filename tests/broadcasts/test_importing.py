import io
import json
import re
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts import advisories
from broadcasts.directory import ModelDirectory, UserServiceUnavailable
from broadcasts.importing import LINE_MAX_BYTES, Import, Outcome
from broadcasts.models import Broadcast, Product, Status
from outbox.models import Event, Priority
from tests.conftest import Spawn
from tests.processes import Environment
from tests.waiting import wait_until

EXCERPT = settings.BASE_DIR / "fixtures" / "advisories-excerpt.jsonl"
MANY = 300  # lines: enough to be killed in the middle

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of these lines: dicts become JSON, bytes are taken as they are."""

    def write_lines(*lines: dict[str, Any] | bytes) -> Path:
        path = tmp_path / "broadcasts.jsonl"
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path.write_bytes(b"\n".join(raw))
        return path

    return write_lines


def line(external_id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"external_id": external_id, "title": f"Title {external_id}"} | fields


def run(path: Path, *arguments: str) -> tuple[str, str]:
    """What the command prints; a refusal is no exception here."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("import_broadcasts", str(path), *arguments, stdout=out, stderr=err)
    except CommandError as error:
        err.write(str(error))
    return out.getvalue(), err.getvalue()


@pytest.mark.django_db
def test_a_line_has_the_fields_of_the_api(write: Write) -> None:
    Product.objects.create(slug="payments", name="Payments")
    sender = User.objects.create_user("operator", first_name="Olga", last_name="Operator")
    path = write(
        line(
            content="**Hello**",
            category="news",
            priority="URGENT",
            reference="INC-1",
            audience="PRODUCT",
            targets=["payments"],
            scheduled_at="2100-01-01T10:00:00Z",
            expires_at="2100-01-02T10:00:00+02:00",
        )
    )
    out, err = run(path, "--sender", "operator")
    assert out.startswith("1 imported;")
    assert not err
    broadcast = Broadcast.objects.get(external_id="a")
    assert (broadcast.priority, broadcast.targets) == (Priority.URGENT, ["payments"])
    assert (broadcast.status, broadcast.sender) == (Status.SCHEDULED, sender)
    assert broadcast.sender_name == "Olga Operator"


@pytest.mark.django_db
def test_an_imported_broadcast_is_sent_unless_the_line_says_no(write: Write) -> None:
    run(write(line("sent"), line("kept", send=False)))
    statuses = dict(Broadcast.objects.values_list("external_id", "status"))
    assert statuses == {"sent": Status.ACTIVE, "kept": Status.DRAFT}
    assert Event.objects.filter(type="broadcast.activated").count() == 1


@pytest.mark.django_db
def test_a_second_run_imports_nothing_and_says_what_was_there(write: Write) -> None:
    path = write(line("a"), line("b", send=False))
    run(path)
    events = Event.objects.count()
    out, _ = run(path)
    assert "0 imported;" in out
    assert "2 already there" in out
    assert (Broadcast.objects.count(), Event.objects.count()) == (2, events)


BAD_LINES: list[tuple[dict[str, Any] | bytes, str]] = [
    (b'{"external_id": "x", "title": "Hal', "not JSON: Unterminated string"),
    (b"[" * 100_000, "not JSON"),
    (b'["a list"]', "not a JSON object"),
    (b'{"title": "\xff"}', "not UTF-8: invalid start byte at byte 11"),
    (b'{"title": "' + b"x" * LINE_MAX_BYTES + b'"}', f"more than {LINE_MAX_BYTES} bytes"),
    ({"title": "No id"}, "external_id: This field is required."),
    ({"external_id": "x"}, "title: This field is required."),
    (line("x", audience="NOBODY"), 'audience: "NOBODY" is not a valid choice.'),
    (line("x", priority="HIGHEST"), 'priority: "HIGHEST" is not a valid choice.'),
    (line("x", audience="ROLE", targets=["Ghosts"]), "targets: 1 unknown: Ghosts."),
    (line("x", audience="PRODUCT", targets=["ghost"]), "targets: 1 unknown: ghost."),
    (line("x", audience="SELECTED", targets=["999999", "me"]), "targets: 2 unknown: 999999, me."),
    (line("x", audience="SELECTED"), "targets: Name at least one target"),
    (line("x", targets=["u"]), "targets: Everyone needs no targets"),
    (line("x", targets="u"), 'targets: Expected a list of items but got type "str".'),
    (line("x", content="é" * 500_000), "content: The content has 1000000 bytes"),
    (line("x", title="t" * 201), "title: Ensure this field has no more than 200 characters."),
    (line("x", title="\ud800"), "title: Surrogate characters are not allowed"),
    (line("x", title="\0"), "title: Null characters are not allowed."),
    (line("x", titel="T"), "titel: There is no such field."),
    (line("x", send="no"), "send: true or false is wanted."),
    (line("x", force_logoff=True), "Force logoff needs fire and forget."),
    (
        line("x", scheduled_at="2100-01-02T00:00Z", expires_at="2100-01-01T00:00Z"),
        "The expiry must lie after the scheduled moment.",
    ),
    (line("x", expires_at="tomorrow"), "expires_at: Datetime has wrong format."),
    (line("good-1"), "external_id: line 1 has good-1 already."),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("bad", "reason"), BAD_LINES)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_bad_line_is_refused_with_its_number_and_the_others_are_in(
    write: Write, bad: dict[str, Any] | bytes, reason: str, options: list[str]
) -> None:
    out, err = run(write(line("good-1"), b"", bad, line("good-2")), *options)
    assert err.startswith("Line 3: ")
    assert reason in err
    assert "1 refused: correct these lines" in err
    assert "2 imported" in out
    there = set(Broadcast.objects.values_list("external_id", flat=True))
    assert there == (set() if options else {"good-1", "good-2"})


@pytest.mark.django_db
def test_a_dry_run_writes_nothing_and_tells_the_same() -> None:
    mapping = ["--mapping", "broadcasts.advisories.entry"]
    dry, _ = run(EXCERPT, *mapping, "--dry-run")
    assert not Broadcast.objects.exists()
    assert not Product.objects.exists()
    assert not Event.objects.exists()
    real, _ = run(EXCERPT, *mapping)
    assert dry == f"Dry run, nothing was written: {real}"


@pytest.mark.django_db
def test_the_report_lists_every_refused_line(write: Write, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    _, err = run(write(*[b"{" for _ in range(60)]), "--report", str(report))
    facts = [json.loads(fact) for fact in report.read_text().splitlines()]
    assert [fact["line"] for fact in facts] == list(range(1, 61))
    assert facts[0]["reason"].startswith("not JSON")
    assert "... and 10 more: --report FILE lists them all." in err


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.jsonl"], "missing.jsonl: No such file or directory"),
        ([str(EXCERPT), "--mapping", "broadcasts.nothing"], "--mapping: "),
        ([str(EXCERPT), "--sender", "ghost"], "--sender: there is no user ghost."),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("import_broadcasts", *arguments)


@pytest.mark.django_db
def test_a_directory_that_is_down_ends_the_run_and_keeps_what_is_in(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise UserServiceUnavailable("the user service does not answer")

    monkeypatch.setattr(ModelDirectory, "targets", down)
    _, err = run(write(line("a"), line("b", audience="ROLE", targets=["Users"])))
    assert err == "the user service does not answer. Run it again later: what is in, is in."
    assert Broadcast.objects.get().external_id == "a"


@pytest.mark.django_db
def test_a_draft_that_a_killed_run_left_is_sent_by_the_next(write: Write) -> None:
    Broadcast.objects.create(external_id="a", title="Title a")
    out, _ = run(write(line("a")))
    assert "1 finished, a run before had begun them" in out
    assert Broadcast.objects.get().status == Status.ACTIVE


@pytest.mark.django_db
def test_one_that_a_killed_run_had_scheduled_for_now_is_sent_by_the_next(write: Write) -> None:
    scheduled = {"status": Status.SCHEDULED, "title": "Title"}
    Broadcast.objects.create(external_id="a", scheduled_at=timezone.now(), **scheduled)
    later = timezone.now() + timedelta(hours=1)
    Broadcast.objects.create(external_id="b", scheduled_at=later, **scheduled)
    run(write(line("a"), line("b")))
    statuses = dict(Broadcast.objects.values_list("external_id", "status"))
    assert statuses == {"a": Status.ACTIVE, "b": Status.SCHEDULED}


@pytest.mark.django_db
def test_the_targets_are_asked_for_once_a_file(write: Write) -> None:
    Product.objects.create(slug="p", name="P")
    path = write(*[line(str(n), audience="PRODUCT", targets=["p"]) for n in range(20)])
    with path.open("rb") as file, CaptureQueriesContext(connection) as queries:
        assert {done.outcome for done in Import().run(file)} == {Outcome.IMPORTED}
    asked = [q for q in queries if q["sql"].startswith('SELECT "broadcasts_product"')]
    assert len(asked) == 1
    assert len(queries) <= 22 * 20


@pytest.mark.django_db
def test_advisories_become_broadcasts() -> None:
    _, err = run(EXCERPT, "--mapping", "broadcasts.advisories.entry")
    assert not err
    both = Broadcast.objects.get(external_id="DEMO-2024-5")
    assert both.title == "DEMO-2024-5: teapot-web, teapot.auth"
    assert both.targets == ["teapot-web", "teapot-auth"]
    assert (both.priority, both.category, both.reference) == (40, "security", "CVE-0000-0005")
    assert Product.objects.get(slug="teapot-auth").name == "teapot.auth"
    empty = Broadcast.objects.get(external_id="DEMO-2024-3")
    expected = "snowdrift has a vulnerability, fixed in 0.9.12, 1.0.3. Please upgrade."
    assert empty.content == expected
    assert "no version yet" in Broadcast.objects.get(external_id="DEMO-2024-4").content


@pytest.mark.django_db
def test_a_withdrawn_advisory_is_kept_for_the_record_and_reaches_nobody() -> None:
    out, _ = run(EXCERPT, "--mapping", "broadcasts.advisories.entry")
    assert "18 imported; 2 imported as cancelled;" in out
    withdrawn = Broadcast.objects.get(external_id="DEMO-2024-9")
    assert withdrawn.status == Status.CANCELLED
    assert withdrawn.cancel_reason == "Withdrawn on 2024-04-02."
    events = Event.objects.filter(key=f"broadcast-{withdrawn.pk}")
    assert list(events.values_list("channels", flat=True)) == [[]]


@pytest.mark.parametrize(
    ("vectors", "priority"),
    [
        ([], Priority.NORMAL),
        (["no vector"], Priority.NORMAL),
        (["CVSS:3.1/AV:N/AC:L"], Priority.NORMAL),
        (["CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"], Priority.URGENT),  # 10.0
        (["CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"], Priority.HIGH),  # 7.5
        (["CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"], Priority.NORMAL),  # 6.1
        (["CVSS:3.1/AV:L/AC:H/PR:L/UI:R/S:U/C:L/I:N/A:N"], Priority.LOW),  # 2.2
        (
            ["CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"],  # 9.3
            Priority.URGENT,
        ),
        (
            [
                "CVSS:3.1/AV:L/AC:H/PR:L/UI:R/S:U/C:L/I:N/A:N",
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H",
            ],
            Priority.HIGH,
        ),
    ],
)
def test_the_highest_base_score_gives_the_priority(vectors: list[str], priority: Priority) -> None:
    assert advisories.priority_of(vectors) == priority


@pytest.mark.django_db
def test_what_a_mapping_stumbles_over_refuses_only_its_line(write: Write) -> None:
    good = json.loads(EXCERPT.read_text().splitlines()[0])
    path = write({"id": "X"}, good, good | {"id": "Y", "withdrawn": 7})
    out, err = run(path, "--mapping", "broadcasts.advisories.entry")
    assert "Line 1: the mapping cannot read it: KeyError: 'package'" in err
    assert "Line 3: the mapping cannot read it: TypeError" in err
    assert out.startswith("1 imported")


@pytest.mark.processes
@pytest.mark.django_db
def test_a_killed_run_is_finished_by_running_again(
    write: Write, spawn: Spawn, live_database: Environment
) -> None:
    path = write(*[line(f"id-{number}") for number in range(MANY)])
    killed = spawn(["import_broadcasts", str(path), "--progress"], live_database)
    wait_until(lambda: _percent(killed.output()) >= 20)
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert "imported" not in killed.output()

    again = spawn(["import_broadcasts", str(path)], live_database)
    assert again.wait() == 0, again.output()
    counts = _counts(again.output())
    assert 0 < counts["already there"] < MANY
    assert sum(counts.values()) == MANY

    code = (
        "from broadcasts.models import Broadcast; from outbox.models import Event;"
        "print(Broadcast.objects.filter(status='ACTIVE').count(),"
        " Event.objects.filter(type='broadcast.activated').count())"
    )
    seen = spawn(["shell", "--verbosity=0", "-c", code], live_database)
    assert seen.wait() == 0, seen.output()
    assert seen.output().strip() == f"{MANY} {MANY}"


@pytest.mark.processes
@pytest.mark.django_db
def test_two_runs_at_once_import_each_line_once(
    write: Write, spawn: Spawn, live_database: Environment
) -> None:
    path = write(*[line(f"id-{number}") for number in range(MANY)])
    both = [spawn(["import_broadcasts", str(path)], live_database) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0], both[0].output() + both[1].output()
    code = (
        "from outbox.models import Event;"
        "print(Event.objects.filter(type='broadcast.activated').count())"
    )
    seen = spawn(["shell", "--verbosity=0", "-c", code], live_database)
    assert seen.wait() == 0
    assert seen.output().strip() == str(MANY)


def _percent(output: str) -> int:
    return max(map(int, re.findall(r"(\d+)%\|", output)), default=0)


def _counts(output: str) -> dict[str, int]:
    parts = (part.split(" ", 1) for part in output.strip().rstrip(".").split("; "))
    return {name: int(count.replace(",", "")) for count, name in parts}
