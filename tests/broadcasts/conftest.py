from collections.abc import Iterator

import pytest

from tests.conftest import Spawn
from tests.elsewhere import ISSUER, Elsewhere, serving
from tests.pages import Site
from tests.processes import Environment
from tests.servers.programs import lasting_ports


@pytest.fixture
def elsewhere(live_database: Environment, spawn: Spawn) -> Iterator[Elsewhere]:
    port, own = lasting_ports(2)
    env = {"DEBUG": "true", "SSE_ALLOW_ORIGINS": f"http://localhost:{port}"}
    site = Site(live_database | env, own, spawn).start()
    site.code(ISSUER)
    with serving(Elsewhere(site, port)) as elsewhere:
        yield elsewhere
