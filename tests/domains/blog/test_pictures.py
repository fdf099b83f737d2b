from io import BytesIO
from mimetypes import MimeTypes
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from PIL import Image
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from domains.blog import pictures
from domains.blog.models import Media, Post
from tests.domains.blog.conftest import draft, image, upload

pytestmark = pytest.mark.django_db


def opened(path: Path) -> Image.Image:
    return Image.open(BytesIO(path.read_bytes()))


@pytest.mark.parametrize(
    ("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("GIF", "gif"), ("WEBP", "webp")]
)
def test_a_picture_is_known_by_its_content_and_gets_thumbnails(
    files: Path, kind: str, extension: str
) -> None:
    media = pictures.add(None, upload(image(kind), name="evil.html"), "The sun")
    assert media.mime == f"image/{kind.lower()}"
    assert media.url.endswith(f".{extension}")
    assert (media.width, media.height, str(media)) == (800, 400, "The sun")
    for size in (150, 300, 600):
        assert opened(files / media.thumbnail_name(size)).size == (size, size // 2)
    assert len([path for path in files.rglob("*") if path.is_file()]) == 4


def test_a_small_picture_is_not_made_larger(files: Path) -> None:
    media = pictures.add(None, upload(image(size=(40, 20))))
    assert opened(files / media.thumbnail_name(600)).size == (40, 20)


@pytest.mark.parametrize(
    ("size", "kept"),
    [((3840, 2160), (3840, 2160)), ((5000, 1000), (3840, 768)), ((1000, 5000), (432, 2160))],
)
def test_a_large_picture_is_made_to_fit(size: tuple[int, int], kept: tuple[int, int]) -> None:
    media = pictures.add(None, upload(image("JPEG", size)))
    assert (media.width, media.height) == kept


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        (b"GIF89a<script>alert(1)</script>", "no picture"),
        (b"", "no picture"),
        (image()[:200], "no picture"),
        (image("BMP"), "no picture"),
        (image("PNG", (8000, 8000), "1"), "60 million pixels"),
        (image("PNG", (20_000, 20_000), "1"), "60 million pixels"),
    ],
    ids=["svg", "script", "empty", "cut off", "bmp", "bomb", "larger bomb"],
)
def test_what_is_no_picture_or_a_bomb_is_refused(files: Path, content: bytes, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        pictures.add(None, upload(content, "sun.png"))
    assert not Media.objects.exists()
    assert not list(files.rglob("*.*"))


def test_a_file_that_is_too_large_is_refused(settings: Settings) -> None:
    settings.BLOG_MEDIA_MAX_BYTES = 1_048_576
    with pytest.raises(ValidationError, match="larger than 1 MB"):
        pictures.add(None, upload(image() + b"\0" * 1_048_576))


def test_where_it_was_taken_is_not_kept_and_it_stands_upright(files: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "at home"
    media = pictures.add(None, upload(image("JPEG", (80, 40), exif=exif)))
    assert (media.width, media.height) == (40, 80)
    assert b"at home" not in (files / str(media.file.name)).read_bytes()


def test_an_animation_goes_on_moving(files: Path) -> None:
    frames = [Image.new("RGB", (80, 40), colour) for colour in ("red", "blue")]
    out = BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    media = pictures.add(None, upload(out.getvalue()))
    assert (files / str(media.file.name)).read_bytes() == out.getvalue()
    big = [frame.resize((4000, 40)) for frame in frames]
    out = BytesIO()
    big[0].save(out, "GIF", save_all=True, append_images=big[1:])
    with pytest.raises(ValidationError, match="animation"):
        pictures.add(None, upload(out.getvalue()))


def test_a_picture_takes_its_files_along_and_posts_stay(
    files: Path, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    media = pictures.add(None, upload())
    post = draft(featured_image=media)
    with django_capture_on_commit_callbacks(execute=True):
        pictures.delete(media)
    assert not [path for path in files.rglob("*") if path.is_file()]
    assert Post.objects.get(pk=post.pk).featured_image is None


def test_files_that_cannot_be_recorded_are_not_left_behind(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(Media, "save", fail)
    with pytest.raises(OSError, match="away"):
        pictures.add(None, upload())
    assert not [path for path in files.rglob("*") if path.is_file()]


def test_a_thumbnail_is_a_picture_where_the_system_knows_no_types(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimetypes._db", MimeTypes())  # as in python:3.11-slim
    media = pictures.add(None, upload())
    assert client.get(media.thumbnail(150))["Content-Type"] == "image/webp"


def test_a_file_beside_them_that_is_no_picture_is_not_served(client: Client, files: Path) -> None:
    pictures.add(None, upload())
    for name in ("notes.txt", "page.html"):
        (files / "blog" / name).write_text("<script>")
        assert client.get(f"/media/blog/{name}").status_code == 404, name


def test_pictures_are_served_and_nothing_else_of_the_disk(client: Client) -> None:
    media = pictures.add(None, upload())
    answer = client.get(media.url)
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png")
    assert "immutable" in answer["Cache-Control"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert client.get(media.thumbnail(150))["Content-Type"] == "image/webp"
    for name in ("none.png", "..%2f..%2fdb.sqlite3", "%2e%2e/x", "/etc/passwd", "2026", "%00"):
        assert client.get(f"/media/blog/{name}").status_code == 404, name
