from rest_framework.routers import SimpleRouter

from operations.audit.api import AuditViewSet
from operations.keys.api import ApiKeyViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("api-keys", ApiKeyViewSet, basename="api-key")
router.register("audit", AuditViewSet, basename="audit")

urlpatterns = router.urls
