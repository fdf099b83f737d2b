import pytest

from operations.debezium.reasons import cause, is_away, unmendable
from tests.operations.debezium.fakes import TRACE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('PSQLException: ERROR: publication "shop" does not exist', "publication"),
        ('FATAL: password authentication failed for user "debezium"', "password"),
        ("Access denied for user 'shop'@'10.0.0.1' (using password: YES)", "password"),
        ("org.apache.kafka.common.errors.SaslAuthenticationException: x", "password"),
        ("org.apache.kafka.common.errors.TopicAuthorizationException: [a]", "rights"),
        ('FATAL: no pg_hba.conf entry for host "10.0.0.1"', "rights"),
        ("ERROR: permission denied for database shop", "rights"),
        ('FATAL: database "shpo" does not exist', "name"),
        ("Postgres server wal_level property must be 'logical'", "wal_level"),
        ("java.lang.NoClassDefFoundError: org/example/A", "plugin"),
        ("java.lang.ClassNotFoundException: org.example.A", "plugin"),
        ("Invalid value a for configuration b: Class a could not be found.", "plugin"),
        ("org.apache.kafka.common.config.ConfigException: b", "configuration"),
        ("Connector configuration is invalid and contains 1 error", "configuration"),
        ('can no longer get changes from replication slot "shop"', "slot is lost"),
    ],
)
def test_what_no_restart_mends_says_what_to_do(text: str, words: str) -> None:
    assert words in unmendable(text)


@pytest.mark.parametrize(
    "text",
    [
        TRACE,
        "PSQLException: Connection to 10.0.0.1:5432 refused.",
        "java.net.SocketException: Broken pipe",
        "org.apache.kafka.common.errors.TimeoutException: Timeout expired",
        "",
    ],
)
def test_what_a_restart_may_mend_has_no_such_words(text: str) -> None:
    assert unmendable(text) == ""


def test_a_database_that_is_away_is_told_from_one_that_refuses() -> None:
    assert is_away("Connection to 127.0.0.1:5432 refused. Check that the hostname is correct")
    assert not is_away('FATAL: password authentication failed for user "debezium"')


def test_the_cause_is_the_last_one_without_its_package() -> None:
    assert cause(TRACE) == "EOFException: the other side went"
    assert cause("org.example.AnException: alone\n\tat a.B") == "AnException: alone"
    assert cause("") == ""
