// ioredis and BullMQ: each does a small real job on the server at 127.0.0.1:$MINIUM_PORT.

import assert from "node:assert/strict";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { Redis } from "ioredis";

const connection = { host: "127.0.0.1", port: Number(process.env.MINIUM_PORT), db: 4 };

async function ioredis() {
  const redis = new Redis(connection);
  redis.defineCommand("take", { numberOfKeys: 1, lua: "return redis.call('decrby', KEYS[1], ARGV[1])" });
  await redis.set("stock", 10);
  assert.equal(await redis.take("stock", 3), 7);
  const replies = await redis.multi().set("a", 1).incr("a").hset("h", { x: 1 }).exec();
  assert.deepEqual(replies, [[null, "OK"], [null, 2], [null, 1]]);
  const waiting = redis.duplicate();
  const popped = waiting.blpop("list", 5);
  await redis.rpush("list", "item");
  assert.deepEqual(await popped, ["list", "item"]);
  const listener = redis.duplicate();
  await listener.subscribe("news");
  const heard = new Promise((resolve) => listener.on("message", (_, text) => resolve(text)));
  await redis.publish("news", "hello");
  assert.equal(await heard, "hello");
  await redis.mset(Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`key:${n}`, n])));
  let seen = 0;
  for await (const keys of redis.scanStream({ match: "key:*", count: 100 })) seen += keys.length;
  assert.ok(seen >= 1000);
  for (const one of [redis, waiting, listener]) one.disconnect();
}

async function bullmq() {
  const queue = new Queue("jobs", { connection });
  queue.setMaxListeners(0); // one for each job that is waited for
  const events = new QueueEvents("jobs", { connection });
  events.setMaxListeners(0);
  await events.waitUntilReady();
  const tries = new Map();
  const worker = new Worker("jobs", async (job) => {
    tries.set(job.id, (tries.get(job.id) ?? 0) + 1);
    if (job.data.fails && tries.get(job.id) < 3) throw new Error("not yet");
    return job.data.n * 2;
  }, { connection, concurrency: 4 });
  const jobs = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: "double", data: { n } })));
  const options = { attempts: 3, backoff: { type: "fixed", delay: 20 } };
  jobs.push(await queue.add("stubborn", { n: 100, fails: true }, options));
  jobs.push(await queue.add("later", { n: 101 }, { delay: 50 }));
  jobs.push(await queue.add("first", { n: 102 }, { priority: 1 }));
  const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 20000)));
  assert.deepEqual(results, jobs.map((job) => job.data.n * 2));
  assert.equal(tries.get(jobs[50].id), 3);
  const flow = new FlowProducer({ connection });
  const child = { name: "child", queueName: "jobs", data: { n: 1 } };
  const tree = await flow.add({ name: "parent", queueName: "jobs", data: { n: 5 }, children: [child, child] });
  assert.equal(await tree.job.waitUntilFinished(events, 20000), 10);
  assert.equal(Object.keys(await tree.job.getChildrenValues()).length, 2);
  const counts = await queue.getJobCounts("completed", "failed", "waiting");
  assert.deepEqual([counts.completed, counts.failed, counts.waiting], [jobs.length + 3, 0, 0]);
  await Promise.all([worker.close(), events.close(), queue.close(), flow.close()]);
}

for (const job of [ioredis, bullmq]) {
  await job();
  console.log("ok", job.name);
}
process.exit(0);
