"""`/api/admin/audit`: who did what, when, from where."""

import django_filters
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.filters import SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from jobs.cursors import Newest
from operations.audit.exports import COLUMNS
from operations.audit.models import AuditEntry, Door


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = COLUMNS
        read_only_fields = COLUMNS


class AuditFilter(django_filters.FilterSet):
    action = django_filters.CharFilter(help_text="Such as `broadcast.cancelled`.")
    person = django_filters.CharFilter(help_text="By the name of then.")
    user_id = django_filters.NumberFilter(help_text="The account, whatever its name.")
    door = django_filters.ChoiceFilter(choices=Door.choices)
    address = django_filters.CharFilter()
    subject_type = django_filters.CharFilter(help_text="Such as `broadcasts.broadcast`.")
    subject_id = django_filters.CharFilter()
    correlation_id = django_filters.CharFilter(help_text="`X-Request-ID` of the answer.")
    since = django_filters.IsoDateTimeFilter("at", "gte", help_text="Not before this moment.")
    until = django_filters.IsoDateTimeFilter("at", "lt", help_text="Before this moment.")


@extend_schema(tags=["audit"])
class AuditViewSet(ReadOnlyModelViewSet[AuditEntry]):
    queryset = AuditEntry.objects.all()
    serializer_class = AuditEntrySerializer
    filterset_class = AuditFilter
    filter_backends = [DjangoFilterBackend, SearchFilter]
    search_fields = ["^person", "subject"]
    pagination_class = Newest
    lookup_value_converter = "int"
    needs = {"list": "operations.view_auditentry", "retrieve": "operations.view_auditentry"}

    def list(self, request: Request, *args: object, **kwargs: object) -> Response:
        """Who did what, the newest first."""
        return super().list(request, *args, **kwargs)

    def retrieve(self, request: Request, *args: object, **kwargs: object) -> Response:
        """One entry, for as long as AUDIT_RETENTION_DAYS."""
        return super().retrieve(request, *args, **kwargs)
