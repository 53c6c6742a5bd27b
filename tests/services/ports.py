"""Port numbers on loopback that stay ours while nobody listens on them."""

import random
import socket

# Below the range from which systems draw the ports of outgoing connections: a server that is down for a
# while must find its port free when it comes back.
RANGE = range(18_000, 32_000)


class ReservedPort:
    """A TCP port on 127.0.0.1 that no other part of a test run takes, until `release`.

    The claim is the UDP port of the same number, held open: it ends with the process and leaves no file.
    """

    def __init__(self) -> None:
        self.number, self._claim = _claim_free_port()

    def release(self) -> None:
        self._claim.close()


def is_open(port: int) -> bool:
    """Whether something on 127.0.0.1 accepts connections on this port (a frozen server does, too)."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _claim_free_port() -> tuple[int, socket.socket]:
    for number in random.SystemRandom().sample(RANGE, k=200):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", number))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", number))
        except OSError:
            claim.close()
        else:
            return number, claim
    raise RuntimeError("no free port found on 127.0.0.1")
