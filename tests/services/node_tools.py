"""Programs that come with Node.js: the official conformance suite and the inspector."""

import os
from dataclasses import dataclass
from pathlib import Path

from .processes import CHECKOUT


class NodeMissing(Exception):
    """The programs are not installed; the text says how to install them."""


@dataclass(frozen=True)
class NodeTools:
    """Command lines as lists. Run them with `environment(home)`: the inspector writes to its home."""

    folder: Path

    def conformance(self, *arguments: str) -> list[str]:
        return [str(self._node), str(self.folder / ".bin" / "conformance"), *arguments]

    def inspector(self, *arguments: str) -> list[str]:
        return [str(self._node), str(self.folder / ".bin" / "mcp-inspector"), "--cli", *arguments]

    def environment(self, home: Path) -> dict[str, str]:
        return {"PATH": f"{self._node.parent}:{os.environ.get('PATH', os.defpath)}", "HOME": str(home)}

    @property
    def _node(self) -> Path:
        return self.folder / "node" / "bin" / "node"


def find_node_tools() -> NodeTools:
    """What `scripts/node-tools` installed; NodeMissing when it did not run or did not finish."""
    installed = CHECKOUT / ".cache" / "node-tools"
    if not (installed / ".installed").exists():
        raise NodeMissing("the Node.js programs are not installed; run scripts/node-tools")
    return NodeTools(installed / "node_modules")
