"""What tells of everybody's requests is for operators, where they have keys of their own."""

from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import Cluster, chat_body
from yarl import URL

pytestmark = pytest.mark.slow

CLIENT, OPERATOR, NOBODY = ({"Authorization": f"Bearer {key}"} for key in ("client", "operator", "nobody"))
OF_EVERYBODY = ["/v1/chiasm/status", "/v1/chiasm/trace?since=1", "/v1/chiasm/machines"]
Make = Callable[..., Any]


async def status(cluster: Cluster, path: str, headers: dict[str, str], method: str = "GET") -> int:
    async with cluster.client.request(method, path, headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize("path", OF_EVERYBODY)
async def test_they_alone_may_ask_about_all_requests(make_cluster: Make, path: str) -> None:
    cluster = await make_cluster(api_keys=["client"], operator_keys=["operator"])
    assert await status(cluster, path, OPERATOR) == 200
    async with cluster.client.get(path, headers=CLIENT) as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "operator_key_required"
    assert [await status(cluster, path, headers) for headers in (NOBODY, {})] == [401, 401]


async def test_they_alone_may_have_a_machine_measured(make_cluster: Make) -> None:
    cluster = await make_cluster(api_keys=["client"], operator_keys=["operator"])
    peaks = "/v1/chiasm/machines/encoder-0/peaks"
    assert await status(cluster, peaks, CLIENT, "POST") == 403
    assert await status(cluster, peaks, OPERATOR, "POST") == 404  # there is no such worker


@pytest.mark.parametrize("path", ["/v1/chiasm/%74race?since=1", "/v1/chiasm/requests/../trace?since=1"])
async def test_no_spelling_of_a_path_leads_past_them(make_cluster: Make, path: str) -> None:
    cluster = await make_cluster(api_keys=["client"], operator_keys=["operator"])
    spelt_so = URL(cluster.url + path, encoded=True)
    async with cluster.client.get(spelt_so, headers=CLIENT) as answer:
        assert answer.status in (403, 404)


async def test_anybody_may_ask_about_a_request_of_which_he_knows_the_id(make_cluster: Make) -> None:
    cluster = await make_cluster(api_keys=["client"], operator_keys=["operator"])
    asking = CLIENT | {"X-Chiasm-Timeline": "true"}
    async with cluster.client.post("/v1/chat/completions", json=chat_body(), headers=asking) as answer:
        request = answer.headers["X-Request-Id"]
        assert "timeline" in (await answer.json())["chiasm"]
    assert await status(cluster, f"/v1/chiasm/requests/{request}", CLIENT) == 200


async def test_an_operators_key_is_an_api_key_too(make_cluster: Make) -> None:
    cluster = await make_cluster(api_keys=["client"], operator_keys=["operator"])
    async with cluster.client.post("/v1/chat/completions", json=chat_body(), headers=OPERATOR) as answer:
        assert answer.status == 200


async def test_where_everybody_may_send_requests_they_still_have_theirs(make_cluster: Make) -> None:
    cluster = await make_cluster(operator_keys=["operator"])
    assert (await cluster.chat(chat_body()))[0] == 200
    assert [await status(cluster, OF_EVERYBODY[0], headers) for headers in ({}, OPERATOR)] == [403, 200]


@pytest.mark.parametrize("path", OF_EVERYBODY)
async def test_without_keys_of_theirs_any_api_key_will_do(make_cluster: Make, path: str) -> None:
    cluster = await make_cluster(api_keys=["client"])
    assert [await status(cluster, path, headers) for headers in ({}, CLIENT)] == [401, 200]
