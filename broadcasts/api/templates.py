"""`/api/admin/templates`: texts that operators use again."""

from typing import Any, cast

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from broadcasts.api.fields import TranslationsField
from broadcasts.models import Template


class TemplateSerializer(serializers.ModelSerializer[Template]):
    translations = TranslationsField(required=False)
    field_names = serializers.ListField(
        source="fields",
        child=serializers.CharField(),
        read_only=True,
        help_text="What `values` are wanted for where the template is used.",
    )

    class Meta:
        model = Template
        fields = [
            "id",
            "name",
            "title",
            "content",
            "language",
            "translations",
            "field_names",
            "created_at",
            "updated_at",
        ]


class TemplateFilter(django_filters.FilterSet):
    search = django_filters.CharFilter("name", "icontains", help_text="Part of the name.")


EXAMPLE = OpenApiExample(
    "Maintenance",
    request_only=True,
    value={
        "name": "Maintenance",
        "title": "{{ product }} rests",
        "content": "{{ product }} is read-only from {{ start }} to {{ end }}.",
        "language": "en",
        "translations": {
            "de": {
                "title": "{{ product }} ruht",
                "content": "{{ product }} ist von {{ start }} bis {{ end }} nur lesbar.",
            }
        },
    },
)


@extend_schema(tags=["templates"])
class TemplateViewSet(GenericViewSet[Template]):
    queryset = Template.objects.all()
    serializer_class = TemplateSerializer
    filterset_class = TemplateFilter
    ordering_fields = ["id", "name", "created_at", "updated_at"]
    lookup_value_converter = "int"
    needs = {
        "list": "broadcasts.view_template",
        "retrieve": "broadcasts.view_template",
        "create": "broadcasts.add_template",
        "partial_update": "broadcasts.change_template",
        "destroy": "broadcasts.delete_template",
    }

    def list(self, request: Request) -> Response:
        """Templates by name."""
        page: Any = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(TemplateSerializer(page, many=True).data)

    @extend_schema(examples=[EXAMPLE], responses={201: TemplateSerializer})
    def create(self, request: Request) -> Response:
        """A new template; `{{ name }}` in a title or a content is a field."""
        return self._saved(Template(), request.data, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: int) -> Response:
        """One template. A broadcast or a series is made of it by `template` and `values`."""
        return Response(TemplateSerializer(self.get_object()).data)

    def partial_update(self, request: Request, pk: int) -> Response:
        """Change a template; what was made of it stays as it is."""
        return self._saved(self.get_object(), request.data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: int) -> Response:
        """Delete a template; what was made of it stays."""
        self.get_object().delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _saved(self, template: Template, data: Any, code: int = status.HTTP_200_OK) -> Response:
        serializer = TemplateSerializer(template, data=data, partial=template.pk is not None)
        serializer.is_valid(raise_exception=True)
        for name, value in cast(dict[str, Any], serializer.validated_data).items():
            setattr(template, name, value)
        template.full_clean()
        template.save()
        return Response(TemplateSerializer(template).data, status=code)
