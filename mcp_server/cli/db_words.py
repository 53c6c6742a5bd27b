"""The words of `quaymaster db`, in English and Korean."""

from __future__ import annotations

import os
from typing import Literal

Language = Literal["en", "ko"]

COMMANDS = (
    "list",
    "new",
    "migrate",
    "rollback",
    "seed",
    "pull",
    "push",
    "validate",
    "execute",
    "backups",
    "generate",
    "studio",
    "debug",
    "version",
    "completion",
    "help",
)

WORDS: dict[str, tuple[str, str]] = {
    "db": (
        "the databases of this code base: one folder below db/ for each",
        "이 코드베이스의 데이터베이스들: db/ 아래의 폴더 하나가 데이터베이스 하나입니다.",
    ),
    "commands": ("commands", "명령"),
    "list": ("list the databases", "데이터베이스 목록을 보여 줍니다"),
    "new": ("make the folder of a new database", "새 데이터베이스 폴더를 만듭니다"),
    "new.name": ("its name", "이름"),
    "migrate": (
        "migrations: dev, deploy, reset (dangerous), status, diff, resolve",
        "마이그레이션: dev, deploy, reset(위험), status, diff, resolve",
    ),
    "rollback": (
        "take migrations back with their down.sql (dangerous)",
        "down.sql로 마이그레이션을 되돌립니다 (위험)",
    ),
    "seed": ("run seed.sql or seed.py", "seed.sql 또는 seed.py를 실행합니다"),
    "pull": (
        "overwrite schema.sql with the database's schema (dangerous)",
        "데이터베이스의 스키마로 schema.sql을 덮어씁니다 (위험)",
    ),
    "push": (
        "make the database as schema.sql says, without a migration (dangerous)",
        "마이그레이션 없이 데이터베이스를 schema.sql에 맞춥니다 (위험)",
    ),
    "validate": (
        "check files, and that migrations lead to schema.sql",
        "파일을 검사하고 마이그레이션이 schema.sql에 이르는지 확인합니다",
    ),
    "execute": ("run one SQL statement", "SQL 문 하나를 실행합니다"),
    "backups": (
        "list the backups that were made before dangerous commands, or write one to a file",
        "위험한 명령 전에 만든 백업을 보여 주거나 파일로 내보냅니다",
    ),
    "--export": (
        "write this backup to a new file (for pg_restore, or SQLite's own)",
        "이 백업을 새 파일로 내보냅니다 (pg_restore용 또는 SQLite 파일)",
    ),
    "generate": (
        "write the typed Python client of the database into its folder",
        "데이터베이스의 타입이 있는 Python 클라이언트를 폴더에 생성합니다",
    ),
    "studio": (
        "browse tables and rows in a page on this machine",
        "이 컴퓨터의 페이지에서 테이블과 행을 살펴봅니다",
    ),
    "--check": (
        "write nothing; exit 3 when the files are out of date",
        "아무것도 쓰지 않고, 파일이 최신이 아니면 3으로 끝납니다",
    ),
    "--port": ("port on 127.0.0.1 (default: a free one)", "127.0.0.1의 포트 (기본: 빈 포트)"),
    "debug": ("show what this command sees", "이 명령이 보는 환경을 보여 줍니다"),
    "version": ("show the version", "버전을 보여 줍니다"),
    "completion": ("print a script for the shell's completion", "셸 자동 완성 스크립트를 출력합니다"),
    "help": ("show help, -l ko for Korean", "도움말을 보여 줍니다, -l en은 영어"),
    "codes": (
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 drift or pending, 4 refused.",
        "종료 코드: 0 완료, 1 실패, 2 잘못된 사용, 3 불일치 또는 대기 중, 4 거부.",
    ),
    "--json": ("print JSON", "JSON으로 출력"),
    "--env": (
        "environment: development (dev), test or production (prod); default: QUAYMASTER_ENV",
        "환경: development, test, production (기본값: QUAYMASTER_ENV)",
    ),
    "--root": ("the directory that holds db/ (default: here)", "db/가 있는 디렉터리 (기본값: 현재 위치)"),
    "-d": ("a database; may be repeated", "데이터베이스 이름; 반복 가능"),
    "-a": ("every database", "모든 데이터베이스"),
    "--type": ("what to do (default: status)", "할 일 (기본값: status)"),
    "--name": ("dev: the name of the new migration", "dev: 새 마이그레이션의 이름"),
    "--empty": ("dev: write empty files to fill by hand", "dev: 직접 채울 빈 파일을 만듭니다"),
    "--create-only": ("dev: write the files, apply nothing", "dev: 파일만 만들고 적용하지 않습니다"),
    "--rehearse": (
        "deploy: only try on a clone, and report",
        "deploy: 복제본에서만 시험하고 보고합니다",
    ),
    "--no-countdown": ("deploy: do not wait", "deploy: 기다리지 않습니다"),
    "--allow-missing": ("go on although applied files are gone", "적용된 파일이 없어도 계속합니다"),
    "--allow-out-of-order": ("apply older files after newer ones", "더 오래된 파일을 나중에 적용합니다"),
    "--applied": ("resolve: all of it is there", "resolve: 모두 적용된 것으로 기록합니다"),
    "--rolled-back": ("resolve: nothing of it is there", "resolve: 적용되지 않은 것으로 기록합니다"),
    "--continue-at": ("resolve: N statements have run", "resolve: N개의 문이 실행되었습니다"),
    "--target": (
        "the migration to go back to (kept): version, name, number of steps, or 'base'",
        "되돌아갈 마이그레이션(유지됨): 버전, 이름, 단계 수 또는 'base'",
    ),
    "--list": ("only list what can be taken back", "되돌릴 수 있는 것만 보여 줍니다"),
    "--accept-data-loss": ("push although data is lost", "데이터를 잃더라도 push합니다"),
    "--query": ("the statement; '-' reads standard input", "실행할 문; '-'는 표준 입력을 읽습니다"),
    "--file": ("a file that holds the statement", "문이 들어 있는 파일"),
    "--write": ("allow it to change something", "변경을 허용합니다"),
    "--limit": ("rows to show at most (default: 1000)", "보여 줄 최대 행 수 (기본값: 1000)"),
    "--plan": ("show what would happen, and a token for it", "일어날 일과 그 토큰을 보여 줍니다"),
    "--token": ("do exactly what --plan showed", "--plan이 보여 준 그대로 실행합니다"),
    "--no-backup": ("take no backup before", "사전 백업을 하지 않습니다"),
    "ask.title": (
        "{action} of '{database}' in {environment} ({place})",
        "{environment} 환경의 '{database}' {action} ({place})",
    ),
    "ask.lost": ("lost: {what}", "사라지는 것: {what}"),
    "ask.left": ("left as it is, do it by hand: {what}", "그대로 남습니다, 직접 하세요: {what}"),
    "ask.code": (
        "Type {code} to {action} '{database}' in {environment} ({number} of 2): ",
        "{environment}의 '{database}' {action}: {code} 을(를) 입력하세요 ({number}/2): ",
    ),
    "ask.wrong": (
        "that is not the code",
        "코드가 다릅니다",
    ),
    "unchanged": ("Nothing has been changed.", "아무것도 바뀌지 않았습니다."),
    "list.none": (
        "there is no database below db/: 'quaymaster db new NAME' makes one",
        "db/ 아래에 데이터베이스가 없습니다: 'quaymaster db new NAME'으로 만드세요",
    ),
    "applied.none": ("{database}: nothing is applied", "{database}: 적용된 것이 없습니다"),
    "dev.more": (
        "{database}: schema.sql says more than the migrations: -n NAME writes one",
        "{database}: schema.sql이 마이그레이션과 다릅니다: -n NAME으로 작성하세요",
    ),
    "ask.terminal": (
        "{action} asks a person at a terminal, and there is none",
        "{action}은(는) 터미널의 사람에게 확인해야 하지만 터미널이 없습니다",
    ),
    "ask.token": (
        "Run it with --plan, read the plan, then pass its --token.",
        "--plan으로 실행해 계획을 읽은 뒤 --token을 넘기세요.",
    ),
    "deploy.in": (
        "deploying in {seconds} s; Ctrl-C stops it",
        "{seconds}초 뒤 배포합니다; Ctrl-C로 멈춥니다",
    ),
}


def language() -> Language:
    """Of the person, from LC_ALL, LC_MESSAGES or LANG."""
    set_to = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "ko" if set_to.lower().startswith("ko") else "en"


def say(key: str, lang: str, **values: object) -> str:
    text = WORDS[key][1 if lang == "ko" else 0]
    return text.format(**values) if values else text
