from django.urls import path

from jobs.api import JobViewSet, WorkerViewSet

jobs = JobViewSet.as_view

urlpatterns = [
    path("workers", WorkerViewSet.as_view({"get": "list"}), name="workers"),
    path("jobs", jobs({"get": "list"}), name="jobs"),
    path("jobs/<str:name>", jobs({"get": "retrieve"}), name="job"),
    path("jobs/<str:name>/run", jobs({"post": "run_now"}), name="job-run"),
    path("jobs/<str:name>/pause", jobs({"post": "pause"}), name="job-pause"),
    path("jobs/<str:name>/resume", jobs({"post": "resume"}), name="job-resume"),
    path("jobs/<str:name>/release", jobs({"post": "release"}), name="job-release"),
]
