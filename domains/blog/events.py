"""What the blog tells, by type: a sentence that says when."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

EVENTS: dict[str, str | Promise] = {
    "blog.post.published": _("Somebody published a post by hand."),
    "blog.post.scheduled.published": _("The moment of a scheduled post came, and it is published."),
    "blog.post.withdrawn": _("A published post was taken back: it is a draft again, or deleted."),
}
