"""Schemas that can be applied to a PostgreSQL database by name. Applying one again changes nothing."""

from __future__ import annotations

from typing import Literal

from mcp_server.domain.records import Value

TemplateName = Literal["chat"]
DIMENSIONS = 1536


class Template(Value):
    """`statements` run in one transaction as the project's role; `extensions` must be there before."""

    name: TemplateName
    extensions: tuple[str, ...]
    statements: tuple[str, ...]


CHAT = Template(
    name="chat",
    extensions=("vector",),
    statements=(
        """
        CREATE TABLE IF NOT EXISTS users (
          id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
          email TEXT NOT NULL,
          name TEXT NOT NULL DEFAULT '',
          created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
          updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
        )
        """,
        "CREATE UNIQUE INDEX IF NOT EXISTS users_email ON users (lower(email))",
        """
        CREATE TABLE IF NOT EXISTS user_preferences (
          user_id UUID NOT NULL REFERENCES users ON DELETE CASCADE,
          key TEXT NOT NULL,
          value JSONB NOT NULL,
          updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
          PRIMARY KEY (user_id, key)
        )
        """,
        """
        CREATE TABLE IF NOT EXISTS chat_sessions (
          id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
          user_id UUID NOT NULL REFERENCES users ON DELETE CASCADE,
          title TEXT NOT NULL DEFAULT '',
          metadata JSONB NOT NULL DEFAULT '{}',
          created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
          updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
        )
        """,
        "CREATE INDEX IF NOT EXISTS chat_sessions_of_user ON chat_sessions (user_id, updated_at DESC)",
        """
        CREATE TABLE IF NOT EXISTS messages (
          id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
          session_id UUID NOT NULL REFERENCES chat_sessions ON DELETE CASCADE,
          role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
          content TEXT NOT NULL,
          metadata JSONB NOT NULL DEFAULT '{}',
          created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
        )
        """,
        "CREATE INDEX IF NOT EXISTS messages_of_session ON messages (session_id, created_at, id)",
        f"""
        CREATE TABLE IF NOT EXISTS embeddings (
          id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
          message_id UUID REFERENCES messages ON DELETE CASCADE,
          content TEXT NOT NULL,
          embedding VECTOR({DIMENSIONS}) NOT NULL,
          metadata JSONB NOT NULL DEFAULT '{{}}',
          created_at TIMESTAMPTZ NOT NULL DEFAULT now()
        )
        """,
        "CREATE INDEX IF NOT EXISTS embeddings_of_message ON embeddings (message_id)",
        "CREATE INDEX IF NOT EXISTS embeddings_nearest ON embeddings USING hnsw (embedding vector_cosine_ops)",
    ),
)
TEMPLATES: dict[str, Template] = {CHAT.name: CHAT}
