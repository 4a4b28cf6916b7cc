"""S2: what `dbrun scripts/verify.lua --strict` checks, on SQLAlchemy (asyncpg and psycopg2) and redis-py.
Prints a PASS or FAIL line per check; exit status 1 when one failed."""
import asyncio
import os
import secrets
import sys
import time
from pathlib import Path

import redis.asyncio
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

MIGRATIONS = Path(__file__).resolve().parents[3] / "scripts" / "migrations"
TABLES = ("sources", "series", "observations")
CONNECTIONS = 5  # open at the same time


def url(driver):
    return "postgresql+" + driver + "://" + os.environ["DATABASE_URL"].split("://", 1)[1]


async def check_async(engine):
    """The server's version, and several connections in use at once, all of them different backends."""

    async def one(ready):
        async with engine.connect() as connection:
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await ready.wait()
            return pid

    async with engine.connect() as connection:
        version = (await connection.execute(text("SELECT version()"))).scalar_one()
    ready = asyncio.Barrier(CONNECTIONS)
    pids = await asyncio.gather(*(one(ready) for _ in range(CONNECTIONS)))
    assert len(set(pids)) == CONNECTIONS, "connections are shared"
    return f"{version.split(',')[0]}, pool {engine.pool.size()}, {len(pids)} connections at once"


def check_sync(engine):
    with engine.connect() as connection:
        database, user = connection.execute(text("SELECT current_database(), current_user")).one()
    return f"{user} on {database}"


async def check_redis(client):
    """Ping, then write a key with a lifetime and read both back."""
    assert await client.ping()
    key, value = "verify:" + secrets.token_hex(8), secrets.token_hex(8)
    await client.set(key, value, ex=10)
    assert await client.get(key) == value, "another value came back"
    assert 0 < await client.ttl(key) <= 10, "the key has no lifetime"
    await client.delete(key)
    return f"Redis {(await client.info('server'))['redis_version']}"


async def check_migrations(engine):
    files = {path.name.split("_", 1)[0] for path in MIGRATIONS.glob("*.sql")}
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT version FROM schema_migrations"))).scalars().all()
    pending = files - set(rows)
    assert files and not pending, f"pending: {sorted(pending)}"
    return f"{len(rows)} applied"


async def check_tables(engine):
    query = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL")
    async with engine.connect() as connection:
        missing = (await connection.execute(query, {"names": list(TABLES)})).scalars().all()
    assert not missing, f"missing: {missing}"
    return f"{len(TABLES)} tables"


async def check_partitions(engine):
    query = text("SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass('observations')")
    async with engine.connect() as connection:
        partitions = (await connection.execute(query)).scalar_one()
    assert partitions > 0, "observations has no partitions"
    return f"{partitions} partitions"


async def run(name, check):
    start = time.perf_counter()
    try:
        ok, said = True, await check
    except Exception as error:  # the line says what is wrong
        ok, said = False, f"{type(error).__name__}: {error}"
    print(f"{'PASS' if ok else 'FAIL'}  {name:<14}{(time.perf_counter() - start) * 1e3:7.1f} ms  {said}")
    return ok


async def main():
    async_engine = create_async_engine(url("asyncpg"), pool_size=20, max_overflow=10, pool_pre_ping=True)
    sync_engine = create_engine(url("psycopg2"), pool_size=5, pool_pre_ping=True)
    pool = redis.asyncio.ConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=50, decode_responses=True)
    client = redis.asyncio.Redis(connection_pool=pool)
    results = await asyncio.gather(
        run("async engine", check_async(async_engine)),
        run("sync engine", asyncio.to_thread(check_sync, sync_engine)),
        run("redis", check_redis(client)),
        run("migrations", check_migrations(async_engine)),
        run("tables", check_tables(async_engine)),
        run("partitioning", check_partitions(async_engine)),
    )
    await client.close()
    await pool.disconnect()
    await async_engine.dispose()
    sync_engine.dispose()
    return 0 if all(results) else 1


sys.exit(asyncio.run(main()))
