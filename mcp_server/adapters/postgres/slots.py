"""Rows of slot pairs: both slots of a project and environment in one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.adapters.postgres.rows import Row, Rows, as_json, texts_after
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.slots import Slot, SlotPair

_SLOT = tuple(Slot.model_fields)


class SlotRows(Rows[SlotPair]):
    kind = SlotPair
    select = """
        SELECT project_name AS project, environment, active_slot,
          blue_state, blue_port, blue_version, blue_image, blue_deployed_at, blue_deployed_by,
          blue_health_status, blue_deployment,
          green_state, green_port, green_version, green_image, green_deployed_at, green_deployed_by,
          green_health_status, green_deployment,
          grace_expires_at, home, host, host_name, previous, switch, updated_at, rev
        FROM project_slots"""
    where_key = " WHERE uid = $1"
    insert = """
        INSERT INTO project_slots (project_name, environment, active_slot,
          blue_state, blue_port, blue_version, blue_image, blue_deployed_at, blue_deployed_by,
          blue_health_status,
          green_state, green_port, green_version, green_image, green_deployed_at, green_deployed_by,
          green_health_status,
          grace_expires_at, updated_at, blue_deployment, green_deployment, home, host, host_name,
          previous, switch, rev)
        SELECT $2::TEXT, $3::TEXT, $4::TEXT,
          $5::TEXT, $6::INTEGER, $7::TEXT, $8::TEXT, $9::TIMESTAMPTZ, $10::TEXT, $11::TEXT,
          $12::TEXT, $13::INTEGER, $14::TEXT, $15::TEXT, $16::TIMESTAMPTZ, $17::TEXT, $18::TEXT,
          $19::TIMESTAMPTZ, $20::TIMESTAMPTZ, $21::TEXT, $22::TEXT, $23::TEXT, $24::TEXT, $25::TEXT,
          $26::TEXT, $27::JSONB,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'slots' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE project_slots SET active_slot = $3,
          blue_state = $4, blue_port = $5, blue_version = $6, blue_image = $7, blue_deployed_at = $8,
          blue_deployed_by = $9, blue_health_status = $10,
          green_state = $11, green_port = $12, green_version = $13, green_image = $14,
          green_deployed_at = $15,
          green_deployed_by = $16, green_health_status = $17,
          grace_expires_at = $18, updated_at = $19, blue_deployment = $20, green_deployment = $21,
          home = $22, host = $23, host_name = $24, previous = $25, switch = $26, rev = rev + 1
        WHERE uid = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM project_slots WHERE uid = $1 AND rev = $2 RETURNING uid, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'slots', uid, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(self, project: str) -> Sequence[SlotPair]:
        rows = await self._session.all(
            self.select + ' WHERE project_name = $1 ORDER BY environment COLLATE "C"', project
        )
        return self._records(rows)

    async def of_home(self, home: str) -> Sequence[SlotPair]:
        rows = await self._session.all(self.select + ' WHERE home = $1 ORDER BY uid COLLATE "C"', home)
        return self._records(rows)

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[SlotPair]:
        rows = await self._session.all(
            self.select  # noqa: S608  # two literals
            + """
            WHERE project_name = ANY (ARRAY(SELECT name FROM projects WHERE team_id = $1))
              AND (project_name COLLATE "C", environment COLLATE "C")
                > (coalesce($2::TEXT, ''), coalesce($3::TEXT, ''))
            ORDER BY project_name COLLATE "C", environment COLLATE "C" LIMIT $4
            """,
            team_id,
            *texts_after(after, 2),
            limit + 1,
        )
        return self._page(rows, limit, "project", "environment")

    def _fields(self, row: Row) -> Mapping[str, Any]:
        fields = dict(row)
        for colour in ("blue", "green"):
            fields[colour] = {name: fields.pop(f"{colour}_{name}") for name in _SLOT}
        return fields

    @staticmethod
    def _names(record: SlotPair) -> tuple[object, ...]:
        return (record.project, record.environment)

    @staticmethod
    def _values(record: SlotPair) -> tuple[object, ...]:
        blue, green = record.blue, record.green
        return (
            record.active_slot,
            blue.state,
            blue.port,
            blue.version,
            blue.image,
            blue.deployed_at,
            blue.deployed_by,
            blue.health_status,
            green.state,
            green.port,
            green.version,
            green.image,
            green.deployed_at,
            green.deployed_by,
            green.health_status,
            record.grace_expires_at,
            record.updated_at,
            blue.deployment,
            green.deployment,
            record.home,
            record.host,
            record.host_name,
            record.previous,
            as_json(record.switch),
        )
