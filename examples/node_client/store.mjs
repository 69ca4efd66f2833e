// Stores a pattern from Node: sends a task message as Celery does, and reads the result.
// docs/schemas/ has the JSON Schema of message, contract and result, and the AsyncAPI document.
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";
import Redis from "ioredis";

/** Send one job and return its correlation id. */
export async function submit(redis, operation, fields, id = randomUUID()) {
  const queue = operation === "batch_insert" ? "batch" : "storage";
  const body = [[], { contract: fields }, { callbacks: null, errbacks: null, chain: null, chord: null }];
  const message = {
    body: Buffer.from(JSON.stringify(body)).toString("base64"),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    headers: { lang: "js", task: `storage.${operation}`, id, root_id: id, retries: 0, argsrepr: operation, kwargsrepr: "" },
    properties: {
      correlation_id: id,
      delivery_mode: 2,
      delivery_info: { exchange: "", routing_key: queue },
      priority: 0,
      body_encoding: "base64",
      delivery_tag: randomUUID(),
    },
  };
  await redis.lpush(queue, JSON.stringify(message));
  return id;
}

/** Wait for the result of a job: a ModelResult, also of one that failed. */
export async function result(redis, id, milliseconds = 10_000) {
  const key = `celery-task-meta-${id}`;
  const subscriber = redis.duplicate();
  try {
    const published = new Promise((resolve) => subscriber.on("message", (_, text) => resolveIfFinal(text, resolve)));
    await subscriber.subscribe(key);
    // Subscribed before looking: what is published in between is not missed.
    const present = final(await redis.get(key));
    if (present) return present;
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`no result of ${id} in time`)), milliseconds).unref());
    return await Promise.race([published, late]);
  } finally {
    subscriber.disconnect();
  }
}

function resolveIfFinal(text, resolve) {
  const found = final(text);
  if (found) resolve(found);
}

function final(text) {
  const document = text === null ? {} : JSON.parse(text);
  if (document.status === "SUCCESS") return document.result;
  if (document.status === "FAILURE" && document.result.exc_type === "StorageOperationFailed") return document.result.exc_message[0];
  if (document.status === "FAILURE" || document.status === "REVOKED") return { success: false, error: document.status };
  return undefined;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const redis = new Redis(process.env.REDIS_URL);
  const data = { pattern_name: process.argv[2] ?? "FromNode", pattern_type: "code", language: "javascript", template_code: "..." };
  const id = await submit(redis, "insert", { data });
  console.log(id, JSON.stringify(await result(redis, id)));
  redis.disconnect();
}
