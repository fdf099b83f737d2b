from datetime import UTC, datetime

import pytest
from django.utils import translation

from jobs.pages import to_the_second


@pytest.mark.parametrize("language", ["en", "de", "ar", "el", "hi", "bs", "ja", "es"])
def test_a_moment_has_its_seconds_in_every_language(language: str) -> None:
    with translation.override(language):
        assert ":05:09" in to_the_second(datetime(2030, 1, 31, 13, 5, 9, tzinfo=UTC))
        assert to_the_second(None) == "–"
