from rest_framework.routers import SimpleRouter

from domains.blog.api import (
    CategoryViewSet,
    CommentViewSet,
    MediaViewSet,
    PostViewSet,
    TagViewSet,
)

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("posts", PostViewSet, basename="blog-posts")
router.register("categories", CategoryViewSet, basename="blog-categories")
router.register("tags", TagViewSet, basename="blog-tags")
router.register("comments", CommentViewSet, basename="blog-comments")
router.register("media", MediaViewSet, basename="blog-media")

urlpatterns = router.urls
