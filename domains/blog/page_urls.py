"""The pages of the blog, its feeds and its pictures; no address ends with a slash."""

from django.contrib.sitemaps.views import index, sitemap
from django.urls import path, register_converter
from django.urls.converters import StringConverter

from domains.blog import views
from domains.blog.feeds import SITEMAPS, LatestPosts, LatestPostsAtom


class AnyScript(StringConverter):
    """A slug of any script; what is none never reaches the database."""

    regex = r"[-\w]+"


register_converter(AnyScript, "blog_slug")

urlpatterns = [
    path("blog", views.index, name="blog"),
    path("blog/feed.rss", LatestPosts(), name="blog-rss"),
    path("blog/feed.atom", LatestPostsAtom(), name="blog-atom"),
    path("blog/category/<blog_slug:slug>", views.category, name="blog-category"),
    path("blog/tag/<blog_slug:slug>", views.tag, name="blog-tag"),
    path("blog/<int:year>/<int:month>", views.month, name="blog-month"),
    path("blog/<blog_slug:slug>", views.post, name="blog-post"),
    path("media/blog/<path:name>", views.media, name="blog-media"),
    path("sitemap.xml", index, {"sitemaps": SITEMAPS, "sitemap_url_name": "sitemap"}),
    path("sitemap-<section>.xml", sitemap, {"sitemaps": SITEMAPS}, name="sitemap"),
]
