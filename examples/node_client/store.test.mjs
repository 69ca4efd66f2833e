// The client's own tests: `node --test`, beside a running worker on REDIS_URL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import Redis from "ioredis";
import { result, submit } from "./store.mjs";

let redis;
before(() => { redis = new Redis(process.env.REDIS_URL); });
after(() => redis.disconnect());

const pattern = (name) => ({ pattern_name: name, pattern_type: "code", language: "javascript", template_code: "..." });

test("a pattern is stored, changed, found and deleted", async () => {
  const name = `Node ${randomUUID()}`;
  const stored = await result(redis, await submit(redis, "insert", { data: pattern(name) }));
  assert.equal(stored.success, true, stored.error);
  const { pattern_id } = stored.data;
  const changed = await result(redis, await submit(redis, "update", { pattern_id, data: { usage_count: 3 } }));
  const late = { pattern_id, data: { usage_count: 4 }, expect: "2020-01-01T00:00:00Z" };
  const refused = await result(redis, await submit(redis, "update", late));
  assert.equal(refused.metadata.error_type, "version_conflict");
  assert.equal(refused.metadata.present_updated_at, changed.data.updated_at);
  const page = await result(redis, await submit(redis, "query", { query_params: { pattern_name: name } }));
  assert.deepEqual(page.data.patterns.map((one) => one.usage_count), [3]);
  const gone = await result(redis, await submit(redis, "delete", { pattern_id }));
  assert.equal(gone.data.deleted, true);
});

test("a job that is sent twice is done once", async () => {
  const fields = { data: pattern(`Node ${randomUUID()}`) };
  const id = await submit(redis, "insert", fields);
  const first = await result(redis, id);
  await submit(redis, "insert", fields, id);
  assert.deepEqual((await result(redis, id)).data, first.data);
});

test("what is wrong is a result as well", async () => {
  const refused = await result(redis, await submit(redis, "insert", { data: { pattern_name: "x" } }));
  assert.equal(refused.success, false);
  assert.match(refused.error, /missing required fields/);
});
