"""`/api/admin/jobs`: what the console shows, and its buttons."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from jobs import execution
from jobs.board import STATES
from jobs.console import HISTORY, JobState, WorkerState, all_workers, overview, state_of
from jobs.models import Job, Run
from jobs.registry import Standing


class RunSerializer(serializers.ModelSerializer[Run]):
    duration_seconds = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id",
            "slot",
            "status",
            "node",
            "started_at",
            "finished_at",
            "duration_seconds",
            "items",
            "failed_items",
            "skipped_items",
            "reason",
            "error",
        ]

    def get_duration_seconds(self, run: Run) -> float | None:
        return run.duration.total_seconds() if run.duration else None


class JobSerializer(serializers.Serializer[JobState]):
    name = serializers.CharField()
    description = serializers.CharField()
    every = serializers.CharField(help_text="A duration, or a cron expression.")
    state = serializers.ChoiceField(choices=list(STATES))
    enabled = serializers.BooleanField(help_text="False: switched off by `<NAME>_ENABLED`.")
    paused_at = serializers.DateTimeField(allow_null=True)
    holder = serializers.CharField(
        help_text="The node that holds the lease, or whose lease ran out; empty: nobody."
    )
    running_since = serializers.DateTimeField(allow_null=True)
    last_run_at = serializers.DateTimeField(allow_null=True)
    last_status = serializers.CharField(help_text="Of the last run that ended; empty: none.")
    last_error = serializers.CharField()
    next_run_at = serializers.DateTimeField(allow_null=True)
    overdue_seconds = serializers.SerializerMethodField(
        help_text="How late the next run is; null unless that is more than twice the interval."
    )
    items = serializers.IntegerField(allow_null=True, help_text="Of the last run that ended.")
    durations = serializers.ListField(
        child=serializers.FloatField(), help_text=f"Seconds; the last {HISTORY}, oldest first."
    )
    error_rate = serializers.FloatField(allow_null=True, help_text="0 to 1, of the last runs.")
    failures_in_a_row = serializers.IntegerField()
    backlog = serializers.IntegerField(allow_null=True, help_text="What waits for the job.")
    requested_at = serializers.DateTimeField(
        allow_null=True, help_text="A run was asked for, and no node has taken it yet."
    )
    items_so_far = serializers.IntegerField(
        allow_null=True, help_text="Of the run that is under way."
    )

    def get_overdue_seconds(self, job: JobState) -> float | None:
        return job.overdue.total_seconds() if job.overdue else None


class JobDetailSerializer(JobSerializer):
    runs = RunSerializer(many=True, help_text=f"The last {HISTORY}, newest first.")


class StandingSerializer(serializers.Serializer[Standing]):
    pending = serializers.IntegerField()
    leader = serializers.CharField(
        allow_null=True, help_text="Null: it needs none; empty: nobody leads."
    )
    since = serializers.DateTimeField(allow_null=True)


class WorkerSerializer(serializers.Serializer[WorkerState]):
    name = serializers.CharField()
    description = serializers.CharField()
    standing = StandingSerializer(allow_null=True)


@extend_schema(tags=["jobs"])
class WorkerViewSet(GenericViewSet[Job]):
    queryset = Job.objects.none()
    pagination_class = None
    needs = {"list": "jobs.view_job"}

    @extend_schema(filters=False, responses=WorkerSerializer(many=True))
    def list(self, request: Request) -> Response:
        """What the relay's processes repeat without a clock, and how it stands."""
        workers: Any = all_workers()
        return Response(WorkerSerializer(workers, many=True).data)


@extend_schema(tags=["jobs"])
class JobViewSet(GenericViewSet[Job]):
    """Periodic jobs: their state, their last runs, and what steers them."""

    queryset = Job.objects.all()
    lookup_field = lookup_url_kwarg = "name"
    needs = {
        "list": "jobs.view_job",
        "retrieve": "jobs.view_job",
        "run_now": "jobs.steer_job",
        "pause": "jobs.steer_job",
        "resume": "jobs.steer_job",
        "release": "jobs.steer_job",
    }

    @extend_schema(
        filters=False,
        parameters=[OpenApiParameter("state", enum=list(STATES), description="Only these.")],
        responses=JobSerializer(many=True),
    )
    def list(self, request: Request) -> Response:
        """Every job by name, as the console shows it."""
        jobs = overview()
        if state := request.query_params.get("state"):
            if state not in STATES:
                raise ValidationError({"state": f"Choose one of: {', '.join(STATES)}."})
            jobs = [job for job in jobs if job.state == state]
        page: Any = self.paginate_queryset(jobs)
        return self.get_paginated_response(JobSerializer(page, many=True).data)

    @extend_schema(responses=JobDetailSerializer)
    def retrieve(self, request: Request, name: str) -> Response:
        """One job and its last runs."""
        runs = Run.objects.filter(job=name).defer("traceback")[:HISTORY]
        body: dict[str, Any] = {**JobSerializer(self._job(name)).data}
        return Response(body | {"runs": RunSerializer(runs, many=True).data})

    @extend_schema(request=None, responses={202: JobSerializer})
    def run_now(self, request: Request, name: str) -> Response:
        """Ask for a run at once, also of a paused job; whichever node is first does it."""
        return self._steer(execution.run_now, name, _("Run now"), status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=JobSerializer)
    def pause(self, request: Request, name: str) -> Response:
        """No new runs until it is resumed; a run that is under way ends."""
        return self._steer(execution.pause, name, _("Paused"))

    @extend_schema(request=None, responses=JobSerializer)
    def resume(self, request: Request, name: str) -> Response:
        """Run on time again."""
        return self._steer(execution.resume, name, _("Resumed"))

    @extend_schema(request=None, responses=JobSerializer)
    def release(self, request: Request, name: str) -> Response:
        """Take the lease from its holder: what that still writes is refused."""
        return self._steer(execution.release, name, _("Lease released"))

    def _steer(
        self, steer: Callable[[str], None], name: str, noted: str, code: int = status.HTTP_200_OK
    ) -> Response:
        self._job(name)
        steer(name)
        person: Any = self.request.user.pk  # signed in: the history in the admin names them
        row = Job.objects.filter(name=name)
        LogEntry.objects.log_actions(person, row, CHANGE, change_message=noted, single_object=True)
        return Response(JobSerializer(self._job(name)).data, status=code)

    def _job(self, name: str) -> JobState:
        if job := state_of(name):
            return job
        raise Http404
