"""Three real Sentinels watch three servers; the primary dies under load, twice.

    failover.py SERVER SENTINEL        two binaries: minium, redis-sentinel

Shows that Sentinel fails over and reconfigures, that no write that WAIT 1 has confirmed is lost, that
redis-py's Sentinel client finds the new primary, and that the old one comes back as a replica.

Two replicas hear every write, and WAIT 1 promises only one of them: Sentinel takes the replica that is
furthest in the stream, which has what the other has confirmed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import redis
from redis.sentinel import Sentinel

SERVER, SENTINEL = os.path.abspath(sys.argv[1]), sys.argv[2]
PATIENCE_S = 60
WRITERS = 4


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(holds, what):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass  # it is down, or no primary yet
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Process:
    """A server, or a Sentinel, in a folder of its own that outlives it."""

    def __init__(self, folder, binary, lines):
        self.port = free_port()
        self.folder, self.binary = os.path.join(folder, str(self.port)), binary
        os.mkdir(self.folder)
        self.config = os.path.join(self.folder, "the.conf")
        with open(self.config, "w") as file:
            lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {self.folder}", *lines]
            file.write("\n".join(lines) + "\n")
        self.start()

    def start(self):
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.process = subprocess.Popen([self.binary, self.config], stdout=log, stderr=log)
        until(self.client().ping, f"the process at {self.port} answers")

    def client(self):
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Writer(threading.Thread):
    """Writes numbered keys through Sentinel, and remembers those that a replica has confirmed."""

    def __init__(self, name, sentinels):
        super().__init__(daemon=True)
        self.key, self.sentinels, self.confirmed, self.is_done = name, sentinels, [], False
        self.n_errors = 0

    def run(self):
        primary = self.sentinels.master_for("mymaster", socket_timeout=1, decode_responses=True)
        n = 0
        while not self.is_done:
            n += 1
            try:
                pipe = primary.pipeline(transaction=False)
                pipe.set(f"{self.key}:{n}", n)
                pipe.execute_command("WAIT", 1, 1000)
                _, n_replicas = pipe.execute()
                if n_replicas >= 1:
                    self.confirmed.append(n)
            except redis.RedisError:
                self.n_errors += 1
                time.sleep(0.02)


def role(server):
    return server.client().role()[0]


def fail_over(servers, sentinels, writers):
    host, port = sentinels.discover_master("mymaster")
    old = next(server for server in servers if server.port == port)
    before = [len(writer.confirmed) for writer in writers]
    until(
        lambda: all(len(w.confirmed) > n + 100 for w, n in zip(writers, before)),
        "every writer goes on before the failure",
    )
    old.kill()
    killed = time.monotonic()
    until(lambda: sentinels.discover_master("mymaster")[1] != port, "Sentinel names another primary")
    took = time.monotonic() - killed
    before = [len(writer.confirmed) for writer in writers]
    until(
        lambda: all(len(w.confirmed) > n + 100 for w, n in zip(writers, before)),
        "every writer goes on after the failure",
    )
    old.start()
    until(lambda: role(old) == "slave", "the old primary becomes a replica")
    # On a busy machine the primary may have changed once more meanwhile.
    until(
        lambda: old.client().info("replication")["master_port"]
        == sentinels.discover_master("mymaster")[1]
        and old.client().info("replication")["master_link_status"] == "up",
        "the old primary follows the new one",
    )
    print(f"failover {took:.1f} s after the kill; the old primary follows the new one")


def check(servers, sentinels, writers):
    for writer in writers:
        writer.is_done = True
    for writer in writers:
        writer.join()
    primary = sentinels.master_for("mymaster", decode_responses=True)
    n_confirmed = 0
    for writer in writers:
        keys = [f"{writer.key}:{n}" for n in writer.confirmed]
        found = [value for at in range(0, len(keys), 1000) for value in primary.mget(keys[at : at + 1000])]
        lost = [key for key, value in zip(keys, found) if value is None]
        assert not lost, f"confirmed and lost: {lost[:10]} and {len(lost)} in all"
        n_confirmed += len(keys)
    size = primary.dbsize()
    for server in servers:
        until(lambda: server.client().dbsize() == size, f"{server.port} has everything")
    digests = {server.client().execute_command("DEBUG", "DIGEST") for server in servers}
    assert len(digests) == 1, digests
    n_errors = sum(writer.n_errors for writer in writers)
    print(f"{n_confirmed} confirmed writes, none lost; {n_errors} calls failed meanwhile")


def main():
    folder = tempfile.mkdtemp(prefix="sentinel-")
    processes = []

    def process(binary, *lines):
        processes.append(Process(folder, binary, lines))
        return processes[-1]

    try:
        common = ["save \"\"", "enable-debug-command local", "repl-diskless-sync-delay 0"]
        first = process(SERVER, *common)
        follow = f"replicaof 127.0.0.1 {first.port}"
        servers = [first, process(SERVER, *common, follow), process(SERVER, *common, follow)]
        until(
            lambda: first.client().info("replication")["connected_slaves"] == 2,
            "both replicas follow",
        )
        watch = [
            f"sentinel monitor mymaster 127.0.0.1 {first.port} 2",
            "sentinel down-after-milliseconds mymaster 1000",
            "sentinel failover-timeout mymaster 5000",
        ]
        watchers = [process(SENTINEL, *watch) for _ in range(3)]
        sentinels = Sentinel([("127.0.0.1", one.port) for one in watchers], socket_timeout=1)

        def know_all(watcher):
            seen = watcher.client().sentinel_master("mymaster")
            return seen["num-slaves"] == 2 and seen["num-other-sentinels"] == 2

        for watcher in watchers:
            until(lambda: know_all(watcher), "every Sentinel knows everybody")
        writers = [Writer(f"writer{n}", sentinels) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        fail_over(servers, sentinels, writers)
        until(
            lambda: len(sentinels.discover_slaves("mymaster")) == 2,
            "Sentinel counts two replicas again",
        )
        fail_over(servers, sentinels, writers)
        check(servers, sentinels, writers)
    except BaseException:
        for one in processes:
            with open(os.path.join(one.folder, "log")) as log:
                print(f"--- {one.binary} at {one.port}", *log.readlines()[-15:], sep="\n", file=sys.stderr)
        raise
    finally:
        for one in processes:
            one.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
