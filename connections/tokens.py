"""Short-lived signed tokens: EventSource can send no headers, so who you are stands in the URL."""

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing

_signer = signing.TimestampSigner(salt="connections.stream")


class InvalidToken(Exception):
    """The message says what to do."""


def make_token(user_id: int) -> str:
    return _signer.sign(str(user_id))


def read_token(token: str) -> int:
    """The person's id. Raises `InvalidToken` when it is forged or older than SSE_TOKEN_SECONDS."""
    try:
        return int(_signer.unsign(token, max_age=settings.SSE_TOKEN_SECONDS))
    except signing.SignatureExpired as error:
        raise InvalidToken(
            "The token has expired: get a new one from POST /api/user/sse/token."
        ) from error
    except (signing.BadSignature, ValueError) as error:
        raise InvalidToken(
            "The token is not valid: get one from POST /api/user/sse/token."
        ) from error


def user_of(token: str) -> User:
    """Raises `InvalidToken`, also when the account is disabled."""
    user = User.objects.filter(pk=read_token(token), is_active=True).first()
    if user is None:
        raise InvalidToken("The token is of no active account.")
    return user


def bearer_of(authorization: str) -> str | None:
    """The token in the header `Authorization`."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
