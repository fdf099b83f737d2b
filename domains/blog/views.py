"""The blog as everybody reads it."""

from collections.abc import Callable
from datetime import MAXYEAR, MINYEAR, date
from functools import wraps
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.core.paginator import Page, Paginator
from django.db.models import Count, Q
from django.db.models.functions import Coalesce, TruncMonth
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_safe

from domains.blog.comments import CommentsClosed, TooManyComments, admit, comment
from domains.blog.counting import views
from domains.blog.models import (
    COMMENT,
    Category,
    Comment,
    CommentStatus,
    Post,
    PostQuerySet,
    PostStatus,
    Tag,
    Tree,
)
from domains.blog.pictures import TYPES
from jobs.acting import address_of

ON_PAGE = 10
COMMENTS = 100  # on a page
MONTHS = 24
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
View = Callable[..., HttpResponseBase]


def public(view: View) -> View:
    """A page without scripts: what a post or a comment smuggles in cannot run."""

    @wraps(view)
    def protected(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return protected


class CommentForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    email = forms.EmailField(
        label=gettext_lazy("E-mail (optional)"),
        required=False,
        max_length=254,
        help_text=gettext_lazy("Only moderators see it."),
    )
    content = forms.CharField(
        label=gettext_lazy("Comment"),
        max_length=COMMENT,
        widget=forms.Textarea({"rows": 5}),
    )
    parent = forms.IntegerField(required=False, widget=forms.HiddenInput)
    website = forms.CharField(
        label=gettext_lazy("Leave this empty"),
        required=False,
        widget=forms.TextInput({"autocomplete": "off", "tabindex": "-1"}),
    )
    """People do not see it: who fills it in is a program."""


@require_safe
@public
def index(request: HttpRequest) -> HttpResponse:
    return listed(request, Post.objects.published(), _("Blog"), is_home=True)


@require_safe
@public
def category(request: HttpRequest, slug: str) -> HttpResponse:
    """With what lies in the categories within it."""
    tree = Tree(Category.objects.all())
    found = [row for row in tree.by_id.values() if row.slug == slug]
    if not found:
        raise Http404
    posts = Post.objects.published().filed(tree.within(found[0].pk))
    return listed(
        request,
        posts,
        found[0].name,
        lead=found[0].description,
        path=tree.above(found[0]),
        below=tree.children.get(found[0].pk, []),
    )


@require_safe
@public
def tag(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(Tag, slug=slug)
    return listed(request, Post.objects.published().filter(tags=found), f"#{found.name}")


@require_safe
@public
def month(request: HttpRequest, year: int, month: int) -> HttpResponse:
    if not (MINYEAR < year < MAXYEAR and 1 <= month <= 12):  # both end in the zone of another
        raise Http404
    first = date(year, month, 1)
    posts = Post.objects.published().filter(published_at__year=year, published_at__month=month)
    return listed(request, posts, date_format(first, "YEAR_MONTH_FORMAT"))


def listed(request: HttpRequest, posts: PostQuerySet, heading: str, **context: Any) -> HttpResponse:
    if context.get("is_home"):
        posts = posts.order_by("-featured", "-published_at", "-pk")
    page = Paginator(posts.for_lists(), ON_PAGE).get_page(request.GET.get("page"))
    query = f"?page={page.number}" if page.number > 1 else ""
    context |= {
        "page": page,
        "heading": heading,
        "canonical": f"{settings.SITE_URL}{request.path}{query}",
        "months": months(),
        "roots": Tree(Category.objects.all()).walk(),
    }
    return render(request, "blog/list.html", context)


def months() -> list[dict[str, Any]]:
    """Those in which something appeared, the latest first; counted once a minute."""

    def count() -> list[dict[str, Any]]:
        shown = Post.objects.published().order_by().annotate(month=TruncMonth("published_at"))
        counted = shown.values("month").annotate(count=Count("pk"))
        return [dict(row) for row in counted.order_by("-month")[:MONTHS]]

    return cast(list[dict[str, Any]], cache.get_or_set("blog-months", count, 60))


@require_http_methods(["GET", "HEAD", "POST"])
@public
def post(request: HttpRequest, slug: str) -> HttpResponse:
    """One of them; who may see drafts sees them as they will be."""
    rows = Post.objects.select_related("author", "featured_image", "og_image")
    found = rows.prefetch_related("categories", "tags").filter(slug=slug).first()
    if not found:
        found = get_object_or_404(Post, former_slugs__slug=slug)
    is_draft = found.status != PostStatus.PUBLISHED
    if is_draft and not request.user.has_perm("blog.view_post"):
        raise Http404
    if found.slug != slug:
        return redirect(found, permanent=True)
    form = CommentForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = take(request, found, form)
        if status == 201:
            return redirect(f"{found.get_absolute_url()}#comments")
    elif request.method == "GET" and not is_draft:
        views.count(found.pk)
    context = {
        "post": found,
        "form": form,
        "is_draft": is_draft,
        "comments": comments_of(found, request.GET.get("comments")),
        "answered": answered(found, request.POST.get("parent") or request.GET.get("answer")),
        "picture": found.og_image or found.featured_image,
        "site_url": settings.SITE_URL,
    }
    return render(request, "blog/post.html", context, status=status)


def take(request: HttpRequest, found: Post, form: CommentForm) -> int:
    """The status to answer with; 201: it is kept, and whoever wrote it is told so."""
    try:
        admit(address_of(request))
        if not form.is_valid():
            return 400
        given = form.cleaned_data
        comment(
            found,
            name=given["name"],
            email=given["email"],
            content=given["content"],
            parent=answered(found, given["parent"]),
            is_spam=bool(given["website"]),
        )
    except TooManyComments as error:
        form.add_error(None, str(error))
        return 429
    except CommentsClosed as error:
        form.add_error(None, str(error))
        return 403
    messages.success(request, _("Thank you. Your comment appears when a moderator has seen it."))
    return 201


def answered(found: Post, pk: Any) -> Comment | None:
    """The comment that is to be answered: one that everybody sees."""
    if not str(pk or "").isascii() or not str(pk or "").isdigit() or len(str(pk)) > 18:
        return None
    return found.comments.approved().select_related("parent").filter(pk=pk).first()


def comments_of(found: Post, page: str | None) -> Page[Comment]:
    """Approved comments, the first first, each followed by its approved answers."""
    below_what_is_seen = Q(parent=None) | Q(parent__status=CommentStatus.APPROVED)
    shown = found.comments.approved().filter(below_what_is_seen).select_related("parent")
    threads = shown.annotate(thread=Coalesce("parent_id", "pk")).order_by("thread", "pk")
    return Paginator(threads, COMMENTS).get_page(page)


@require_safe
@cache_control(public=True, max_age=31_536_000, immutable=True)
def media(request: HttpRequest, name: str) -> HttpResponse:
    """A picture or a thumbnail; each has a name of its own for ever, and is never changed."""
    kind = TYPES.get(name.rpartition(".")[2])
    if not kind:
        raise Http404
    try:
        with default_storage.open(f"blog/{name}") as file:
            content = file.read()
    except (OSError, SuspiciousFileOperation, ValueError):
        raise Http404 from None
    return HttpResponse(content, content_type=kind)
