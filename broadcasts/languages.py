"""A text in several languages, and which of them a reader gets."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.utils.translation.trans_real import parse_accept_lang_header

from broadcasts.markdown import render

TAG = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
LONGEST_TAG = 35  # characters
LONGEST_TITLE = 200
MOST_WANTED = 10  # languages that a reader names


def default_language() -> str:
    return str(settings.LANGUAGE_CODE).lower()


@dataclass(frozen=True)
class Text:
    language: str
    title: str
    content: str


class Translated(models.Model):
    """A title and a content in one language, with translations of both into others."""

    title = models.CharField(gettext_lazy("title"), max_length=LONGEST_TITLE)
    content = models.TextField(
        gettext_lazy("content"),
        blank=True,
        help_text=gettext_lazy("Markdown; HTML is shown as text."),
    )
    language = models.CharField(
        gettext_lazy("language"),
        max_length=LONGEST_TAG,
        default=default_language,
        db_default="en",  # for processes of the version before, which write neither of the two
        help_text=gettext_lazy("Of the title and the content, for who reads no other."),
    )
    translations = models.JSONField(
        gettext_lazy("translations"),
        default=dict,
        db_default={},
        blank=True,
        help_text=gettext_lazy("Title and content by language."),
    )

    class Meta:
        abstract = True

    @property
    def html(self) -> str:
        """The content as sanitised HTML."""
        return render(self.content)

    @property
    def texts(self) -> dict[str, Text]:
        """By language, its own first."""
        others = {
            language: Text(language, text["title"], text["content"])
            for language, text in self.translations.items()
        }
        return {self.language: Text(self.language, self.title, self.content)} | others

    def text_for(self, languages: Iterable[str]) -> Text:
        """The best of these languages that there is, else its own."""
        texts = self.texts
        return texts[best_of(texts, languages) or self.language]

    def problems(self) -> dict[str, str]:
        """What is wrong with it, by field."""
        problems = {}
        if not TAG.fullmatch(self.language):
            problems["language"] = _("“%(tag)s” is no language: write en, de or pt-br.") % {
                "tag": self.language
            }
        if wrong := self._problem_of_translations():
            problems["translations"] = wrong
        elif too_long := self._too_long():
            problems["content"] = too_long
        return problems

    def _problem_of_translations(self) -> str:
        if not isinstance(self.translations, dict):
            return _("Translations are a title and a content by language.")
        if self.language in self.translations:
            text = _("The text itself is in “%(tag)s”: translate it into others.")
            return text % {"tag": self.language}
        return next(filter(None, (_problem_of(*item) for item in self.translations.items())), "")

    def _too_long(self) -> str:
        size = sum(len(text.content.encode()) for text in self.texts.values())
        if size <= settings.BROADCAST_CONTENT_MAX_BYTES:
            return ""
        text = _(
            "The content has %(size)s bytes; at most %(most)s are allowed. "
            "Shorten it, or link to the long version."
        )
        if self.translations:
            text = _(
                "The content has %(size)s bytes in all its languages together; at most %(most)s "
                "are allowed. Shorten it, or link to the long version."
            )
        return text % {"size": size, "most": settings.BROADCAST_CONTENT_MAX_BYTES}


def _problem_of(language: Any, text: Any) -> str:
    if not TAG.fullmatch(language) or len(language) > LONGEST_TAG:
        return _("“%(tag)s” is no language: write en, de or pt-br.") % {"tag": language}
    if not isinstance(text, dict) or set(text) != {"title", "content"}:
        return _("%(tag)s: a title and a content are wanted.") % {"tag": language}
    if not isinstance(text["title"], str) or not isinstance(text["content"], str):
        return _("%(tag)s: title and content are texts.") % {"tag": language}
    if not text["title"].strip():
        return _("%(tag)s: the title is missing.") % {"tag": language}
    if len(text["title"]) > LONGEST_TITLE:
        return _("%(tag)s: the title has more than %(most)s characters.") % {
            "tag": language,
            "most": LONGEST_TITLE,
        }
    return ""


def best_of(available: Collection[str], wanted: Iterable[str]) -> str | None:
    """The first wanted language that there is: exactly, as a wider one, or as one like it.

    `language.js` chooses in the same way, so that stream and inbox agree.
    """
    for tag in wanted:
        for known in wider(tag.lower()):
            if known in available:
                return known
        alike = f"{tag.lower().partition('-')[0]}-"
        if found := sorted(known for known in available if known.startswith(alike)):
            return found[0]
    return None


def wider(tag: str) -> list[str]:
    """The tag, and what it is a kind of: `de-at`, `de`."""
    parts = tag.split("-")
    return ["-".join(parts[:count]) for count in range(len(parts), 0, -1)]


def languages_of(request: HttpRequest) -> list[str]:
    """What the reader wants to read, best first: the language that they prefer, `?language=`, then
    Accept-Language."""
    preference = getattr(request.user, "preference", None)
    preferred, asked = getattr(preference, "language", ""), request.GET.get("language", "")
    accepted = parse_accept_lang_header(request.headers.get("Accept-Language", "").lower())
    tags = [preferred, asked.lower(), *(tag for tag, quality in accepted if quality)]
    return [tag for tag in tags if TAG.fullmatch(tag)][:MOST_WANTED]
