"""Pictures that are uploaded: known by their content, made small and clean, and stored."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from PIL import Image, ImageOps

from domains.blog.models import THUMBNAILS, Media

FORMATS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp"}
TYPES = {extension: f"image/{name.lower()}" for name, extension in FORMATS.items()}
"""By extension: not every system has a list of them that knows WebP."""
LARGEST = (3840, 2160)
MOST_PIXELS = 60_000_000  # decoded, four bytes each: what a small file may claim to hold
SAVING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 85, "progressive": True},
    "WEBP": {"quality": 85},
}


@dataclass
class Picture:
    """Ready to be stored."""

    format: str
    width: int
    height: int
    content: bytes
    thumbnails: dict[int, bytes] = field(default_factory=dict)

    @property
    def mime(self) -> str:
        return TYPES[FORMATS[self.format]]


def read(upload: "UploadedFile[Any]") -> Picture:
    """Raises `ValidationError` for what is too large, no picture, or one that would not fit."""
    if (upload.size or 0) > settings.BLOG_MEDIA_MAX_BYTES:
        most = settings.BLOG_MEDIA_MAX_BYTES / 1_048_576
        raise ValidationError(
            _("It is larger than %(most).3g MB: make it smaller.") % {"most": most}
        )
    try:
        # Only by these decoders, whatever its name is; the header alone is read here.
        with Image.open(upload, formats=list(FORMATS)) as image:
            check_dimensions(image)
            return _decode(image, upload)
    except ValidationError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_many_pixels() from error
    except Exception as error:  # Pillow raises whatever broken bytes lead to
        text = _("This is no picture that can be read: choose a JPEG, PNG, GIF or WebP file.")
        raise ValidationError(text) from error


def check_dimensions(image: Image.Image) -> None:
    """Before a pixel is decoded."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise too_many_pixels()
    if is_animated(image) and (width > LARGEST[0] or height > LARGEST[1]):
        text = _("An animation can be at most %(width)s × %(height)s pixels: make it smaller.")
        raise ValidationError(text % {"width": LARGEST[0], "height": LARGEST[1]})


def too_many_pixels() -> ValidationError:
    text = _("It has more than %(most)s million pixels: make it smaller.")
    return ValidationError(text % {"most": MOST_PIXELS // 1_000_000})


def is_animated(image: Image.Image) -> bool:
    return bool(getattr(image, "is_animated", False))


def _decode(image: Image.Image, upload: "UploadedFile[Any]") -> Picture:
    """Animations stay as they are; what stands still loses where and by what it was taken."""
    kind = str(image.format)
    if is_animated(image):
        upload.seek(0)
        picture = Picture(kind, *image.size, content=upload.read())
    else:
        image.draft("RGB", LARGEST)  # a large JPEG is decoded at a part of its size
        image = ImageOps.exif_transpose(image)
        image.thumbnail(LARGEST)
        picture = Picture(kind, *image.size, content=_encoded(image, kind))
    picture.thumbnails = dict(_thumbnails(image))
    return picture


def _thumbnails(image: Image.Image) -> Iterator[tuple[int, bytes]]:
    """From the largest down, each from the one before."""
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    for size in sorted(THUMBNAILS, reverse=True):
        image.thumbnail((size, size))
        yield size, _encoded(image, "WEBP")


def _encoded(image: Image.Image, kind: str) -> bytes:
    if kind == "JPEG" and image.mode not in {"L", "RGB"}:
        image = image.convert("RGB")
    out = BytesIO()
    profile = image.info.get("icc_profile")
    image.info = {}  # comments and the like
    image.save(out, kind, icc_profile=profile, **SAVING.get(kind, {}))
    return out.getvalue()


def add(user: User | None, upload: "UploadedFile[Any]", alt: str = "") -> Media:
    """Store it with its thumbnails. Raises `ValidationError`."""
    media = Media(alt=alt)
    store(media, user, read(upload), upload.name or "")
    return media


def store(media: Media, user: User | None, picture: Picture, name: str) -> None:
    media.original_name = name[-255:] or "picture"
    media.mime = picture.mime
    media.size = len(picture.content)
    media.width, media.height = picture.width, picture.height
    media.uploaded_by = user
    extension = FORMATS[picture.format]
    media.file.name = f"blog/{timezone.now():%Y/%m}/{uuid4().hex}.{extension}"
    media.full_clean(exclude=["file"])
    try:
        default_storage.save(media.file.name, ContentFile(picture.content))
        for size, content in picture.thumbnails.items():
            default_storage.save(media.thumbnail_name(size), ContentFile(content))
        media.save()
    except BaseException:
        _delete_files(media)
        raise


def delete(media: Media) -> None:
    """The row first: a picture that is named must be there."""
    name = media.file.name
    with transaction.atomic():
        media.delete()
        media.file.name = name
        transaction.on_commit(lambda: _delete_files(media), robust=True)


def _delete_files(media: Media) -> None:
    for name in (media.file.name, *map(media.thumbnail_name, THUMBNAILS)):
        default_storage.delete(str(name))
