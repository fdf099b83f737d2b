from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from domains.blog.markdown import render

CONTENT = 200_000  # characters
COMMENT = 5_000
THUMBNAILS = (150, 300, 600)  # pixels, the longer side


class PostStatus(models.TextChoices):
    DRAFT = "DRAFT", _("Draft")  # with a moment: scheduled
    PUBLISHED = "PUBLISHED", _("Published")


class CommentStatus(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    APPROVED = "APPROVED", _("Approved")
    SPAM = "SPAM", _("Spam")
    TRASH = "TRASH", _("Trash")


class CategoryQuerySet(models.QuerySet["Category"]):
    def get_by_natural_key(self, slug: str) -> "Category":
        return self.get(slug=slug)


class Category(models.Model):
    """Where posts are filed: a tree."""

    name = models.CharField(_("name"), max_length=100)
    slug = models.SlugField(
        _("slug"),
        max_length=100,
        unique=True,
        allow_unicode=True,
        help_text=_("The end of the address of its page."),
    )
    description = models.CharField(
        _("description"),
        max_length=300,
        blank=True,
        help_text=_("Stands at the top of its page."),
    )
    parent = models.ForeignKey(
        "self",
        models.SET_NULL,
        related_name="children",
        verbose_name=_("parent"),
        null=True,
        blank=True,
        help_text=_("The one that it lies in, whose page shows its posts, too; empty: none."),
    )

    objects = CategoryQuerySet.as_manager()

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(parent=models.F("id")),
                name="blog_category_is_not_its_own_parent",
                violation_error_message=_("A category cannot lie in itself."),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str]:
        return (self.slug,)

    def clean(self) -> None:
        if self.pk and self.parent_id in Tree(Category.objects.all()).within(self.pk):
            text = _("A category cannot lie in itself, or in one of those within it.")
            raise ValidationError({"parent": text})

    def get_absolute_url(self) -> str:
        return reverse("blog-category", args=[self.slug])


class Tree:
    """All categories, read once: they are few."""

    def __init__(self, categories: Iterable[Category]) -> None:
        self.by_id = {category.pk: category for category in categories}
        self.children: dict[int | None, list[Category]] = {}
        for category in self.by_id.values():
            self.children.setdefault(category.parent_id, []).append(category)

    def within(self, pk: int) -> set[int]:
        """The ids of this one and of all below it."""
        found = {pk}
        waiting = [pk]
        while waiting:
            below = {child.pk for child in self.children.get(waiting.pop(), [])} - found
            found |= below
            waiting += below
        return found

    def above(self, category: Category) -> list[Category]:
        """From the top down to its parent."""
        path: list[Category] = []
        while (parent := self.by_id.get(category.parent_id or 0)) and parent not in path:
            path.insert(0, parent)
            category = parent
        return path

    def walk(self, parent: int | None = None, depth: int = 0) -> Iterator[tuple[int, Category]]:
        """Each with its depth, parents first."""
        for child in self.children.get(parent, []):
            yield depth, child
            yield from self.walk(child.pk, depth + 1)


class TagQuerySet(models.QuerySet["Tag"]):
    def get_by_natural_key(self, slug: str) -> "Tag":
        return self.get(slug=slug)


class Tag(models.Model):
    name = models.CharField(_("name"), max_length=100, unique=True)
    slug = models.SlugField(
        _("slug"),
        max_length=100,
        unique=True,
        allow_unicode=True,
        help_text=_("The end of the address of its page."),
    )

    objects = TagQuerySet.as_manager()

    class Meta:
        verbose_name = _("tag")
        verbose_name_plural = _("tags")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str]:
        return (self.slug,)

    def get_absolute_url(self) -> str:
        return reverse("blog-tag", args=[self.slug])


class Media(models.Model):
    """A picture and its thumbnails; `domains.blog.pictures` reads it, and says what it may be."""

    file = models.FileField(_("file"), max_length=200, editable=False)
    original_name = models.CharField(_("original name"), max_length=255, editable=False)
    mime = models.CharField(_("type"), max_length=20, editable=False)
    size = models.PositiveIntegerField(_("bytes"), editable=False)
    width = models.PositiveIntegerField(_("width"), editable=False)
    height = models.PositiveIntegerField(_("height"), editable=False)
    alt = models.CharField(
        _("description"),
        max_length=300,
        blank=True,
        help_text=_("What it shows, for who cannot see it."),
    )
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="+",
        verbose_name=_("uploaded by"),
        null=True,
        editable=False,
    )
    created_at = models.DateTimeField(_("uploaded"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("picture")
        verbose_name_plural = _("pictures")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.alt or self.original_name

    @property
    def url(self) -> str:
        return str(self.file.url)

    def thumbnail_name(self, size: int) -> str:
        """Of one of THUMBNAILS, beside the file itself."""
        return f"{str(self.file.name).rpartition('.')[0]}-{size}.webp"

    def thumbnail(self, size: int) -> str:
        return str(self.file.storage.url(self.thumbnail_name(size)))

    @property
    def thumbnails(self) -> dict[str, str]:
        """The address of each, by its size in pixels."""
        return {str(size): self.thumbnail(size) for size in THUMBNAILS}

    @property
    def markdown(self) -> str:
        """What shows it in a post."""
        return f"![{self.alt.translate({91: '(', 93: ')'})}]({self.url})"


class PostQuerySet(models.QuerySet["Post"]):
    def get_by_natural_key(self, slug: str) -> "Post":
        return self.get(slug=slug)

    def published(self) -> Self:
        return self.filter(status=PostStatus.PUBLISHED)

    def due(self, at: datetime | Now) -> Self:
        return self.filter(status=PostStatus.DRAFT, published_at__lte=at)

    def scheduled(self) -> Self:
        return self.filter(status=PostStatus.DRAFT, published_at__isnull=False)

    def filed(self, categories: Collection[int]) -> Self:
        """Under any of them, each once."""
        filings = Post.categories.through.objects.filter(category__in=categories)
        return self.filter(pk__in=filings.values("post"))

    def for_lists(self) -> Self:
        """With what a list shows of each, without the texts that make rows heavy."""
        return (
            self.defer("content")
            .select_related("author", "featured_image")
            .prefetch_related("categories", "tags")
        )


class Post(models.Model):
    """What is written; `services` keep what is derived from it."""

    title = models.CharField(_("title"), max_length=200)
    slug = models.SlugField(
        _("slug"),
        max_length=200,
        unique=True,
        blank=True,
        allow_unicode=True,
        help_text=_(
            "The end of its address; empty: made of the title. One that it had leads here, too."
        ),
    )
    content = models.TextField(_("content"), max_length=CONTENT, blank=True)
    excerpt = models.CharField(
        _("excerpt"),
        max_length=500,
        blank=True,
        help_text=_("What lists show; empty: its first 200 characters."),
    )
    summary = models.CharField(_("summary"), max_length=500, blank=True, editable=False)
    """The excerpt, or what stands for it."""
    reading_time = models.PositiveIntegerField(_("minutes to read"), default=1, editable=False)
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=PostStatus.choices,
        default=PostStatus.DRAFT,
        editable=False,
    )
    published_at = models.DateTimeField(
        _("goes out / went out"),
        null=True,
        blank=True,
        help_text=_("A draft is published at this moment by itself; empty: when you publish it."),
    )
    featured = models.BooleanField(
        _("featured"), default=False, help_text=_("Stands first on the blog's page.")
    )
    comments_open = models.BooleanField(_("takes comments"), default=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="+",
        verbose_name=_("author"),
        null=True,
        blank=True,
    )
    featured_image = models.ForeignKey(
        Media,
        models.SET_NULL,
        related_name="+",
        verbose_name=_("picture"),
        null=True,
        blank=True,
    )
    categories = models.ManyToManyField(
        Category, related_name="posts", verbose_name=_("categories"), blank=True
    )
    tags = models.ManyToManyField(Tag, related_name="posts", verbose_name=_("tags"), blank=True)
    meta_title = models.CharField(
        _("title for search engines"), max_length=200, blank=True, help_text=_("Empty: its title.")
    )
    meta_description = models.CharField(
        _("description for search engines"),
        max_length=300,
        blank=True,
        help_text=_("Empty: its excerpt."),
    )
    meta_keywords = models.CharField(_("keywords"), max_length=300, blank=True)
    canonical_url = models.CharField(
        _("canonical address"),
        max_length=500,
        blank=True,
        validators=[URLValidator(["http", "https"])],
        help_text=_("Where it appeared first, if elsewhere."),
    )
    og_title = models.CharField(
        _("title when shared"), max_length=200, blank=True, help_text=_("Empty: its title.")
    )
    og_description = models.CharField(
        _("description when shared"),
        max_length=300,
        blank=True,
        help_text=_("Empty: its excerpt."),
    )
    og_image = models.ForeignKey(
        Media,
        models.SET_NULL,
        related_name="+",
        verbose_name=_("picture when shared"),
        null=True,
        blank=True,
        help_text=_("Empty: its picture."),
    )
    view_count = models.PositiveBigIntegerField(_("views"), default=0, editable=False)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("changed"), db_default=Now(), editable=False)

    objects = PostQuerySet.as_manager()

    class Meta:
        verbose_name = _("post")
        verbose_name_plural = _("posts")
        ordering = ["-published_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status=PostStatus.DRAFT) | models.Q(published_at__isnull=False),
                name="blog_what_is_published_has_its_moment",
                violation_error_message=_("What is published has a moment when it was."),
            )
        ]
        indexes = [
            # Not partial: SQLite cannot use one for a status that is a parameter.
            models.Index(fields=["status", "published_at", "id"], name="blog_post_moment"),
            models.Index(
                fields=["status", "featured", "published_at", "id"], name="blog_post_home"
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def natural_key(self) -> tuple[str]:
        return (self.slug,)

    def clean(self) -> None:
        is_published = self.status == PostStatus.PUBLISHED
        if is_published and self.published_at and self.published_at > timezone.now():
            text = _("It is published: withdraw it first, then choose when it goes out again.")
            raise ValidationError({"published_at": text})

    def get_absolute_url(self) -> str:
        return reverse("blog-post", args=[self.slug])

    @property
    def html(self) -> str:
        return render(self.content)

    @property
    def is_scheduled(self) -> bool:
        return self.status == PostStatus.DRAFT and self.published_at is not None

    @property
    def address(self) -> str:
        """Where it stands for good, in full."""
        return self.canonical_url or f"{settings.SITE_URL}{self.get_absolute_url()}"


class FormerSlug(models.Model):
    """An address that a post had: it leads to the one that it has, unless another post took it."""

    slug = models.SlugField(max_length=200, primary_key=True, allow_unicode=True)
    post = models.ForeignKey(Post, models.CASCADE, related_name="former_slugs")

    def __str__(self) -> str:
        return self.slug


class CommentQuerySet(models.QuerySet["Comment"]):
    def approved(self) -> Self:
        return self.filter(status=CommentStatus.APPROVED)

    def pending(self) -> Self:
        return self.filter(status=CommentStatus.PENDING)

    def trashed(self) -> Self:
        return self.filter(status=CommentStatus.TRASH)


class Comment(models.Model):
    """What a reader says; nobody sees it before a moderator approved it."""

    post = models.ForeignKey(
        Post, models.CASCADE, related_name="comments", verbose_name=_("post"), db_index=False
    )
    parent = models.ForeignKey(
        "self",
        models.CASCADE,
        related_name="replies",
        verbose_name=_("answers"),
        null=True,
        blank=True,
        editable=False,
    )
    """The first of its thread: answers to answers stand below the same one."""
    author_name = models.CharField(_("name"), max_length=100)
    author_email = models.EmailField(_("e-mail"), blank=True)
    """For moderators alone."""
    content = models.TextField(_("comment"), max_length=COMMENT)
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=CommentStatus.choices,
        default=CommentStatus.PENDING,
        editable=False,
    )
    created_at = models.DateTimeField(_("written"), db_default=Now(), editable=False)

    objects = CommentQuerySet.as_manager()

    class Meta:
        verbose_name = _("comment")
        verbose_name_plural = _("comments")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["post", "status", "id"], name="blog_comment_of_post"),
            models.Index(fields=["status", "-id"], name="blog_comment_status"),
        ]

    def __str__(self) -> str:
        return f"{self.author_name}: {self.content[:50]}"
