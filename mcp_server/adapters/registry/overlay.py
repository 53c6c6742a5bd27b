"""What a reading and a transaction see: the committed state, and the transaction's own changes over it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from heapq import merge
from operator import itemgetter
from typing import NoReturn, Protocol

from mcp_server.adapters.registry.indexes import UNIQUES_OF, Listing, Order, Unique
from mcp_server.adapters.registry.state import State
from mcp_server.domain.changes import Change
from mcp_server.domain.records import Record

_order_of = itemgetter(0)


class View(Protocol):
    """The repositories' source. Iterators are used up before the caller waits for anything."""

    def get(self, noun: str, key: str) -> Record | None: ...
    def rev_of(self, noun: str, key: str) -> int: ...
    def walk(
        self, listing: Listing, group: Hashable, after: Order | None
    ) -> Iterator[tuple[Order, Record]]: ...
    def count(self, listing: Listing, group: Hashable) -> int: ...
    def owners(self, unique: Unique, value: Hashable) -> Iterable[str]: ...
    def put(self, noun: str, key: str, rev: int, record: Record | None) -> None: ...


class Committed:
    """The state alone."""

    def __init__(self, state: State) -> None:
        self.get = state.get
        self.rev_of = state.rev_of
        self.walk = state.walk
        self.count = state.count
        self.owners = state.owners

    def put(self, noun: str, key: str, rev: int, record: Record | None) -> NoReturn:
        raise TypeError("a reading does not write; open a transaction")


class Overlay:
    """The state with changes that nobody else sees."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._own: dict[tuple[str, str], tuple[int, Record | None]] = {}
        self._owners: dict[tuple[Unique, Hashable], set[str]] = {}
        self.ended = False

    def get(self, noun: str, key: str) -> Record | None:
        own = self._own.get((noun, key))
        return self._state.get(noun, key) if own is None else own[1]

    def rev_of(self, noun: str, key: str) -> int:
        own = self._own.get((noun, key))
        return self._state.rev_of(noun, key) if own is None else own[0]

    def walk(self, listing: Listing, group: Hashable, after: Order | None) -> Iterator[tuple[Order, Record]]:
        committed = self._state.walk(listing, group, after)
        own = self._own_of(listing, group, after)
        untouched = (item for item in committed if (item[1].noun, item[1].key) not in self._own)
        return merge(untouched, own, key=_order_of)

    def count(self, listing: Listing, group: Hashable) -> int:
        return sum(1 for _ in self.walk(listing, group, None))

    def owners(self, unique: Unique, value: Hashable) -> Iterable[str]:
        for key in self._state.owners(unique, value):
            if (unique.noun, key) not in self._own:
                yield key
        yield from self._owners.get((unique, value), ())

    def put(self, noun: str, key: str, rev: int, record: Record | None) -> None:
        if self.ended:
            raise TypeError("this transaction has ended")
        self._own_values(noun, key, record)
        self._own[noun, key] = (rev, record)

    def changes(self, *, before: bool) -> tuple[Change, ...]:
        """In the order of the first touch. `before`: with the records they were based on."""
        return tuple(
            self._change(noun, key, rev, record, before) for (noun, key), (rev, record) in self._own.items()
        )

    def _change(self, noun: str, key: str, rev: int, record: Record | None, before: bool) -> Change:
        base = self._state.get(noun, key)
        return Change(
            noun=noun,
            key=key,
            base=0 if base is None else base.rev,
            rev=rev,
            record=record,
            before=base if before else None,
        )

    def _own_values(self, noun: str, key: str, record: Record | None) -> None:
        """Keep who owns which unique value: a look through all changes would make large transactions slow."""
        old = self._own.get((noun, key), (0, None))[1]
        for unique in UNIQUES_OF[noun]:
            if old is not None:
                self._owners[unique, unique.value(old)].discard(key)
            if record is not None:
                self._owners.setdefault((unique, unique.value(record)), set()).add(key)

    def _own_of(self, listing: Listing, group: Hashable, after: Order | None) -> list[tuple[Order, Record]]:
        own = [
            (listing.order(record), record)
            for (noun, _), (_, record) in self._own.items()
            if noun == listing.noun and record is not None and listing.group(record) == group
        ]
        return sorted((item for item in own if after is None or item[0] > after), key=_order_of)
