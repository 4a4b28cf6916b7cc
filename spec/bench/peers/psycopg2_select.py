"""P3 on psycopg2: one connection, autocommit, a statement prepared on the server."""
import psycopg2

from bench_common import SELECT_SQL, Clock, account, database_url


def main():
    connection = psycopg2.connect(database_url())
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("PREPARE s (int) AS " + SELECT_SQL + "$1")
    for _ in range(500):
        cursor.execute("EXECUTE s (%s)", (account(),))
        cursor.fetchone()
    clock = Clock()
    while clock.running():
        for _ in range(16):
            aid = account()
            cursor.execute("EXECUTE s (%s)", (aid,))
            clock.count(cursor.fetchone()[0] == aid)
    clock.report()
    connection.close()


main()
