"""Domains: kept before anything is done, answered when DNS leads here, gone with everything that was made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from mcp_server.adapters.cloudflare.api import Api
from mcp_server.adapters.cloudflare.zones import CloudflareZones
from mcp_server.adapters.dns.resolver import DnsResolver
from mcp_server.adapters.edge.caddy.config import CaddySettings
from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded, Unavailable
from mcp_server.domain.routes import Target
from mcp_server.domain.slots import Slot, SlotPair
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call
from mcp_server.services.domains import DomainOptions, Domains
from mcp_server.services.projects import Projects
from tests.domains.cloudflare import TOKEN, CloudflareService
from tests.domains.dns_server import Names
from tests.usecases.conftest import make_world as make_world
from tests.usecases.world import SETUP, World

HERE = "192.0.2.1"
HOME = "home-1"


@dataclass
class Pier:
    """The use cases over a registry, an edge's directory, and local services that speak DNS and Cloudflare."""

    world: World
    edge: CaddyEdge
    domains: Domains
    names: Names
    service: CloudflareService

    @property
    def owner(self) -> Caller:
        return self.world.caller()

    async def do(self, action: str, caller: Caller | None = None, **fields: Any) -> Any:
        token = fields.pop("plan_token", None)
        call = Call(caller or self.owner, action, fields, plan_token=token)
        use_cases: dict[str, Callable[..., Awaitable[Any]]] = {
            "add_domain": self.domains.add,
            "verify_domain": self.domains.verify,
            "list_domains": self.domains.list,
            "remove_domain": self.domains.remove,
            "create_project": self.world.projects.create,
            "delete_project": self.world.projects.delete,
        }
        return await self.world.calls.perform(call, lambda: use_cases[action](call, **fields))

    async def planned(self, action: str, **fields: Any) -> Any:
        plan = await self.do(action, **fields)
        return await self.do(action, plan_token=plan.plan_token, **fields)

    async def promoted(
        self, project: str, environment: EnvironmentName = "production", home: str = HOME
    ) -> None:
        """As after a promote on this home: traffic is on blue."""

        async def write(tx: Transaction) -> None:
            slot = Slot(state="active", port=4100)
            await tx.slots.add(
                SlotPair(
                    project=project, environment=environment, blue=slot, home=home, updated_at=await tx.now()
                )
            )

        await self.world.store.run(write, SETUP)
        if home == HOME:
            await self.edge.point(f"{project}.{environment}", "blue", Target(host="127.0.0.1", port=4100))

    async def observed(self) -> dict[str, tuple[set[str], set[str]]]:
        """By route: the hosts that it answers, and those that may have a certificate."""
        return {route.name: (set(route.hosts), set(route.tls)) for route in await self.edge.routes()}


MakePier = Callable[..., Awaitable[Pier]]


@pytest.fixture
def make_pier(
    make_world: Callable[..., Awaitable[World]], names: Names, service: CloudflareService
) -> MakePier:
    async def make(*, base: str = "base.test", quota: int = 50) -> Pier:
        world = await make_world()
        directory = SwitchDirectory(world.root / "edge", "inst-1")
        token = directory.token()
        settings = CaddySettings(
            installation="inst-1", token=token, switch=str(directory.root / "switch"), tls="acme"
        )
        edge = CaddyEdge(directory, settings, Door("127.0.0.1", 1, 1, "acme", token), HostCaddy())
        directory.claim()
        api = Api(SecretStr(TOKEN), address=service.address, timeout=0.5, pause=0.01)
        domains = Domains(
            world.calls,
            world.store,
            DnsResolver([names.address], lifetime=0.5),
            CloudflareZones(api, ("example.org",), "inst-1"),
            edge,
            home=HOME,
            options=DomainOptions(base, addresses=(HERE,), issuer="letsencrypt", quota=quota),
        )
        world.projects = Projects(world.calls, quota=50, base_domain=base, let_go=domains.let_go)
        pier = Pier(world, edge, domains, names, service)
        for name, team in (("app", "red"), ("app-admin", "red"), ("theirs", "blue")):
            await pier.do("create_project", world.caller(team_id=team), name=name)
        return pier

    return make


@pytest.fixture
async def pier(make_pier: MakePier) -> Pier:
    return await make_pier()


async def test_a_custom_domain_gets_a_certificate_only_after_dns_was_seen_to_lead_here(pier: Pier):
    await pier.promoted("app")
    added = await pier.do("add_domain", project="app", domain="Shop.Example.NET.")
    assert (added.domain, added.type, added.status, added.answers) == (
        "shop.example.net", "custom", "pending", False,
    )  # fmt: skip
    assert added.records == ("shop.example.net A 192.0.2.1",)
    pier.names.records["shop.example.net"] = ["A 198.51.100.1"]
    elsewhere = await pier.do("verify_domain", domain="shop.example.net")
    assert elsewhere.status == "pending"
    assert "198.51.100.1" in elsewhere.problem
    assert await pier.observed() == {"app.production": (set(), set())}
    pier.names.records["shop.example.net"] = ["A 192.0.2.1"]
    verified = await pier.do("verify_domain", domain="shop.example.net")
    assert (verified.status, verified.answers, verified.problem) == ("active", True, None)
    assert verified.url == "https://shop.example.net:1"
    assert await pier.observed() == {"app.production": ({"shop.example.net"}, {"shop.example.net"})}


async def test_one_strange_address_among_ours_is_not_enough(pier: Pier):
    pier.names.records["shop.example.net"] = ["A 192.0.2.1", "A 198.51.100.1"]
    added = await pier.do("add_domain", project="app", domain="shop.example.net")
    assert added.status == "pending"


async def test_a_name_in_an_owned_zone_gets_its_record_and_is_answered(pier: Pier):
    await pier.promoted("app", "staging")
    pier.names.records["demo.example.org"] = ["A 192.0.2.1"]
    added = await pier.do("add_domain", project="app", domain="demo.example.org", environment="staging")
    assert (added.type, added.status, added.answers) == ("subdomain", "active", True)
    assert pier.service.at("demo.example.org") == {("A", HERE)}
    assert await pier.observed() == {"app.staging": ({"demo.example.org"}, {"demo.example.org"})}
    listed = await pier.do("list_domains", project="app")
    assert [(one.domain, one.answers) for one in listed.domains] == [("demo.example.org", True)]


async def test_a_provider_that_fails_leaves_a_pending_name_that_verify_goes_on_with(pier: Pier):
    pier.names.records["demo.example.org"] = ["A 192.0.2.1"]
    pier.service.failures = [None, None, 500, 500, 500, 500]
    added = await pier.do("add_domain", project="app", domain="demo.example.org")
    assert added.status == "pending"
    assert "Cloudflare" in added.problem
    pier.service.failures = []
    assert (await pier.do("verify_domain", domain="demo.example.org")).status == "active"


async def test_a_provider_that_cannot_be_asked_first_keeps_nothing_and_advises_the_same_call(pier: Pier):
    pier.service.failures = [500] * 3
    with pytest.raises(Unavailable) as refused:
        await pier.do("add_domain", project="app", domain="demo.example.org")
    assert refused.value.next == "Try again in a minute."
    assert (await pier.do("list_domains", project="app")).domains == ()


async def test_records_that_others_made_are_a_conflict_before_anything_is_kept(pier: Pier):
    pier.service.add("example.org", "CNAME", "www.example.org", "their.example.com")
    with pytest.raises(Conflict, match="not made here") as caught:
        await pier.do("add_domain", project="app", domain="www.example.org")
    assert "www-app.example.org" in caught.value.details["free"]
    assert (await pier.do("list_domains", project="app")).domains == ()
    assert not [one for one in pier.service.requests if one.startswith("POST")]


async def test_a_name_is_one_projects_only_and_the_others_learn_which_are_free(pier: Pier):
    await pier.do("add_domain", project="app", domain="demo.example.org")
    for team, project in (("red", "app-admin"), ("blue", "theirs")):
        before = len(pier.service.requests)
        with pytest.raises(Conflict, match="taken") as caught:
            await pier.do(
                "add_domain", pier.world.caller(team_id=team), project=project, domain="demo.example.org"
            )
        assert caught.value.details["free"] == [
            "demo-app.example.org", "demo-web.example.org", "demo-2.example.org",
        ]  # fmt: skip
        assert len(pier.service.requests) == before
    with pytest.raises(Conflict, match="production already"):
        await pier.do("add_domain", project="app", domain="demo.example.org", environment="staging")
    again = await pier.do("add_domain", project="app", domain="demo.example.org")
    assert again.domain == "demo.example.org"


async def test_in_a_base_domain_that_is_a_zone_a_projects_own_names_are_taken_both_ways(make_pier: MakePier):
    pier = await make_pier(base="example.org")
    for host in ("app.example.org", "app-staging.example.org", "theirs-preview-blue.example.org"):
        with pytest.raises(Conflict, match="address of a project"):
            await pier.do("add_domain", project="app", domain=host)
    await pier.do("add_domain", project="app", domain="blog-staging.example.org")
    with pytest.raises(Conflict, match="share a host name") as caught:
        await pier.do("create_project", name="blog")
    assert caught.value.details["free"] == ["blog-app", "blog-web", "blog-2"]
    assert await pier.do("create_project", name="blog-app")


@pytest.mark.parametrize("name", ["app-staging", "app-preview-green", "app-production-blue"])
async def test_projects_that_would_share_a_host_name_do_not_stand_beside_each_other(pier: Pier, name: str):
    with pytest.raises(Conflict, match="share a host name") as caught:
        await pier.do("create_project", name=name)
    for free in caught.value.details["free"]:
        await pier.do("create_project", name=free)
    with pytest.raises(NotFound):
        await pier.do("list_domains", project=name)


@pytest.mark.parametrize(
    "domain",
    [
        "localhost", "192.0.2.1", "*.example.net", "a b.example.net", "x.base.test", "base.test",
        "a_b.example.net", "exämple.net", "$(id).example.net", "a.example.net/x", "{host}.example.net",
        'a".example.net', "a\n.example.net", "-a.example.net",
    ],
)  # fmt: skip
async def test_what_is_no_name_of_ones_own_is_refused_before_anything_is_asked(pier: Pier, domain: str):
    with pytest.raises(Invalid):
        await pier.do("add_domain", project="app", domain=domain)
    assert pier.service.requests == []


async def test_a_name_that_leads_elsewhere_now_loses_its_certificate_and_a_silent_dns_takes_nothing(
    pier: Pier,
):
    await pier.promoted("app")
    pier.names.records["shop.example.net"] = ["A 192.0.2.1"]
    await pier.do("add_domain", project="app", domain="shop.example.net")
    pier.names.mood = "servfail"
    with pytest.raises(Unavailable):
        await pier.do("verify_domain", domain="shop.example.net")
    assert await pier.observed() == {"app.production": ({"shop.example.net"}, {"shop.example.net"})}
    pier.names.mood = None
    pier.names.records["shop.example.net"] = ["A 198.51.100.1"]
    assert (await pier.do("verify_domain", domain="shop.example.net")).status == "error"
    assert await pier.observed() == {"app.production": (set(), set())}


async def test_before_the_first_promote_and_on_another_home_nothing_is_opened_here(pier: Pier):
    for host in ("a.example.net", "b.example.net"):
        pier.names.records[host] = ["A 192.0.2.1"]
    early = await pier.do("add_domain", project="app", domain="a.example.net")
    assert (early.status, early.answers) == ("active", False)
    assert "promote" in early.problem
    await pier.promoted("app-admin", home="home-2")
    away = await pier.do("add_domain", project="app-admin", domain="b.example.net")
    assert (away.status, away.answers) == ("active", False)
    assert await pier.observed() == {}


async def test_a_removal_goes_by_plan_and_takes_no_neighbour_along(pier: Pier):
    for project, host in (("app", "app1.example.org"), ("app-admin", "app1-admin.example.org")):
        await pier.promoted(project)
        pier.names.records[host] = ["A 192.0.2.1"]
        await pier.do("add_domain", project=project, domain=host)
    plan = await pier.do("remove_domain", domain="app1.example.org")
    assert plan.status == "planned"
    assert pier.service.at("app1.example.org") == {("A", HERE)}
    done = await pier.do("remove_domain", domain="app1.example.org", plan_token=plan.plan_token)
    assert (done.status, done.notices) == ("done", ())
    assert pier.service.at("app1.example.org") == set()
    assert await pier.observed() == {
        "app.production": (set(), set()),
        "app-admin.production": ({"app1-admin.example.org"}, {"app1-admin.example.org"}),
    }
    assert pier.service.at("app1-admin.example.org") == {("A", HERE)}


async def test_a_deleted_project_takes_its_domains_along_and_dns_is_tidied_when_it_could_not_be_at_once(
    pier: Pier,
):
    await pier.promoted("app")
    pier.names.records["demo.example.org"] = ["A 192.0.2.1"]
    await pier.do("add_domain", project="app", domain="demo.example.org")
    await pier.do("add_domain", project="app-admin", domain="kept.example.org")
    plan = await pier.do("delete_project", name="app")
    pier.service.failures = [500] * 3
    done = await pier.do("delete_project", name="app", plan_token=plan.plan_token)
    assert "tidied up later" in done.notices[0]
    assert (await pier.observed())["app.production"] == (set(), set())
    assert await pier.domains.tidy() == ("demo.example.org",)
    assert await pier.domains.tidy() == ()
    assert pier.service.at("kept.example.org") == {("A", HERE)}


async def test_what_was_let_go_and_taken_again_meanwhile_is_left_to_its_new_owner(pier: Pier):
    pier.names.records["demo.example.org"] = ["A 192.0.2.1"]
    await pier.do("add_domain", project="app", domain="demo.example.org")
    assert await pier.domains.let_go(["demo.example.org"]) == ()
    assert pier.service.at("demo.example.org") == {("A", HERE)}


async def test_another_teams_domains_are_not_found_and_a_viewer_changes_none(pier: Pier):
    await pier.do("add_domain", project="app", domain="shop.example.net")
    stranger = pier.world.caller(team_id="blue")
    for action in ("verify_domain", "remove_domain"):
        with pytest.raises(NotFound):
            await pier.do(action, stranger, domain="shop.example.net")
    with pytest.raises(NotFound):
        await pier.do("list_domains", stranger, project="app")
    with pytest.raises(Forbidden):
        await pier.do("add_domain", pier.world.caller("viewer"), project="app", domain="x.example.net")


async def test_a_team_has_at_most_its_quota_over_all_its_projects(make_pier: MakePier):
    pier = await make_pier(quota=2)
    await pier.do("add_domain", project="app", domain="a.example.net")
    await pier.do("add_domain", project="app-admin", domain="b.example.net")
    with pytest.raises(QuotaExceeded):
        await pier.do("add_domain", project="app", domain="c.example.net")
    await pier.do("add_domain", pier.world.caller(team_id="blue"), project="theirs", domain="c.example.net")
