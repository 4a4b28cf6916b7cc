"""P1 on SQLAlchemy over asyncpg: 20 tasks, and a pool with dbrun's own settings (20 + 10, pre-ping).
Usage: sqlalchemy_select.py SECONDS session|connection
session: each statement has its own session, like a request in an application. connection: the minimum
in SQLAlchemy: a connection from the pool, no pre-ping."""
import asyncio
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import sessionmaker

from bench_common import SELECT_SQL, TASKS, Clock, account, database_url

STATEMENT = text(SELECT_SQL + ":aid")


def opener(engine, sessions):
    """What a statement runs on."""
    if sessions:
        return sessionmaker(engine, class_=AsyncSession, autoflush=False, expire_on_commit=False)
    return engine.connect


async def ask(open_one, aid):
    async with open_one() as one:
        return (await one.execute(STATEMENT, {"aid": aid})).scalar_one()


async def warm_up(open_one):
    for _ in range(20):
        await ask(open_one, account())


async def work(open_one, clock):
    while clock.running():
        for _ in range(16):
            aid = account()
            clock.count(await ask(open_one, aid) == aid)


async def main(sessions):
    engine = create_async_engine(
        database_url("postgresql+asyncpg"), pool_size=TASKS, max_overflow=10, pool_pre_ping=sessions
    )
    open_one = opener(engine, sessions)
    await asyncio.gather(*(warm_up(open_one) for _ in range(TASKS)))
    clock = Clock()
    await asyncio.gather(*(work(open_one, clock) for _ in range(TASKS)))
    clock.report()
    await engine.dispose()


asyncio.run(main(sys.argv[2] == "session"))
