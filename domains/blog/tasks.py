"""The clock of the blog: posts go out at their moment; the job below is the net."""

from django.db.models.functions import Now

from domains.blog.models import Post
from domains.blog.services import BLOG, publish_due
from jobs import clock
from jobs.registry import Outcome, Standing, periodic, worker


def count_due() -> int:
    return Post.objects.due(Now()).count()


def post_standing() -> Standing:
    return Standing(pending=count_due())


@worker("POST_CLOCK", standing=post_standing)
class PostClock:
    """Publish scheduled posts at their very moment."""

    wakes_on = BLOG

    def step(self) -> float:
        looked_at = clock.now()
        publish_due()
        coming = Post.objects.scheduled().filter(published_at__gt=looked_at)
        moments = coming.order_by("published_at").values_list("published_at", flat=True)
        return clock.seconds_until(moments.first())

    def stop(self) -> None:
        pass


@periodic("POST_PUBLISHER", every="5m", backlog=count_due)
def publish_scheduled_posts() -> Outcome:
    """Publish scheduled posts whose moment has come and was missed."""
    return publish_due()
