"""What the use cases of databases are made of, put together once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mcp_server.domain.databases import Site
from mcp_server.ports.databases import EnvFiles, Logins, Machine, Seats, SqliteFiles, Workers
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.sealing import Sealer
from mcp_server.ports.store import Store
from mcp_server.services.calls import Calls
from mcp_server.services.databases.allocation import Allocation
from mcp_server.services.databases.injection import Injection
from mcp_server.services.databases.leftovers import Leftovers
from mcp_server.services.databases.options import Options, Step, no_step
from mcp_server.services.databases.passwords import Passwords
from mcp_server.services.databases.places import Places
from mcp_server.services.databases.servers import Servers
from mcp_server.services.databases.starts import Starts
from mcp_server.services.databases.views import Looks
from mcp_server.services.project_networks import ProjectNetworks
from mcp_server.services.works import Works


@dataclass(frozen=True)
class Parts:
    store: Store
    calls: Calls
    engine: Orchestrator
    logins: Logins
    files: SqliteFiles
    env_files: EnvFiles
    machine: Machine
    workers: Workers
    seats: Seats
    sealer: Sealer
    site: Site
    options: Options
    step: Step = no_step

    @cached_property
    def works(self) -> Works:
        return Works()

    @cached_property
    def passwords(self) -> Passwords:
        return Passwords(self.sealer)

    @cached_property
    def servers(self) -> Servers:
        return Servers(self.engine, self.logins, self.options)

    @cached_property
    def starts(self) -> Starts:
        return Starts(self.seats, self.engine, self.options)

    @cached_property
    def networks(self) -> ProjectNetworks:
        return ProjectNetworks(self.engine, self.site)

    @cached_property
    def places(self) -> Places:
        return Places(self.engine, self.networks, self.site, self.options)

    @cached_property
    def allocation(self) -> Allocation:
        return Allocation(self.store, self.machine, self.site, self.options.ports)

    @cached_property
    def leftovers(self) -> Leftovers:
        return Leftovers(self.store, self.servers, self.allocation, self.workers, self.options, self.step)

    @cached_property
    def injection(self) -> Injection:
        return Injection(self.store, self.servers, self.networks, self.env_files, self.passwords, self.site)

    @cached_property
    def looks(self) -> Looks:
        return Looks(self.engine, self.files, self.passwords, self.workers, self.site)
