"""The databases of a code base on the disk: `db/NAME/` with schema, migrations and seed."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from mcp_server.domain.errors import Conflict, Corrupt, Invalid
from mcp_server.domain.schemas.folders import (
    FOLDER,
    LONGEST_NAME,
    Folder,
    FolderSettings,
    Migration,
    require_distinct,
    require_name,
    require_versions,
)
from mcp_server.domain.schemas.statements import Engine

MARKS = ("schema.sql", "migrations", "seed.sql", "seed.py", "database.toml", "alembic.ini")
DOTENV = {
    "development": (".env.dev", ".env.development"),
    "production": (".env.prod", ".env.production"),
    "test": (".env.test",),
}
DRIVER = re.compile(r"^(postgres(?:ql)?|sqlite)\+\w+:")
"""SQLAlchemy's way to name a driver, which an Alembic project's address may have."""
BOM = "\ufeff"


class DiskFolders:
    """`environ` None reads addresses from the dotenv files only."""

    def __init__(self, root: Path, environ: Mapping[str, str] | None) -> None:
        self.root = root
        self._environ = environ or {}
        self.reads_environment = environ is not None

    def all(self) -> tuple[Folder, ...]:
        base = self.root / "db"
        if not base.is_dir():
            return ()
        paths = [each for each in sorted(base.iterdir()) if not each.name.startswith((".", "_"))]
        folders = tuple(_folder(each) for each in paths if _is_database(each))
        require_distinct(folders)
        return folders

    def migrations(self, folder: Folder) -> tuple[Migration, ...]:
        base = folder.path / "migrations"
        if not base.is_dir():
            return ()
        with os.scandir(base) as entries:
            names = sorted(each.name for each in entries if each.is_dir())
        found = [self._migration(base / name) for name in names if not name.startswith((".", "_"))]
        return require_versions(found, f"{folder.name}/migrations")

    def schema(self, folder: Folder) -> str | None:
        path = folder.path / "schema.sql"
        return self.read(path) if path.exists() else None

    def seed(self, folder: Folder) -> Path | None:
        found = [folder.path / name for name in ("seed.sql", "seed.py") if (folder.path / name).exists()]
        if len(found) > 1:
            raise Invalid(f"{folder.name}: there are both seed.sql and seed.py", next="Keep one of them.")
        return found[0] if found else None

    def read(self, path: Path) -> str:
        text = self._text(path)
        if text is None:
            raise Invalid(f"there is no {self._named(path)}")
        return text

    def _text(self, path: Path) -> str | None:
        """None where there is no such file."""
        try:
            text = path.read_bytes().decode("utf-8").removeprefix(BOM)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise Invalid(f"{self._named(path)} is a directory") from None
        except PermissionError:
            raise Invalid(f"{self._named(path)} may not be read") from None
        except UnicodeDecodeError as error:
            raise Invalid(f"{self._named(path)} is not UTF-8 (byte {error.start})") from error
        if "\x00" in text:
            raise Invalid(f"{self._named(path)} holds NUL, which no SQL text can")
        return text.replace("\r\n", "\n")

    def make(self, name: str, engine: Engine) -> Folder:
        path = self.root / "db" / require_name(name)
        if path.exists():
            raise Conflict(f"there is a db/{name} already")
        require_distinct([*self.all(), Folder(name, path, FolderSettings(engine=engine))])
        (path / "migrations").mkdir(parents=True)
        (path / "database.toml").write_text(f'engine = "{engine}"\n', encoding="utf-8")
        (path / "schema.sql").write_text("", encoding="utf-8")
        return _folder(path)

    def write_schema(self, folder: Folder, text: str) -> Path:
        path = folder.path / "schema.sql"
        _replace(path, text)
        return path

    def keep_schema(self, folder: Folder, at: datetime) -> Path | None:
        path = folder.path / "schema.sql"
        if not path.exists():
            return None
        held, kept = path.read_bytes(), self.state("backups", folder.name, f"schema-{at:%Y%m%dT%H%M%S%f}.sql")
        with kept.open("xb") as file:
            file.write(held)
            file.flush()
            os.fsync(file.fileno())
        if kept.read_bytes() != held:
            raise Corrupt(f"the copy of {self._named(path)} is not what was written")
        return kept

    def write_migration(self, folder: Folder, version: str, name: str, up: str, down: str) -> Path:
        label = f"{version}_{name}"
        if not FOLDER.fullmatch(label) or len(label.encode()) > LONGEST_NAME:
            raise Invalid.field(
                "name", "letters, digits, hyphens and underscores; 100 characters, 180 bytes at most"
            )
        path = folder.path / "migrations" / f"{version}_{name}"
        if path.exists():
            raise Conflict(f"there is a migration {path.name} already")
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as aside:
            whole = Path(aside) / path.name
            whole.mkdir()
            (whole / "up.sql").write_text(up, encoding="utf-8")
            (whole / "down.sql").write_text(down, encoding="utf-8")
            whole.rename(path)
        return path

    def state(self, *parts: str) -> Path:
        base = self.root / ".quaymaster"
        base.mkdir(mode=0o700, exist_ok=True)
        ignored = base / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n", encoding="utf-8")
        path = base.joinpath(*parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def url(self, folder: Folder, environment: str, purpose: str = "") -> str | None:
        variable = folder.variable
        if purpose:
            variable = f"{variable.removesuffix('_URL')}_{purpose}_URL"
        found = (
            self._environ.get(variable)
            or self._agreed(variable, DOTENV.get(environment, (f".env.{environment}",)))
            or self._agreed(variable, (".env",))
        )
        return DRIVER.sub(r"\1:", found) if found else None

    def _agreed(self, variable: str, names: Sequence[str]) -> str | None:
        """What the files say that go by these names; None where none does."""
        paths = [self.root / name for name in names]
        said = {
            path.name: value
            for path in paths
            if path.is_file() and (value := dotenv_values(path, interpolate=False).get(variable))
        }
        if len(set(said.values())) > 1:
            raise Invalid(f"{' and '.join(said)} give {variable} different values", next="Keep one of them.")
        return next(iter(said.values()), None)

    def _migration(self, path: Path) -> Migration:
        named = FOLDER.fullmatch(path.name)
        if named is None:
            raise Invalid(
                f"{self._named(path)} is not named VERSION_NAME, as 20261121093000_add_users is",
                next="Rename the folder, or begin its name with '_' to leave it out.",
            )
        return Migration(
            version=named["version"],
            name=named["name"],
            up=self.read(path / "up.sql"),
            down=self._text(path / "down.sql"),
            folder=self._named(path),
        )

    def _named(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name


def _is_database(path: Path) -> bool:
    return path.is_dir() and any((path / mark).exists() for mark in MARKS)


def _folder(path: Path) -> Folder:
    settings = FolderSettings()
    described = path / "database.toml"
    if described.exists():
        try:
            settings = FolderSettings.model_validate(tomllib.loads(described.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"db/{path.name}/database.toml does not parse: {error}") from error
        except ValidationError as error:
            where = "; ".join(
                f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()
            )
            raise Invalid(f"db/{path.name}/database.toml: {where}") from error
    return Folder(require_name(path.name), path, settings, _alembic(path, settings.alembic))


def _alembic(path: Path, named: str | None) -> Path | None:
    """The directory of the alembic.ini that settings name, or of the one beside them."""
    home = path if named is None else (path.parent.parent / named).resolve()
    if (home / "alembic.ini").is_file():
        return home
    if named is not None:
        raise Invalid(f"db/{path.name}/database.toml: alembic: there is no {named}/alembic.ini")
    return None


def _replace(path: Path, text: str) -> None:
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(aside).chmod(0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
