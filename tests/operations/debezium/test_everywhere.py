"""A task that fails in a real Kafka Connect: told everywhere, mended, and told again."""

import pytest

from tests.everywhere import Everywhere
from tests.operations.debezium.conftest import NewConnector, Shop, state_in
from tests.servers import KafkaConnect
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def test_of_a_task_that_fails_and_is_mended_all_are_told_once(
    site: Everywhere, watched: KafkaConnect, new_connector: NewConnector, shop: Shop
) -> None:
    connect = {"DEBEZIUM_URL": watched.url, "DEBEZIUM_TIMEOUT": "60"}
    name = new_connector(errors_max_retries="0")
    site.run_job("DEBEZIUM_HEALTH_CHECK", **connect)
    shop.postgres.stop("immediate")
    wait_until(lambda: state_in(watched, name) == "FAILED", message="its task fails")
    shop.postgres.start()
    with site.watch("alert.raised") as raised:
        site.run_job("DEBEZIUM_HEALTH_CHECK", **connect)
    (alert,) = (one["data"] for one in raised)
    assert alert["kind"] == "CONNECTOR"
    assert alert["message"].startswith(f"{name}: Task 0 failed")
    wait_until(lambda: state_in(watched, name) == "RUNNING", message="it was mended")
    with site.watch("alert.resolved") as resolved:
        site.run_job("DEBEZIUM_HEALTH_CHECK", **connect)
        site.run_job("DEBEZIUM_HEALTH_CHECK", **connect)
    assert [one["data"]["alert_id"] for one in resolved] == [alert["alert_id"]]
    shown = site.request("GET", f"/api/admin/connectors/{name}")
    assert (shown["state"], shown["problem"], shown["restarts_total"]) == ("RUNNING", "", 1)
