"""Where a name leads, asked of a real DNS server: an answer, none, and no word at all are three things."""

from __future__ import annotations

import pytest

from mcp_server.adapters.dns.resolver import DnsResolver
from mcp_server.domain.errors import Unavailable
from tests.domains.dns_server import Names


async def test_both_kinds_of_addresses_are_found_through_aliases(names: Names):
    names.records = {
        "www.example.net": ["CNAME edge.example.org"],
        "edge.example.org": ["A 192.0.2.1", "AAAA 2001:db8:0:0::1"],
    }
    found = await DnsResolver([names.address]).addresses("www.example.net")
    assert found == {"192.0.2.1", "2001:db8::1"}


@pytest.mark.parametrize("records", [{}, {"www.example.net": ["TXT x"]}])
async def test_a_name_without_addresses_has_none(names: Names, records: dict[str, list[str]]):
    names.records = records
    assert await DnsResolver([names.address]).addresses("www.example.net") == frozenset()


@pytest.mark.parametrize("mood", ["servfail", "silent"])
async def test_no_answer_is_not_an_answer(names: Names, mood: str):
    names.mood = mood
    with pytest.raises(Unavailable, match=r"www\.example\.net"):
        await DnsResolver([names.address], lifetime=0.4).addresses("www.example.net")


async def test_an_answer_that_is_too_long_for_udp_is_fetched_over_tcp(names: Names):
    names.records, names.mood = {"a.example.net": ["A 192.0.2.9"]}, "truncated"
    assert await DnsResolver([names.address]).addresses("a.example.net") == {"192.0.2.9"}
    assert names.over_tcp > 0
