import io
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from domains.blog import demo
from domains.blog.models import Comment, Post, PostStatus

pytestmark = pytest.mark.django_db


def run() -> str:
    out = io.StringIO()
    call_command("demo", stdout=out)
    return out.getvalue()


def test_there_is_a_post_in_each_state_and_comments_to_moderate(
    client: Client, settings: Settings
) -> None:
    settings.DEBUG = True
    assert run() == "Demo data created.\n"
    assert Post.objects.published().count() == 3
    assert Post.objects.scheduled().count() == 1
    assert Post.objects.filter(status=PostStatus.DRAFT, published_at=None).count() == 1
    assert Comment.objects.pending().count() == 1
    for post in Post.objects.published():
        assert post.author
        assert client.get(post.get_absolute_url()).status_code == 200


def test_a_second_time_it_is_one_query(
    django_assert_num_queries: DjangoAssertNumQueries, settings: Settings, files: Path
) -> None:
    settings.DEBUG = True
    run()
    with django_assert_num_queries(1):
        assert demo.create() is False
    assert run() == "The demo data is there.\n"


def test_what_an_interruption_left_out_is_made_up_for() -> None:
    demo.create()
    Post.objects.filter(slug__in=[demo.LAST, "hello"]).delete()
    assert demo.create() is True
    assert Post.objects.count() == 5
