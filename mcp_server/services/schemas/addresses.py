"""Where each database of a code base is.

1. Its variable: of the environment, of the environment's dotenv file, of `.env`.
2. `project` in database.toml: what Quaymaster made for that project.
3. Where it is the only database of the code base: what Quaymaster made for the project that lies here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mcp_server.domain.errors import Invalid, NotFound, QuaymasterError
from mcp_server.domain.schemas.folders import Folder
from mcp_server.ports.schemas import Folders

if TYPE_CHECKING:
    from mcp_server.services.schemas.estate import Estate, Made


class Addresses:
    """Before `look_up` only variables are known."""

    def __init__(self, folders: Folders, environment: str, is_home: Callable[[], bool]) -> None:
        self._folders = folders
        self._environment = environment
        self._is_home = is_home
        self._made: dict[str, Made] = {}
        self._problems: dict[str, QuaymasterError] = {}

    def wanting(self, folders: Sequence[Folder]) -> tuple[Folder, ...]:
        """Those without variable that could be a project's."""
        missing = [each for each in folders if not self._folders.url(each, self._environment)]
        alone = len(folders) == 1 and bool(missing) and self._is_home()
        return tuple(each for each in missing if each.settings.project or alone)

    async def look_up(self, estate: Estate, folders: Sequence[Folder], project: str | None) -> None:
        """Find what was made for `project`, or for those that the folders name. What is wrong with one folder
        is raised when its address is asked for."""
        for folder in self.wanting(folders):
            named = folder.settings.project
            try:
                name = named or project or await estate.project_at(self._folders.root)
                if name is not None:
                    self._made[folder.name] = await estate.database(name, self._environment)
            except NotFound as error:
                if named is not None:
                    self._problems[folder.name] = error
            except QuaymasterError as error:
                self._problems[folder.name] = error
        self._refuse_twins()

    def url(self, folder: Folder, purpose: str = "") -> str | None:
        """`purpose` as in `Folders.url`; a database that was made needs no other address for any."""
        found = self._folders.url(folder, self._environment, purpose)
        if found or purpose:
            return found
        made = self.made(folder)
        return None if made is None else made.address

    def made(self, folder: Folder) -> Made | None:
        """Raises what `look_up` came upon for this folder."""
        if folder.name in self._problems:
            raise self._problems[folder.name]
        return self._made.get(folder.name)

    def source(self, folder: Folder) -> str:
        """Where the address is from, for people."""
        made = self._made.get(folder.name)
        return folder.variable if made is None else f"project {made.database.project}"

    def _refuse_twins(self) -> None:
        names: dict[str, list[str]] = defaultdict(list)
        for name, made in self._made.items():
            names[made.database.uid].append(name)
        for twins in names.values():
            for name in twins if len(twins) > 1 else ():
                self._problems[name] = Invalid(
                    f"the databases {' and '.join(repr(each) for each in sorted(twins))} would both be the one of the "
                    f"project '{self._made[name].database.project}'",
                    next="Leave 'project' in the database.toml of one of them.",
                )
