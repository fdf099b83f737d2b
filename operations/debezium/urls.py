from django.urls import path
from rest_framework.routers import SimpleRouter

from operations.debezium.api import ClusterViewSet, ConnectorViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("connectors", ConnectorViewSet, basename="connector")

urlpatterns = [
    path("connect", ClusterViewSet.as_view({"get": "retrieve"}), name="connect"),
    *router.urls,
]
