"""Tasks that the workers of RQ and Celery run. The port of the server is in the environment."""

import os

from celery import Celery

URL = "redis://127.0.0.1:%s" % os.environ["MINIUM_PORT"]
app = Celery("tasks", broker=URL + "/2", backend=URL + "/3")
app.conf.broker_connection_retry_on_startup = True


def add(a, b):
    return a + b


def fail():
    raise ValueError("as it should")


@app.task
def multiply(a, b):
    return a * b


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def second_try(self):
    if self.request.retries == 0:
        raise self.retry()
    return self.request.retries
