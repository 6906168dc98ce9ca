"""What a thousand subscribers, ten thousand who wait and collections of a million cost, beside peers.

    many.py [--rounds N] [--cases REGEX] NAME=BINARY ...

Servers take turns within every round, each on CPU 0, fresh for each case. Printed is the CPU time of the
server's process for each operation, microseconds: the median of the rounds.
"""

import argparse
import os
import random
import re
import resource
import select
import socket
import statistics
import subprocess
import tempfile
import time

SUBSCRIBERS, WAITERS, MEMBERS = 1000, 10_000, 1_000_000
PIPELINE = 16


def request(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Server:
    def __init__(self, binary, folder):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        flags = ["--port", str(self.port), "--save", "", "--dir", folder, "--maxclients", "11000"]
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", binary, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 10
        while True:
            try:
                self.client = self.connect()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < end, f"{binary} does not listen"
                time.sleep(0.02)

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def cpu_us(self):
        tasks = f"/proc/{self.process.pid}/task"
        times = (open(f"{tasks}/{task}/schedstat").read().split()[0] for task in os.listdir(tasks))
        return sum(map(int, times)) / 1000

    def ask(self, *words):
        """Sends a request whose reply is one line, and returns that."""
        return self.batch([request(*words)], 1).split(b"\r\n")[0]

    def batch(self, requests, n_lines):
        """Sends requests at once, and reads so many lines."""
        self.client.sendall(b"".join(requests))
        got = []
        while n_lines > 0:
            part = self.client.recv(1 << 20)
            assert part, "the server has closed the connection"
            n_lines -= part.count(b"\n")
            got.append(part)
        return b"".join(got)

    def fill(self, verb, key, numbers, scored=False):
        rest = list(numbers)
        for at in range(0, len(rest), 1000):
            words = [f"member:{n}" for n in rest[at : at + 1000]]
            if scored:
                words = [word for member in words for word in (random.random() * 1e6, member)]
            self.ask(verb, key, *words)

    def end(self):
        self.process.kill()
        self.process.wait()


def publish(server):
    """One message to 1000 subscribers; for each of them."""
    message = b"x" * 64
    n_bytes = len(request("message", "news", message))
    subscribers = [server.connect() for _ in range(SUBSCRIBERS)]
    for subscriber in subscribers:
        subscriber.sendall(request("SUBSCRIBE", "news"))
        assert subscriber.recv(4096)
    n, before = 300, server.cpu_us()
    for _ in range(n):
        assert server.ask("PUBLISH", "news", message) == b":%d" % SUBSCRIBERS
        for subscriber in subscribers:
            left = n_bytes
            while left > 0:
                left -= len(subscriber.recv(left))
    return (server.cpu_us() - before) / n / SUBSCRIBERS


def blpop(server):
    """LPUSH to a key for which 10,000 wait, one of whom is served and waits again."""
    waiters, poll = {}, select.epoll()
    for _ in range(WAITERS):
        waiter = server.connect()
        waiter.sendall(request("BLPOP", "queue", 0))
        waiters[waiter.fileno()] = waiter
        poll.register(waiter, select.EPOLLIN)
    while b"blocked_clients:%d\r" % WAITERS not in server.batch([request("INFO", "clients")], 8):
        time.sleep(0.1)
    n, before = 100, server.cpu_us()
    for i in range(n):
        assert server.ask("LPUSH", "queue", i) == b":1"
        [(number, _)] = poll.poll(60)
        served = waiters[number]
        assert served.recv(4096).split(b"\r\n")[4] == b"%d" % i
        served.sendall(request("BLPOP", "queue", 0))
    return (server.cpu_us() - before) / n


def zrangebyscore(server, limit):
    server.fill("ZADD", "scores", range(MEMBERS), scored=True)
    n, before = 200, server.cpu_us()
    for _ in range(n):
        server.batch(
            [
                request("ZRANGEBYSCORE", "scores", random.random() * 9e5, "+inf", "LIMIT", 0, limit)
                for _ in range(PIPELINE)
            ],
            PIPELINE * (1 + 2 * limit),
        )
    return (server.cpu_us() - before) / n / PIPELINE


def sinter(server, verb, n_lines):
    server.fill("SADD", "a", range(MEMBERS))
    server.fill("SADD", "b", range(MEMBERS // 2, MEMBERS + MEMBERS // 2))
    n, before = 3, server.cpu_us()
    for _ in range(n):
        server.batch([request(*verb, "a", "b")], n_lines)
    return (server.cpu_us() - before) / n


CASES = {
    "PUBLISH to 1000, for each": publish,
    "LPUSH, 10,000 in BLPOP": blpop,
    "ZRANGEBYSCORE of 1M, 10": lambda server: zrangebyscore(server, 10),
    "ZRANGEBYSCORE of 1M, 1000": lambda server: zrangebyscore(server, 1000),
    "SINTER of 1M and 1M, 500,000": lambda server: sinter(server, ["SINTER"], 1 + MEMBERS),
    "SINTERCARD of the same": lambda server: sinter(server, ["SINTERCARD", 2], 1),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default="")
    parser.add_argument("servers", nargs="+", metavar="NAME=BINARY")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    servers = dict(server.split("=", 1) for server in options.servers)
    print("| case |", *(f"{name} |" for name in servers))
    print("| --- |", *("---: |" for _ in servers))
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            if not re.search(options.cases, name):
                continue
            found = {server: [] for server in servers}
            for _ in range(options.rounds):
                for server, binary in servers.items():
                    running = Server(os.path.abspath(binary), folder)
                    try:
                        found[server].append(case(running))
                    finally:
                        running.end()
            medians = (statistics.median(figures) for figures in found.values())
            print(f"| {name} |", *(f"{figure:,.1f} |" for figure in medians), flush=True)


if __name__ == "__main__":
    main()
