"""R3 on redis-py (blocking, with hiredis): one connection, SET then GET, one at a time."""
import redis

from bench_common import Clock, redis_url


def main():
    client = redis.Redis.from_url(redis_url(), decode_responses=True)
    client.ping()
    clock = Clock()
    i = 0
    while clock.running():
        for _ in range(8):
            i += 1
            value = str(i)
            client.set("bench:0", value)
            clock.count(client.get("bench:0") == value, 2)
    clock.report()
    client.close()


main()
