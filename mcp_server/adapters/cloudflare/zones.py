"""The operator's zones at Cloudflare. A record of ours carries the installation's name in its comment."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from mcp_server.adapters.cloudflare.api import Api, Json, Refused
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.hosts import lies_in

TYPES = ("A", "AAAA", "CNAME")
IDENTICAL = 81058
AUTOMATIC = 1


class CloudflareZones:
    """`ports.dns.Zones`. `names` are the zones; `installation` marks what this installation made."""

    def __init__(self, api: Api, names: Sequence[str], installation: str) -> None:
        self._api = api
        self._names = tuple(sorted(names, key=len, reverse=True))
        self._mark = f"quaymaster {installation}"[:100]
        self._ids: dict[str, str] = {}

    def zone_of(self, host: str) -> str | None:
        return next((name for name in self._names if lies_in(host, name)), None)

    async def taken(self, host: str) -> tuple[str, ...]:
        return tuple(_shown(each) for each in await self._records(host) if not self._ours(each))

    async def point(self, host: str, targets: Sequence[str]) -> None:
        wanted = {(_type(target), target) for target in targets}
        found = await self._records(host)
        if strange := [_shown(each) for each in found if not self._ours(each)]:
            raise Conflict(f"{host} has records that were not made here: {', '.join(strange)}")
        place = await self._place(host)
        present = {(str(each["type"]), str(each["content"])) for each in found}
        for each in found:
            if (each["type"], each["content"]) not in wanted:
                await self._delete(host, place, each)
        for kind, content in sorted(wanted - present):
            await self._make(place, host, kind, content)

    async def remove(self, host: str) -> None:
        place = await self._place(host)
        for each in await self._records(host):
            if self._ours(each):
                await self._delete(host, place, each)

    async def made(self) -> tuple[str, ...]:
        hosts = set()
        for name in self._names:
            found = await self._listed(name, {})
            hosts |= {str(each["name"]) for each in found if self._ours(each)}
        return tuple(sorted(hosts))

    async def _make(self, place: str, host: str, kind: str, content: str) -> None:
        """A record that was made although no answer came is seen, and not made twice."""
        body = {
            "type": kind,
            "name": host,
            "content": content,
            "ttl": AUTOMATIC,
            "proxied": False,
            "comment": self._mark,
        }
        try:
            await self._api.ask("POST", place, body=body)
        except Refused as refusal:
            if IDENTICAL not in refusal.codes:
                raise _unavailable(refusal) from refusal
        except Unavailable:
            found = await self._records(host)
            if not any(
                self._ours(each) and (each["type"], each["content"]) == (kind, content) for each in found
            ):
                raise

    async def _records(self, host: str) -> list[Json]:
        return await self._listed(host, {"name": host})

    async def _listed(self, host: str, query: dict[str, str]) -> list[Json]:
        try:
            found = await self._api.all(await self._place(host), query)
        except Refused as refusal:
            raise _unavailable(refusal) from refusal
        same = query.get("name")
        return [each for each in found if each.get("type") in TYPES and same in (None, each.get("name"))]

    async def _place(self, host: str) -> str:
        return f"/zones/{await self._id(host)}/dns_records"

    async def _id(self, host: str) -> str:
        name = self.zone_of(host)
        if name is None:
            raise ValueError("not in a zone of ours")
        if name not in self._ids:
            try:
                found = await self._api.all("/zones", {"name": name})
            except Refused as refusal:
                raise _unavailable(refusal) from refusal
            ids = [str(each["id"]) for each in found if each.get("name") == name]
            if not ids:
                raise Unavailable(
                    f"Cloudflare shows no zone {name} to this token",
                    next="The operator must correct QUAYMASTER_CLOUDFLARE_ZONES or the token.",
                )
            self._ids[name] = ids[0]
        return self._ids[name]

    def _ours(self, record: Json) -> bool:
        return record.get("comment") == self._mark

    async def _delete(self, host: str, place: str, record: Json) -> None:
        """One that is gone already is gone."""
        try:
            await self._api.ask("DELETE", f"{place}/{record['id']}")
        except Refused as refusal:
            if any(still["id"] == record["id"] for still in await self._records(host)):
                raise _unavailable(refusal) from refusal


class NoZones:
    """`ports.dns.Zones` where the operator names none."""

    def zone_of(self, host: str) -> str | None:
        return None

    async def taken(self, host: str) -> tuple[str, ...]:
        return ()

    async def point(self, host: str, targets: Sequence[str]) -> None:
        raise ValueError("not in a zone of ours")

    async def remove(self, host: str) -> None: ...

    async def made(self) -> tuple[str, ...]:
        return ()


def _type(target: str) -> str:
    try:
        return "A" if ipaddress.ip_address(target).version == 4 else "AAAA"
    except ValueError:
        return "CNAME"


def _shown(record: Json) -> str:
    return f"{record['type']} {str(record.get('content'))[:100]}"


def _unavailable(refusal: Refused) -> Unavailable:
    return Unavailable(f"Cloudflare refuses: {refusal}", next="Read what it says, then try again.")
