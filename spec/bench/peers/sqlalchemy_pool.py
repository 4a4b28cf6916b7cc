"""P6 on SQLAlchemy: check a connection out of its QueuePool and back in, nothing in between."""
from sqlalchemy import create_engine

from bench_common import Clock, database_url


def main():
    engine = create_engine(database_url("postgresql+psycopg2"), pool_size=20, max_overflow=10)
    pool = engine.pool
    for _ in range(500):
        pool.connect().close()
    clock = Clock()
    while clock.running():
        for _ in range(200):
            connection = pool.connect()
            connection.close()
        clock.count(True, 200)
    if pool.checkedout() != 0 or pool.checkedin() != 1:
        clock.errors += 1
    clock.report()
    engine.dispose()


main()
