from rest_framework.routers import SimpleRouter

from deliveries.api import DeliveryViewSet, EndpointViewSet, RetryViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("endpoints", EndpointViewSet, basename="endpoint")
router.register("deliveries", DeliveryViewSet, basename="delivery")
router.register("retries", RetryViewSet, basename="retry")

urlpatterns = router.urls
