"""A key-value store that only the present processes of a run write to.

torchrun keeps one store across restarts of a run's processes (torch 2.5 to 2.14 at least; pytorch issue
135712), and its restart count is not the same on all nodes. After a restart a new group would find the
addresses of the previous one and wait for processes that are gone. So the ranks first agree on a new prefix.
"""

from __future__ import annotations

import json
import secrets
import time
from datetime import timedelta

from torch._C._distributed_c10d import Store
from torch.distributed.distributed_c10d import PrefixStore

from hornet_train.errors import PeerError
from hornet_train.untrusted import parse_json

_POLL_SECONDS = 0.05


def fresh_store(store: Store, rank: int, size: int, timeout: timedelta) -> Store:
    """The store under a prefix that is used by this start of the group only.

    Each rank writes a random word under its number. Rank 0 proposes a prefix together with the words that it
    read, and a rank agrees to a proposal that contains its own word. A word left by an earlier start belongs
    to no living rank, so nobody agrees to such a proposal; rank 0 proposes again when the words change.

    Raises:
        PeerError: not all ranks came in time; on rank 0 it names the missing ones.
    """
    end = time.monotonic() + timeout.total_seconds()
    word = secrets.token_hex(8)
    store.set(f"hornet/word/{rank}", word)
    prefix = _propose(store, size, end) if rank == 0 else _agree(store, rank, word, end)
    return PrefixStore(prefix, store)


def _propose(store: Store, size: int, end: float) -> str:
    names = [f"hornet/word/{rank}" for rank in range(size)]
    proposed: list[str] = []
    prefix = ""
    while True:
        present = [name for name in names if store.check([name])]
        words = [value.decode() for value in store.multi_get(present)]
        if len(words) == size and words != proposed:
            proposed, prefix = words, f"hornet/{secrets.token_hex(8)}"
            store.set("hornet/proposal", json.dumps({"prefix": prefix, "words": words}))
        agreed = [rank for rank in range(1, size) if prefix and store.check([f"{prefix}/agreed/{rank}"])]
        if prefix and len(agreed) == size - 1:
            store.set(f"{prefix}/all", "")
            return prefix
        if time.monotonic() > end:
            missing = sorted(set(range(1, size)) - set(agreed))
            raise PeerError(0, f"rank {', '.join(map(str, missing))} of {size} did not come")
        time.sleep(_POLL_SECONDS)


def _agree(store: Store, rank: int, word: str, end: float) -> str:
    agreed = ""
    while True:
        if store.check(["hornet/proposal"]):
            proposal = parse_json(store.get("hornet/proposal"))
            words, prefix = proposal["words"], proposal["prefix"]
            if rank < len(words) and words[rank] == word and prefix != agreed:
                agreed = prefix
                store.set(f"{prefix}/agreed/{rank}", "")
        if agreed and store.check([f"{agreed}/all"]):
            return agreed
        if time.monotonic() > end:
            raise PeerError(rank, "not all ranks of the group came")
        time.sleep(_POLL_SECONDS)
