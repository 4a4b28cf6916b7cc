"""R2 on redis-py (sync, with hiredis): pipelines of DEPTH commands on one connection.
Usage: redis_py_pipeline.py SECONDS DEPTH"""
import sys

import redis

from bench_common import Clock, redis_url


def main():
    depth = int(sys.argv[2])
    client = redis.Redis.from_url(redis_url(), decode_responses=True)
    client.ping()
    keys = [f"bench:{i}" for i in range(depth)]
    turn = 0
    clock = Clock()
    while clock.running():
        turn += 1
        values = [str(turn + i) for i in range(depth)]
        pipe = client.pipeline(transaction=False)
        for key, value in zip(keys, values):
            pipe.set(key, value)
        stored = pipe.execute()
        for key in keys:
            pipe.get(key)
        read = pipe.execute()
        clock.count(all(stored) and read == values, 2 * depth)
    clock.report()


main()
