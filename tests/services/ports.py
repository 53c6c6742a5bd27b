"""Port numbers on loopback that stay ours while nobody listens on them."""

import random
import socket

# Below the range from which systems draw the ports of outgoing connections: a server that is down for a
# while must find its port free when it comes back.
RANGE = range(18_000, 32_000)
BLOCKS = range(10_000, 18_000)


class ReservedPort:
    """A TCP port on 127.0.0.1 that no other part of a test run takes, until `release`.

    The claim is the UDP port of the same number, held open: it ends with the process and leaves no file.
    """

    def __init__(self) -> None:
        self.number, self._claim = _claim_free_port()

    def release(self) -> None:
        self._claim.close()


class ReservedBlock:
    """`size` TCP ports on 127.0.0.1 in a row that no other part of a test run takes, until `release`.

    The claim is the UDP port of the first number: blocks of one size begin at multiples of it.
    """

    def __init__(self, size: int) -> None:
        begins = range(BLOCKS.start, BLOCKS.stop - size, size)
        for first in random.SystemRandom().sample(begins, k=min(200, len(begins))):
            claim = _claimed(first)
            if claim is None:
                continue
            if all(_is_free(first + more) for more in range(size)):
                self.ports, self._claim = range(first, first + size), claim
                return
            claim.close()
        raise RuntimeError(f"no {size} free ports in a row found on 127.0.0.1")

    def release(self) -> None:
        self._claim.close()


def is_open(port: int) -> bool:
    """Whether something on 127.0.0.1 accepts connections on this port (a frozen server does, too)."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _claim_free_port() -> tuple[int, socket.socket]:
    for number in random.SystemRandom().sample(RANGE, k=200):
        claim = _claimed(number)
        if claim is None:
            continue
        if _is_free(number):
            return number, claim
        claim.close()
    raise RuntimeError("no free port found on 127.0.0.1")


def _claimed(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", number))
    except OSError:
        claim.close()
        return None
    return claim


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True
