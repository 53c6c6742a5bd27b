"""What becomes of a test whose service is not on this machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def do_without(reason: str) -> NoReturn:
    """On a tester's own machine a missing service or program skips its tests; in CI it fails them."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have every service: {reason}", pytrace=False)
    pytest.skip(reason)
