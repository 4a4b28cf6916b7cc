"""P5: COPY of a million rows in, made by a generator. Usage: copy_in.py SECONDS asyncpg|psycopg2 ROWS"""
import asyncio
import io
import json
import sys
import time

from bench_common import database_url

driver, count = sys.argv[2], int(sys.argv[3])


def rows():
    for i in range(1, count + 1):
        yield (i, i / 4, f"text of row {i}", i % 2 == 0)


def report(right, seconds, cpu):
    print(json.dumps({"ops": count, "checks": count, "errors": 0 if right else count, "seconds": seconds,
                      "cpu_us_per_op": cpu * 1e6 / count}))


async def with_asyncpg():
    import asyncpg
    connection = await asyncpg.connect(database_url())
    await connection.execute("TRUNCATE copied")
    begin, cpu = time.monotonic(), time.process_time()
    await connection.copy_records_to_table("copied", records=rows(), columns=["a", "b", "c", "d"])
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    report(await connection.fetchval("SELECT count(*) FROM copied") == count, seconds, cpu)


def with_psycopg2():
    import psycopg2
    connection = psycopg2.connect(database_url())
    cursor = connection.cursor()
    cursor.execute("TRUNCATE copied")
    begin, cpu = time.monotonic(), time.process_time()
    text = io.StringIO("".join(f"{a}\t{b}\t{c}\t{'t' if d else 'f'}\n" for a, b, c, d in rows()))
    cursor.copy_expert("COPY copied (a, b, c, d) FROM STDIN", text)
    connection.commit()
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    cursor.execute("SELECT count(*) FROM copied")
    report(cursor.fetchone()[0] == count, seconds, cpu)


if driver == "asyncpg":
    asyncio.run(with_asyncpg())
else:
    with_psycopg2()
