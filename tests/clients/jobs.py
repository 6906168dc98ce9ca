"""redis-py, RQ and Celery: each does a small real job on the server at 127.0.0.1:$MINIUM_PORT."""

import os
import time

import redis
from celery import chord, group
from celery.contrib.testing.worker import start_worker
from redis.cache import CacheConfig
from rq import Queue, Retry, SimpleWorker

import tasks

PORT = int(os.environ["MINIUM_PORT"])


def client(**options):
    return redis.Redis(port=PORT, decode_responses=True, **options)


def until(holds, what):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, what


def redis_py():
    r = client(protocol=3, cache_config=CacheConfig())
    r.set("cached", 1)
    assert r.get("cached") == "1" and r.get("cached") == "1"
    client().set("cached", 2)
    until(lambda: r.get("cached") == "2", "the copy is invalidated")
    with r.lock("lock", timeout=5):
        assert not r.lock("lock", blocking=False).acquire()
    with r.pipeline() as pipe:
        pipe.watch("balance")
        pipe.multi()
        pipe.incrby("balance", 5)
        assert pipe.execute() == [5]
    plain = client()
    plain.xadd("events", {"kind": "start"})
    plain.xgroup_create("events", "readers", "0")
    [[_, [[event, fields]]]] = plain.xreadgroup("readers", "one", {"events": ">"})
    assert fields == {"kind": "start"} and plain.xack("events", "readers", event) == 1
    plain.geoadd("places", (13.36, 38.11, "palermo", 15.08, 37.5, "catania"))
    assert plain.geosearch("places", longitude=15, latitude=37, radius=100, unit="km") == ["catania"]
    listener = plain.pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    plain.publish("news", "hello")
    assert listener.get_message(timeout=5)["data"] == "hello"
    plain.zadd("board", {"a": 3, "b": 1, "c": 2})
    assert plain.zrange("board", 0, 0, desc=True, withscores=True) == [("a", 3.0)]
    plain.hset("user", mapping={"name": "x", "token": "y"})
    plain.hexpire("user", 100, "token")
    assert plain.httl("user", "token")[0] > 90
    assert sum(1 for _ in plain.scan_iter("*")) == plain.dbsize()


def rq():
    connection = redis.Redis(port=PORT, db=1)
    queue = Queue(connection=connection)
    jobs = [queue.enqueue(tasks.add, n, n) for n in range(20)]
    failing = queue.enqueue(tasks.fail, retry=Retry(max=1))
    after = queue.enqueue(tasks.add, 1, 1, depends_on=jobs)
    SimpleWorker([queue], connection=connection).work(burst=True)
    assert [job.return_value() for job in jobs] == [2 * n for n in range(20)]
    assert failing.get_status(refresh=True) == "failed" and after.return_value() == 2


def celery():
    with start_worker(tasks.app, pool="solo", perform_ping_check=False):
        assert tasks.multiply.delay(6, 7).get(timeout=20) == 42
        many = group(tasks.multiply.s(n, n) for n in range(10))()
        assert many.get(timeout=20) == [n * n for n in range(10)]
        assert tasks.second_try.delay().get(timeout=20) == 1
        total = chord([tasks.multiply.s(n, 2) for n in range(3)], tasks.multiply.s(1))
        assert total.apply_async().get(timeout=20) == [0, 2, 4]


for job in (redis_py, rq, celery):
    job()
    print("ok", job.__name__)
