from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from PIL import Image
from pytest_django import Settings

from domains.blog import services
from domains.blog.counting import Views
from domains.blog.models import Post
from outbox.models import Event

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def files(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pictures go; what another test counted is forgotten."""
    settings.MEDIA_ROOT = tmp_path / "media"
    cache.clear()
    monkeypatch.setattr("domains.blog.views.views", Views())
    return tmp_path / "media"


def draft(title: str = "First light", **fields: Any) -> Post:
    return services.compose(None, **{"title": title, "content": "Some *words*."} | fields)


def published(title: str = "First light", **fields: Any) -> Post:
    post = draft(title, **fields)
    services.publish(post)
    return post


def scheduled(title: str = "First light", **fields: Any) -> Post:
    return draft(title, **{"published_at": timezone.now() + HOUR} | fields)


def due(count: int) -> list[Post]:
    """Whose moments lie behind, as those that a clock that stood still left."""
    moment = timezone.now() - HOUR
    return Post.objects.bulk_create(
        Post(title=f"Post {n}", slug=f"post-{n}", published_at=moment + timedelta(seconds=n % 9))
        for n in range(count)
    )


def told(kind: str = "") -> list[Event]:
    events = Event.objects.filter(type__startswith="blog.").order_by("id")
    return list(events.filter(type=kind) if kind else events)


def image(
    kind: str = "PNG", size: tuple[int, int] = (800, 400), mode: str = "RGB", **options: Any
) -> bytes:
    out = BytesIO()
    Image.new(mode, size, "teal" if mode == "RGB" else 0).save(out, kind, **options)
    return out.getvalue()


def upload(content: bytes | None = None, name: str = "sun.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, image() if content is None else content)
