"""Short-lived signed tokens: EventSource can send no headers, so who you are stands in the URL."""

from django.conf import settings
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
