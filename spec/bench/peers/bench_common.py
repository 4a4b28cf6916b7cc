"""Code that the Python peers share: their arguments, the result line, the statement and its result."""
import json
import os
import random
import sys
import time

ACCOUNTS = 100_000  # rows of pgbench_accounts at scale 1; each balance is the account's own number
SELECT_SQL = "SELECT abalance FROM pgbench_accounts WHERE aid = "
TASKS = 20


def seconds_wanted():
    return float(sys.argv[1])


def database_url(scheme="postgresql"):
    return scheme + "://" + os.environ["DATABASE_URL"].split("://", 1)[1]


def redis_url():
    return os.environ["REDIS_URL"]


def account():
    return int(random.random() * ACCOUNTS) + 1


class Clock:
    """Counts work and errors; `report` prints the one line that the harness reads."""

    def __init__(self):
        self.ops = self.errors = 0
        self.start = time.monotonic()
        self.cpu = time.process_time()
        self.deadline = self.start + seconds_wanted()

    def running(self):
        return time.monotonic() < self.deadline

    def count(self, right, ops=1):
        self.ops += ops
        self.errors += not right

    def report(self):
        seconds = time.monotonic() - self.start
        cpu = time.process_time() - self.cpu
        print(json.dumps({
            "ops": self.ops, "seconds": seconds, "errors": self.errors, "checks": self.ops,
            "cpu_us_per_op": cpu * 1e6 / max(self.ops, 1),
        }))
