"""P1 on SQLAlchemy over asyncpg: 20 tasks on an engine of 20 connections; each statement takes a
connection from the pool and gives it back, as dbrun's engine does."""
import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bench_common import SELECT_SQL, TASKS, Clock, account, database_url

STATEMENT = text(SELECT_SQL + ":aid")


async def ask(engine, aid):
    async with engine.connect() as connection:
        return (await connection.execute(STATEMENT, {"aid": aid})).scalar_one()


async def warm_up(engine):
    for _ in range(20):
        await ask(engine, account())


async def work(engine, clock):
    while clock.running():
        for _ in range(16):
            aid = account()
            clock.count(await ask(engine, aid) == aid)


async def main():
    engine = create_async_engine(database_url("postgresql+asyncpg"), pool_size=TASKS, max_overflow=10)
    await asyncio.gather(*(warm_up(engine) for _ in range(TASKS)))
    clock = Clock()
    await asyncio.gather(*(work(engine, clock) for _ in range(TASKS)))
    clock.report()
    await engine.dispose()


asyncio.run(main())
