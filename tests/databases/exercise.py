"""What a store must do, as a program for a Python that has no pytest: the one that Debian's Kamailio embeds.

python exercise.py URL TABLE    prints SQLAlchemy's version and the driver, and ends with 0 when all is well
"""

from __future__ import annotations

import os
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NASTY = [
    (b"key", b"value"),
    (b"", b""),
    (b"\xff\xfe", b"\0nul\0"),
    (bytes(range(256)), b"'\"`\\%s %% %(x)s :x ?"),
    ("\N{GRINNING FACE}".encode(), b" trailing "),
    (b"key", b"x" * (1 << 20)),
]


def check(*, good: bool, what: str) -> None:
    """Like assert, which options may switch off."""
    if not good:
        raise SystemExit(what)


def exercise(url: str, table: str) -> str:
    """Store, read, undo, refuse, delete; return which versions did it."""
    from kemi.errors import ConfigError, StoreError
    from kemi.store import Store

    store = Store.open(url)
    store.make_ledger()
    many = [(b"%d" % number, b"x" * 100) for number in range(5000)]
    with store.begin(table, keeps_unfit=True) as rows:
        check(good=rows.last_id() == 0, what="the table is not empty")
        check(good=rows.insert(NASTY + many) == 5006, what="insert")
    try:
        with store.begin(table, keeps_unfit=True) as rows:
            check(good=[item[:2] for item in rows.drain()] == NASTY + many, what="read in another transaction")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with store.begin(table, keeps_unfit=True) as rows:
        check(good=[item[:2] for item in rows.drain()] == NASTY + many, what="read after it was undone")
    with store.begin(table, keeps_unfit=True) as rows:
        check(good=rows.is_empty(), what="delete")
    try:
        with store.begin(""):
            check(good=False, what="a table without a name")
    except StoreError as error:
        check(good=str(store.url) in str(error), what="the error does not name the database")
    try:
        Store.open("redis://u:p@h/1")
    except ConfigError:
        pass
    else:
        check(good=False, what="redis")
    store.close()
    return str(store._engine.driver)


def main() -> None:
    """Run it for the arguments."""
    sys.path.insert(0, CHECKOUT)
    driver = exercise(sys.argv[1], sys.argv[2])
    import sqlalchemy

    print(sqlalchemy.__version__, driver)


if __name__ == "__main__":
    main()
