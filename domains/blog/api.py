"""`/api/blog`: posts, what they are filed under, their pictures, and what readers say."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import django_filters
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import DestroyModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from domains.blog import pictures, services
from domains.blog.comments import moderate
from domains.blog.models import (
    Category,
    Comment,
    CommentStatus,
    Media,
    Post,
    PostQuerySet,
    PostStatus,
    Tag,
    Tree,
)

STATES = [("draft", _("Draft")), ("scheduled", _("Scheduled")), ("published", _("Published"))]


def permissions(model: str, **actions: str) -> dict[str, str]:
    """What each action needs: the permissions that Django makes for the model."""
    verbs = {
        "list": "view",
        "retrieve": "view",
        "create": "add",
        "partial_update": "change",
        "destroy": "delete",
    }
    return {name: f"blog.{verb}_{model}" for name, verb in (verbs | actions).items()}


class Noted(GenericViewSet[Any]):
    """What is written stands in the history of the admin."""

    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch", "delete"]

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        self.note([serializer.save()], ADDITION, _("Made"))

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        self.note([serializer.save()], CHANGE, _("Changed"))

    def perform_destroy(self, instance: Model) -> None:
        self.note([instance], DELETION, _("Deleted"))
        instance.delete()

    def note(self, things: Sequence[Model], flag: int, noted: str) -> None:
        person: Any = self.request.user.pk
        LogEntry.objects.log_actions(person, things, flag, change_message=noted)


# Posts


class PostSerializer(serializers.ModelSerializer[Post]):
    """A draft with `published_at` is scheduled: it is published at that moment."""

    categories = serializers.SlugRelatedField(
        slug_field="slug", queryset=Category.objects.all(), many=True, required=False
    )
    tags = serializers.SlugRelatedField(
        slug_field="slug", queryset=Tag.objects.all(), many=True, required=False
    )
    author = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )
    url = serializers.CharField(source="address", read_only=True, help_text="Where it is read.")

    class Meta:
        model = Post
        fields = [
            "id",
            "title",
            "slug",
            "url",
            "excerpt",
            "summary",
            "status",
            "published_at",
            "featured",
            "comments_open",
            "author",
            "featured_image",
            "categories",
            "tags",
            "reading_time",
            "view_count",
            "created_at",
            "updated_at",
        ]
        read_only_fields = [
            "summary",
            "status",
            "reading_time",
            "view_count",
            "created_at",
            "updated_at",
        ]


class PostDetailSerializer(PostSerializer):
    html = serializers.CharField(read_only=True, help_text="Sanitised.")

    class Meta(PostSerializer.Meta):
        fields = [
            *PostSerializer.Meta.fields,
            "content",
            "html",
            "meta_title",
            "meta_description",
            "meta_keywords",
            "canonical_url",
            "og_title",
            "og_description",
            "og_image",
        ]

    def create(self, validated_data: dict[str, Any]) -> Post:
        return services.compose(self.context["request"].user, **validated_data)

    def update(self, instance: Post, validated_data: dict[str, Any]) -> Post:
        services.edit(instance, **validated_data)
        return instance


class PostFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=STATES, method="in_state")
    category = django_filters.CharFilter(
        method="in_category", help_text="Slug; with the categories within it."
    )
    tag = django_filters.CharFilter("tags__slug", help_text="Slug.")
    author = django_filters.CharFilter("author__username", help_text="Username.")
    featured = django_filters.BooleanFilter()
    since = django_filters.IsoDateTimeFilter("published_at", "gte")
    until = django_filters.IsoDateTimeFilter("published_at", "lt")
    search = django_filters.CharFilter(method="with_words", help_text="In title or content.")

    def in_state(self, posts: PostQuerySet, _: str, value: str) -> PostQuerySet:
        drafts = posts.filter(status=PostStatus.DRAFT)
        found = {
            "draft": drafts.filter(published_at=None),
            "scheduled": posts.scheduled(),
            "published": posts.published(),
        }
        return found[value]

    def in_category(self, posts: PostQuerySet, _: str, value: str) -> PostQuerySet:
        tree = Tree(Category.objects.all())
        found = [row.pk for row in tree.by_id.values() if row.slug == value]
        return posts.filed(tree.within(found[0])) if found else posts.none()

    def with_words(self, posts: PostQuerySet, _: str, value: str) -> PostQuerySet:
        for word in value.split()[:10]:
            posts = posts.filter(Q(title__icontains=word) | Q(content__icontains=word))
        return posts


@extend_schema(tags=["blog"])
class PostViewSet(Noted, ModelViewSet[Post]):
    """What is written, and when it goes out."""

    queryset = Post.objects.all()
    serializer_class = PostDetailSerializer
    filterset_class = PostFilter
    ordering_fields = ["id", "title", "published_at", "created_at", "updated_at", "view_count"]
    needs = permissions("post", publish="change", withdraw="change")

    def get_queryset(self) -> QuerySet[Post]:
        posts = Post.objects.for_lists() if self.action == "list" else Post.objects.all()
        return posts.order_by("-id")

    def get_serializer_class(self) -> type[PostSerializer]:
        return PostSerializer if self.action == "list" else PostDetailSerializer

    @extend_schema(request=None, responses=PostDetailSerializer)
    @action(detail=True, methods=["post"])
    def publish(self, request: Request, pk: int) -> Response:
        """Now, whatever its moment."""
        return self._steer(services.publish, _("Published"))

    @extend_schema(request=None, responses=PostDetailSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: int) -> Response:
        """From the pages back to the drafts; its moment is forgotten."""
        return self._steer(services.withdraw, _("Withdrawn"))

    def perform_destroy(self, instance: Model) -> None:
        self.note([instance], DELETION, _("Deleted"))
        services.delete(cast(Post, instance))

    def _steer(self, steer: Callable[[Post], None], noted: str) -> Response:
        post = self.get_object()
        steer(post)
        self.note([post], CHANGE, noted)
        return Response(self.get_serializer(post).data)


# What they are filed under


class CategorySerializer(serializers.ModelSerializer[Category]):
    parent = serializers.SlugRelatedField(  # type: ignore[assignment]
        slug_field="slug",
        queryset=Category.objects.all(),
        allow_null=True,
        required=False,
        help_text="Slug of the one that it lies in.",
    )

    class Meta:
        model = Category
        fields = ["id", "name", "slug", "description", "parent"]

    def create(self, validated_data: dict[str, Any]) -> Category:
        return self.update(Category(), validated_data)

    def update(self, instance: Category, validated_data: dict[str, Any]) -> Category:
        services.save_category(instance, **validated_data)
        return instance


@extend_schema(tags=["blog"])
class CategoryViewSet(Noted, ModelViewSet[Category]):
    """A tree."""

    queryset = Category.objects.select_related("parent")
    serializer_class = CategorySerializer
    filterset_fields = {"parent": ["exact", "isnull"]}
    ordering_fields = ["id", "name"]
    needs = permissions("category")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["id", "name", "slug"]


class TagFilter(django_filters.FilterSet):
    search = django_filters.CharFilter("name", "icontains", help_text="Part of the name.")


@extend_schema(tags=["blog"])
class TagViewSet(Noted, ModelViewSet[Tag]):
    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    filterset_class = TagFilter
    ordering_fields = ["id", "name"]
    needs = permissions("tag")


# Comments


class BlogCommentSerializer(serializers.ModelSerializer[Comment]):
    """For moderators: pages show no e-mail address."""

    class Meta:
        model = Comment
        fields = [
            "id",
            "post",
            "parent",
            "author_name",
            "author_email",
            "content",
            "status",
            "created_at",
        ]
        read_only_fields = ["parent", "created_at"]


class ModerationSerializer(serializers.Serializer[Any]):
    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1), min_length=1, max_length=1_000
    )
    status = serializers.ChoiceField(choices=CommentStatus.choices)


class ModeratedSerializer(serializers.Serializer[Any]):
    changed = serializers.IntegerField(help_text="How many were of another status before.")


class CommentFilter(django_filters.FilterSet):
    post = django_filters.NumberFilter()
    status = django_filters.MultipleChoiceFilter(choices=CommentStatus.choices)
    search = django_filters.CharFilter("content", "icontains")


@extend_schema(tags=["blog"])
class CommentViewSet(
    Noted, ListModelMixin, RetrieveModelMixin, DestroyModelMixin, GenericViewSet[Comment]
):
    """What readers say, in any status."""

    queryset = Comment.objects.all()
    serializer_class = BlogCommentSerializer
    filterset_class = CommentFilter
    ordering_fields = ["id", "status", "created_at"]
    needs = {
        "list": "blog.view_comment",
        "retrieve": "blog.view_comment",
        "destroy": "blog.delete_comment",
        "moderate": "blog.change_comment",
    }

    @extend_schema(request=ModerationSerializer, responses=ModeratedSerializer)
    @action(detail=False, methods=["post"])
    def moderate(self, request: Request) -> Response:
        """Approve, or put aside, up to 1,000 at once."""
        asked = ModerationSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = CommentStatus(asked.validated_data["status"])
        chosen = Comment.objects.filter(pk__in=asked.validated_data["ids"])
        tell = partial(self.note, flag=CHANGE, noted=str(wanted.label))
        return Response({"changed": moderate(chosen, wanted, tell)})


# Pictures


class MediaSerializer(serializers.ModelSerializer[Media]):
    url = serializers.CharField(read_only=True)
    thumbnails = serializers.DictField(
        child=serializers.CharField(), read_only=True, help_text="Addresses by size in pixels."
    )
    markdown = serializers.CharField(read_only=True, help_text="What shows it in a post.")

    class Meta:
        model = Media
        fields = [
            "id",
            "url",
            "thumbnails",
            "markdown",
            "alt",
            "original_name",
            "mime",
            "size",
            "width",
            "height",
            "created_at",
        ]
        read_only_fields = ["original_name", "mime", "size", "width", "height", "created_at"]


class UploadSerializer(serializers.Serializer[Media]):
    file = serializers.FileField(
        help_text="JPEG, PNG, GIF or WebP by its content; at most BLOG_MEDIA_MAX_BYTES."
    )
    alt = serializers.CharField(required=False, default="", allow_blank=True, max_length=300)

    def create(self, validated_data: dict[str, Any]) -> Media:
        user = self.context["request"].user
        return pictures.add(user, validated_data["file"], validated_data["alt"])

    def to_representation(self, instance: Media) -> dict[str, Any]:
        return MediaSerializer(instance).data


class MediaFilter(django_filters.FilterSet):
    mime = django_filters.CharFilter()
    search = django_filters.CharFilter(method="with_words", help_text="In description or name.")

    def with_words(self, rows: QuerySet[Media], _: str, value: str) -> QuerySet[Media]:
        for word in value.split()[:10]:
            rows = rows.filter(Q(alt__icontains=word) | Q(original_name__icontains=word))
        return rows


@extend_schema(tags=["blog"])
class MediaViewSet(Noted, ModelViewSet[Media]):
    """Pictures with their thumbnails."""

    queryset = Media.objects.all()
    serializer_class = MediaSerializer
    filterset_class = MediaFilter
    ordering_fields = ["id", "size", "created_at"]
    needs = permissions("media")

    def get_parsers(self) -> list[BaseParser]:
        is_upload = self.request is None or self.request.method == "POST"
        return [MultiPartParser()] if is_upload else super().get_parsers()

    def get_serializer_class(self) -> type[BaseSerializer[Media]]:
        return UploadSerializer if self.action == "create" else MediaSerializer

    @extend_schema(
        request={"multipart/form-data": UploadSerializer}, responses={201: MediaSerializer}
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Upload one; larger than 3840 by 2160 pixels it is made smaller."""
        return super().create(request, *args, **kwargs)

    def perform_destroy(self, instance: Model) -> None:
        self.note([instance], DELETION, _("Deleted"))
        pictures.delete(cast(Media, instance))
