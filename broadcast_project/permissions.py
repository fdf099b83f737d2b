"""Who may do what: a view declares `needs`, a permission for each of its actions."""

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request


class Needs(IsAuthenticated):
    """Signed in; where the view declares `needs`, staff with the permission of the action.

    An action that `needs` does not name is refused, so that a new one is never open by oversight.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        needs: dict[str, str] | None = getattr(view, "needs", None)
        if needs is None:
            return True
        if not request.user.is_staff:
            return False
        if view.action is None:
            return True  # no such method here: let the view answer 405
        return view.action in needs and request.user.has_perm(needs[view.action])
