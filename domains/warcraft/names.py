"""How people write names, and how addresses of Battle.net do."""

import re
import unicodedata

APOSTROPHES = str.maketrans("", "", "'’`´()")


def name_slug(name: str) -> str:
    """Of a character or a guild: "Knights of Dawn" is `knights-of-dawn`."""
    text = unicodedata.normalize("NFC", name).lower().translate(APOSTROPHES)
    return re.sub(r"\s+", "-", text.strip())


def realm_slug(realm: str) -> str:
    """ "Argent Dawn" is `argent-dawn`, "Kel'Thuzad" `kelthuzad`, "Azjol-Nerub" `azjolnerub`.

    What is a slug already stays one: only in a realm's own name a hyphen says nothing.
    """
    text = unicodedata.normalize("NFC", realm.strip())
    if text != text.lower() or " " in text:
        text = text.replace("-", "")
    return name_slug(text)
