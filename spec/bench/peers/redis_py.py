"""R1 on redis-py (asyncio, with hiredis): N tasks, each SET then GET of its own key, one at a time.
Usage: redis_py.py SECONDS TASKS"""
import asyncio
import sys

import redis.asyncio

from bench_common import Clock, redis_url


async def work(client, number, clock):
    key = f"bench:{number}"
    i = 0
    while clock.running():
        for _ in range(8):
            i += 1
            value = str(i)
            await client.set(key, value)
            clock.count(await client.get(key) == value, 2)


async def main():
    tasks = int(sys.argv[2])
    pool = redis.asyncio.ConnectionPool.from_url(redis_url(), max_connections=50, decode_responses=True)
    client = redis.asyncio.Redis(connection_pool=pool)
    await asyncio.gather(*(client.ping() for _ in range(tasks)))
    clock = Clock()
    await asyncio.gather(*(work(client, n, clock) for n in range(tasks)))
    clock.report()
    await pool.disconnect()


asyncio.run(main())
