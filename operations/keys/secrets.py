"""How a key is written, and what is kept of it.

`ak_<16 hex>.sk_<64 hex>`: the first half is its name, the second its secret. Of the secret only
the SHA-256 is kept. A slow hash is for what people make up; 256 random bits are never guessed,
however fast each guess is, and a slow hash would be paid by every request. There is no pepper: it
would protect nothing that can be guessed, and a new SECRET_KEY would end every key.
"""

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

KEY = re.compile(r"(ak_[0-9a-f]{16})\.(sk_[0-9a-f]{32,64})")
PREFIX = "ak_"


class Written(NamedTuple):
    key_id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.key_id}.{self.secret}"

    def __repr__(self) -> str:
        return f"<Written: {self.key_id}>"  # for reports of errors


def new_key() -> Written:
    return Written(f"{PREFIX}{secrets.token_hex(8)}", new_secret())


def new_secret() -> str:
    return f"sk_{secrets.token_hex(32)}"


def parse(text: str) -> Written | None:
    """None when it is not written as a key is."""
    match = KEY.fullmatch(text)
    return Written(*match.groups()) if match else None


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(given: str, digest: str) -> bool:
    """Of two digests; in constant time."""
    return hmac.compare_digest(given, digest)
