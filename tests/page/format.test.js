import assert from "node:assert/strict";
import test from "node:test";

import { address, changes, count, measurement, seconds, short, standing } from "./web/format.js";

test("numbers are as precise as they need be", () => {
  assert.deepEqual([0.214, 4.53, 75.2].map(seconds), ["0.21 s", "4.5 s", "75 s"]);
  assert.deepEqual([count(1, "replica"), count(1200, "token")], ["1 replica", "1,200 tokens"]);
  assert.deepEqual([3_400_000, 7.6e9, 1024].map(short), ["3.4M", "7.6B", "1K"]);
});

test("an answer of one token has no rate", () => {
  assert.deepEqual(measurement({ rate: 31.24, firstAfter: 0.2, tokens: 40 }), ["31 tokens/s", "first after 0.20 s", "40 tokens"]);
  assert.deepEqual(measurement({ rate: null, firstAfter: 2, tokens: 1 }), ["first after 2.0 s", "1 token"]);
});

test("a model without replicas says why, and a name that nobody has says that", () => {
  assert.deepEqual(standing({ replicas: 2 }), { state: "ready", text: "ready, 2 replicas" });
  assert.deepEqual(standing({ replicas: 0, why_not: "asleep" }), { state: "away", text: "asleep" });
  assert.equal(standing(undefined).state, "gone");
});

test("two snapshots of the registry tell who came and who went", () => {
  const at = (port) => ({ name: "demo", host: "::1", port });
  assert.equal(address(at(1)), "[::1]:1");
  assert.deepEqual(changes([at(1), at(2)], [at(2), at(3)]), ["demo at [::1]:1 is gone", "demo at [::1]:3 is listed"]);
});
