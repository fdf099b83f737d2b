from rest_framework.routers import SimpleRouter

from deliveries.api import DeliveryViewSet, EndpointViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("endpoints", EndpointViewSet, basename="endpoint")
router.register("deliveries", DeliveryViewSet, basename="delivery")

urlpatterns = router.urls
