"""A list of people as it comes out of a spreadsheet."""

import io
import tracemalloc

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from pytest_django import DjangoAssertNumQueries

from broadcasts import people
from broadcasts.people import Found, from_csv, ids_of
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

MANY = 100_000


@pytest.fixture(autouse=True)
def ann() -> User:
    return UserFactory.create(username="ann", email="Ann.Lee@example.org")


@pytest.fixture(autouse=True)
def bob() -> User:
    return UserFactory.create(username="björn", email="bjorn@example.org")


def read(text: str | bytes, encoding: str = "utf-8") -> Found:
    content = text if isinstance(text, bytes) else text.encode(encoding)
    return from_csv(io.BytesIO(content), len(content))


def names(found: Found) -> list[str]:
    return [User.objects.get(pk=pk).username for pk in found.ids]


def missing(found: Found) -> list[tuple[int, str]]:
    return [(one.line, one.value) for one in found.missing]


@pytest.mark.parametrize(
    "text",
    [
        "username\nann\nbjörn\n",
        "ann\nbjörn",
        "ann\r\nbjörn\r\n",
        "ann\rbjörn\r",
        "\n\n  ann  \n\nbjörn\n\n",
        '"ann"\n"björn"\n',
        "E-Mail\nann.lee@EXAMPLE.org\nbjorn@example.org\n",
        "ann.lee@example.org\nbjörn",
        "Name;Username;Dept\nAnn Lee;ann;Sales\nBjörn;björn;\n",
        'name,username\n"Lee; Ann, Dr.",ann\n,björn\n',
        "username\temail\nann\t\n\tbjorn@example.org\n",
        "sep=;\nusername;x\nann;1\nbjörn;2\n",
        "username;;;\nann;;;\nbjörn;;;\n",
        "\ufeffusername\nann\nbjörn\n",
        "\ufeffsep=;\r\nE-mail address;Login\r\n;ann\r\nbjorn@example.org;\r\n",
    ],
)
def test_people_are_found_however_the_spreadsheet_writes_them(text: str) -> None:
    found = read(text)
    assert (names(found), found.missing) == (["ann", "björn"], [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_people_are_found_in_every_usual_encoding(encoding: str) -> None:
    found = read("Login;Größe\nann;1\nbjörn;2\n", encoding)
    assert names(found) == ["ann", "björn"]
    assert (found.encoding == "cp1252") == (encoding in ("cp1252", "latin-1"))


def test_ids_are_people_too(ann: User, bob: User) -> None:
    assert names(read(f"user_id\n{bob.pk}\n{ann.pk}\n")) == ["björn", "ann"]
    assert names(read(f"{bob.pk}\n{ann.pk}\n")) == ["björn", "ann"]


def test_a_username_of_digits_is_not_taken_for_an_id(ann: User) -> None:
    UserFactory.create(username=str(ann.pk))
    assert names(read(f"{ann.pk}\n")) == [str(ann.pk)]
    assert names(read(f"id\n{ann.pk}\n")) == ["ann"]


def test_who_is_not_found_is_named_with_the_line_and_the_others_are_in() -> None:
    UserFactory.create(username="gone", is_active=False)
    found = read("username\nann\nnobody\n\ngone\nbjörn\nANN\n" + "9" * 40 + "\n")
    assert names(found) == ["ann", "björn"]
    assert missing(found) == [(3, "nobody"), (5, "gone"), (7, "ANN"), (8, "9" * 40)]


def test_the_line_is_that_of_the_file_though_cells_have_lines_of_their_own() -> None:
    found = read('\nusername,note\nann,"one\ntwo"\nnobody,x\n')
    assert missing(found) == [(5, "nobody")]


def test_somebody_named_twice_is_in_once_and_counted() -> None:
    found = read("username,email\nann,\n,ann.lee@example.org\nann,\nbjörn,\n")
    assert (names(found), found.repeated) == (["ann", "björn"], 2)


def test_an_address_of_two_people_is_nobodys_and_said() -> None:
    UserFactory.create(username="anna", email="ANN.LEE@example.org")
    [one] = read("email\nann.lee@example.org\n").missing
    assert (one.line, one.reason) == (2, "the e-mail address of several people")


def test_a_line_without_a_name_is_said() -> None:
    [one] = read("name,username\nSomebody,\n").missing
    assert (one.line, one.reason) == (2, "no name in this line")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n;;\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"username\n", "is empty"),
        (b"PK\x03\x04" + bytes(100), "save it as CSV first"),
        (b"ann\0\n", "encoding is not known"),
        (b"\x81\x8d\x8f\n", "encoding is not known"),
        (b"\xff\xfea", "cannot be read"),
        (b"first,last\nann,lee\n", r"None of the columns \(first, last\) is known"),
        (b'username\n"ann\n' + b"x\n" * 100_000, "quotation mark left open"),
        (b'username,name\nann,"Ann Lee\nben,Ben\n', "quotation mark left open"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_list_of_people_is_refused_with_what_to_do(content: bytes, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        read(content)


def test_a_file_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_BYTES", 10)
    with pytest.raises(ValidationError, match="Split it"):
        read("username\nann\n")


def test_more_people_than_a_form_carries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_PEOPLE", 1)
    with pytest.raises(ValidationError, match="address a role or a product"):
        read("ann\nbjörn\n")


def test_who_is_not_found_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_PEOPLE", 1)
    with pytest.raises(ValidationError, match="More than 1 lines"):
        read("nobody\nnobody\n")


@pytest.mark.django_db
def test_what_no_database_takes_is_not_found() -> None:
    nobody = "an\0n"
    assert missing(read(nobody.encode("utf-16"))) == [(1, nobody)]
    assert ids_of([nobody]) == {}


def test_usernames_ids_and_addresses_may_be_mixed(ann: User, bob: User) -> None:
    given = ["ann", str(bob.pk), "bjorn@example.org", "nobody"]
    assert ids_of(given) == dict(zip(given, [str(ann.pk), str(bob.pk), str(bob.pk)], strict=False))


def test_a_hundred_thousand_lines_take_little_memory_and_few_questions(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    users = [User(username=f"p-{n}", email=f"p-{n}@example.org") for n in range(MANY // 2)]
    User.objects.bulk_create(users, batch_size=5_000)
    rows = [f"p-{n}@example.org" if n % 2 else f"p-{n}" for n in range(MANY)]
    rows[7] = "p-6"
    file = io.BytesIO("\n".join(rows).encode())
    tracemalloc.start()
    try:
        with django_assert_num_queries(10 * 3):
            found = from_csv(file, len(file.getbuffer()))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(found.ids), found.repeated) == (MANY // 2 - 1, 1)
    assert [one.line for one in found.missing] == list(range(MANY // 2 + 1, MANY + 1))
    assert peak < 60 * 1024 * 1024
    assert not file.closed
