"""P1 on asyncpg, with 20 tasks and 20 connections. Usage: asyncpg_select.py SECONDS pool|kept
pool: each statement checks a connection out of the pool and returns it, as dbrun's engine does (asyncpg
resets it on return). kept: each task keeps its connection and its prepared statement."""
import asyncio
import sys

import asyncpg

from bench_common import SELECT_SQL, TASKS, Clock, account, database_url

SQL = SELECT_SQL + "$1"


async def work(ask, clock):
    while clock.running():
        for _ in range(16):
            aid = account()
            clock.count(await ask(aid) == aid)


async def warm_up(ask):
    for _ in range(50):
        await ask(account())


async def main(kept):
    async with asyncpg.create_pool(database_url(), min_size=TASKS, max_size=TASKS) as pool:

        async def ask(aid):
            async with pool.acquire() as connection:
                return await connection.fetchval(SQL, aid)

        if kept:
            connections = [await pool.acquire() for _ in range(TASKS)]
            asks = [(await c.prepare(SQL)).fetchval for c in connections]
        else:
            connections, asks = [], [ask] * TASKS
        await asyncio.gather(*(warm_up(a) for a in asks))
        clock = Clock()
        await asyncio.gather(*(work(a, clock) for a in asks))
        clock.report()
        for connection in connections:
            await pool.release(connection)


asyncio.run(main(sys.argv[2] == "kept"))
