"""P4: a million rows into Python values. Usage: rows.py SECONDS asyncpg|psycopg2 ROWS SQL (with $1)"""
import asyncio
import json
import sys
import time

from bench_common import database_url

driver, count, sql = sys.argv[2], int(sys.argv[3]), sys.argv[4]


def report(rows, first, begin, cpu):
    right = sum(first(r) for r in rows) == count * (count + 1) // 2
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    print(json.dumps({"ops": count, "checks": count, "errors": 0 if right else count, "seconds": seconds,
                      "cpu_us_per_op": cpu * 1e6 / count}))


async def with_asyncpg():
    import asyncpg
    connection = await asyncpg.connect(database_url())
    await connection.fetch(sql, 10)
    begin, cpu = time.monotonic(), time.process_time()
    report(await connection.fetch(sql, count), lambda r: r["a"], begin, cpu)


def with_psycopg2():
    import psycopg2
    cursor = psycopg2.connect(database_url()).cursor()
    text = sql.replace("$1", "%s")
    cursor.execute(text, (10,))
    begin, cpu = time.monotonic(), time.process_time()
    cursor.execute(text, (count,))
    report(cursor.fetchall(), lambda r: r[0], begin, cpu)


if driver == "asyncpg":
    asyncio.run(with_asyncpg())
else:
    with_psycopg2()
