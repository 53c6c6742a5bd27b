"""Schemas with what makes generated code hard: odd names, every type, keys of all kinds."""

POSTGRES = """
CREATE TYPE mood AS ENUM ('happy', 'it''s "odd"', 'sad');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email email NOT NULL UNIQUE,
    mood mood NOT NULL DEFAULT 'happy',
    moods mood[],
    tags text[] NOT NULL DEFAULT '{}',
    balance numeric(12, 2),
    date date,
    seen timestamptz NOT NULL DEFAULT '2026-01-02 03:04:05+00',
    token uuid,
    settings jsonb NOT NULL DEFAULT '{}',
    extra json,
    address inet,
    span int4range,
    data bytea,
    pause interval,
    big boolean GENERATED ALWAYS AS (balance > 100) STORED
);
CREATE TABLE "Order-Items" (
    "order" int NOT NULL,
    "class" text NOT NULL,
    "2fa" int,
    "str" text,
    "say ""hi"" you" text,
    limit_ int,
    "limit" int DEFAULT 7,
    user_id bigint REFERENCES users (id),
    PRIMARY KEY ("order", "class")
);
CREATE TABLE log (line text, at timestamptz DEFAULT now());
CREATE TABLE codes (code text NOT NULL UNIQUE);
CREATE SCHEMA shop;
CREATE TABLE shop.users (id uuid PRIMARY KEY, note text);
CREATE VIEW happy AS SELECT id, email FROM users WHERE mood = 'happy';
CREATE TABLE drawn (id serial PRIMARY KEY);
CREATE TABLE nothing ();
"""
SQLITE = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    email VARCHAR(100) NOT NULL UNIQUE,
    active BOOLEAN NOT NULL DEFAULT TRUE,
    admin BOOLEAN,
    ratio REAL,
    price DECIMAL(10, 2),
    settings JSON,
    data BLOB,
    anything,
    made DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    twice REAL GENERATED ALWAYS AS (ratio * 2) VIRTUAL
);
CREATE TABLE "Order-Items" (
    "order" INT, "class" TEXT, "str" TEXT, "limit" INT DEFAULT 7, user_id INTEGER REFERENCES users,
    PRIMARY KEY ("order", "class")
) WITHOUT ROWID;
CREATE TABLE log (line TEXT);
CREATE VIEW active AS SELECT id, email FROM users WHERE active;
CREATE TABLE quaymaster_migrations (version TEXT);
"""
