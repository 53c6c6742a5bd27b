from collections.abc import AsyncIterator

import pytest

from tests.domains.cloudflare import CloudflareService, cloudflare
from tests.domains.dns_server import Names, dns_server


@pytest.fixture
async def service() -> AsyncIterator[CloudflareService]:
    async with cloudflare("example.org", "apps.example.org") as running:
        yield running


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    async with dns_server() as running:
        yield running
