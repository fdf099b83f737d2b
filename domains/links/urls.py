from rest_framework.routers import SimpleRouter

from domains.links.api import LinkViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("links", LinkViewSet, basename="link")

urlpatterns = router.urls
