"""Records at Cloudflare: only ours are touched, and every way in which the service fails is told apart."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from mcp_server.adapters.cloudflare.api import Api
from mcp_server.adapters.cloudflare.zones import CloudflareZones
from mcp_server.domain.errors import Conflict, Unavailable
from tests.domains.cloudflare import TOKEN, CloudflareService

MARK = "quaymaster inst-1"
HOST = "shop.example.org"


def zones(service: CloudflareService, token: str = TOKEN, **options: Any) -> CloudflareZones:
    options = {"timeout": 0.5, "pause": 0.01, **options}
    api = Api(SecretStr(token), address=service.address, **options)
    return CloudflareZones(api, ("example.org", "apps.example.org"), "inst-1")


async def test_a_name_leads_to_its_targets_and_asking_again_changes_nothing(service: CloudflareService):
    await zones(service).point(HOST, ["192.0.2.1", "2001:db8::1"])
    made = dict(service.records)
    await zones(service).point(HOST, ["192.0.2.1", "2001:db8::1"])
    assert service.records == made
    assert service.at(HOST) == {("A", "192.0.2.1"), ("AAAA", "2001:db8::1")}
    assert {one["comment"] for one in made.values()} == {MARK}


async def test_targets_that_changed_replace_what_was_ours(service: CloudflareService):
    await zones(service).point(HOST, ["192.0.2.1", "192.0.2.2"])
    await zones(service).point(HOST, ["edge.example.net"])
    assert service.at(HOST) == {("CNAME", "edge.example.net")}


@pytest.mark.parametrize("comment", [None, "quaymaster inst-2", "quaymaster inst-10"])
async def test_what_others_made_is_neither_changed_nor_removed(
    service: CloudflareService, comment: str | None
):
    service.add("example.org", "A", HOST, "198.51.100.7", comment)
    assert await zones(service).taken(HOST) == ("A 198.51.100.7",)
    with pytest.raises(Conflict, match=r"198\.51\.100\.7"):
        await zones(service).point(HOST, ["192.0.2.1"])
    await zones(service).remove(HOST)
    assert service.at(HOST) == {("A", "198.51.100.7")}
    assert await zones(service).made() == ()


async def test_a_removed_name_takes_its_neighbours_not_along(service: CloudflareService):
    for host in (HOST, "shop-admin.example.org", "a.shop.example.org"):
        await zones(service).point(host, ["192.0.2.1"])
    service.add("example.org", "TXT", HOST, "v=spf1 -all")
    await zones(service).remove(HOST)
    assert service.at(HOST) == {("TXT", "v=spf1 -all")}
    assert await zones(service).made() == ("a.shop.example.org", "shop-admin.example.org")


async def test_a_name_belongs_to_the_longest_zone(service: CloudflareService):
    await zones(service).point("x.apps.example.org", ["192.0.2.1"])
    [record] = service.records.values()
    assert record["zone"] == service.zones["apps.example.org"]
    assert zones(service).zone_of("badexample.org") is None


async def test_every_page_is_read(service: CloudflareService):
    service.page_size = 3
    for number in range(10):
        service.add("example.org", "A", f"h{number}.example.org", "192.0.2.1", MARK)
    assert len(await zones(service).made()) == 10


@pytest.mark.parametrize("failure", [429, 500, 503, "hang"])
async def test_what_passes_is_outlived(service: CloudflareService, failure: object):
    service.failures = [failure, failure]
    await zones(service, timeout=0.2).point(HOST, ["192.0.2.1"])
    assert service.at(HOST) == {("A", "192.0.2.1")}


@pytest.mark.parametrize("failure", [429, 502, "hang"])
async def test_what_does_not_pass_ends_after_a_bounded_number_of_tries(
    service: CloudflareService, failure: object
):
    service.failures = [failure] * 50
    with pytest.raises(Unavailable, match="Cloudflare"):
        await zones(service, timeout=0.1).point(HOST, ["192.0.2.1"])
    assert len(service.requests) == 3


async def test_a_long_wait_is_told_and_not_waited_for(service: CloudflareService):
    service.failures, service.retry_after = [429], "600"
    with pytest.raises(Unavailable, match="too often") as caught:
        await zones(service).point(HOST, ["192.0.2.1"])
    assert caught.value.details["retry_after"] == 600


async def test_a_record_that_was_made_without_an_answer_is_found_and_not_made_twice(
    service: CloudflareService,
):
    service.failures = [None, None, "lost"]
    await zones(service, timeout=0.3).point(HOST, ["192.0.2.1"])
    assert [one for one in service.requests if one.startswith("POST")] == ["POST /zones/z0/dns_records"]
    assert service.at(HOST) == {("A", "192.0.2.1")}


async def test_a_post_that_failed_is_not_sent_again(service: CloudflareService):
    service.failures = [None, None, 500]
    with pytest.raises(Unavailable):
        await zones(service).point(HOST, ["192.0.2.1"])
    assert [one for one in service.requests if one.startswith("POST")] == ["POST /zones/z0/dns_records"]


async def test_a_refused_token_is_named_by_its_setting_and_never_shown(service: CloudflareService):
    with pytest.raises(Unavailable, match="token") as caught:
        await zones(service, token="wrong-token").point(HOST, ["192.0.2.1"])
    assert "QUAYMASTER_CLOUDFLARE_TOKEN" in caught.value.next
    assert "wrong-token" not in f"{caught.value} {caught.value.payload()}"


async def test_a_zone_that_the_token_does_not_see_is_named(service: CloudflareService):
    del service.zones["example.org"]
    with pytest.raises(Unavailable, match=r"no zone example\.org"):
        await zones(service).point(HOST, ["192.0.2.1"])


async def test_a_service_that_is_not_there_is_unavailable(service: CloudflareService):
    service.address = "http://127.0.0.1:1"
    with pytest.raises(Unavailable, match="cannot be reached"):
        await zones(service).taken(HOST)
