// A Node process at the other end of an advanced channel. It sends every value that it has, by name,
// and says whether what comes back is the same.
"use strict";
const assert = require("node:assert");

const stacked = (error, stack) => Object.defineProperty(error, "stack", { value: stack });
const filled = (buffer, bytes) => (new Uint8Array(buffer).set(bytes), buffer);
const typed = (kind, values) => globalThis[kind] && new globalThis[kind](values);
const shared = { deep: [1] };
const circle = { name: "circle", list: [] };
circle.self = circle;
circle.list.push(circle, circle.list);
const map = new Map([["a", 1]]);
map.set(map, map);
const set = new Set([1]);
set.add(set);
const holes = [1, , undefined, null];
holes.length = 6;
const far = [];
far[4294967294] = "last";

const values = {
  null: null,
  undefined_inside: { a: undefined, b: [undefined, null] },
  booleans: [true, false],
  integers: [0, 1, -1, 63, 64, 2 ** 30, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1],
  safe: [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  unsafe: [2 ** 53, -(2 ** 53), 2 ** 70, 1e300],
  doubles: [0.5, -0.1, 5e-324, Number.MAX_VALUE],
  not_finite: [NaN, Infinity, -Infinity],
  zeros: [0, -0],
  bigints: [0n, 1n, -1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n, -(2n ** 64n), 2n ** 200n],
  strings: ["", "plain", "caf\u00e9", "\u65e5\u672c", "\u{1f600}", "\u0000", "x".repeat(300)],
  odd_strings: ["\u65e5", ["\u65e5"], { "\u65e5": "\u65e5" }, "a", "\u65e5".repeat(200)],
  surrogates: ["\ud800", "a\udfffb", "\udc00\ud800", { "\ud800": 1 }],
  object: { a: { b: { c: {} } }, "": 0, "with space": 1, __proto__x: 2, 10: "ten", 2: "two" },
  own_proto: JSON.parse('{"__proto__": 1}'),
  large_keys: { 4294967294: 1, 4294967295: 2, 9007199254740993: 3, "-1": 4, "1.5": 5 },
  arrays: [[], [[]], [[], [1]]],
  filled: new Array(3).fill("x"),
  holes,
  only_holes: new Array(5),
  far,
  named: Object.assign([1, 2], { name: "x", 7.5: "y" }),
  holes_named: Object.assign([, 2], { name: "x" }),
  match: "abc".match(/(a)(z)?/d),
  dates: [new Date(0), new Date(1700000000123), new Date(-62135596800000), new Date(1)],
  invalid_date: new Date(NaN),
  odd_dates: [new Date(8.64e15), new Date(-8.64e15), new Date(253402300800000)],
  map: new Map([["a", 1], [1, "one"], [true, "true"], [1n, "big"], [null, undefined]]),
  map_odd: new Map([[NaN, 1], [{}, 2], [{}, 3], [[], 4], [new Date(5), 5], [new Date(5), 6]]),
  map_buffers: new Map([[Buffer.from("ab"), 1], [Buffer.from("ab"), 2], [Buffer.from("ab"), 3]]),
  map_itself: map,
  set: new Set([1, "1", true, 1n, null, undefined, NaN, 0]),
  set_odd: new Set([{}, {}, [1], [1], Buffer.from("b"), Buffer.from("b"), new Set(), new Map()]),
  set_itself: set,
  regexps: [/a+/gi, /(?:)/, /\u65e5[/]/dmsuy, new RegExp("[a--b]", "v"), new RegExp("")],
  boxed: [new Number(5), new Number(-0), new Number(NaN), new String("x"), new String("\u65e5"),
    new Boolean(true), new Boolean(false), Object(5n)],
  errors: [new Error("one"), new EvalError("two"), new RangeError("three"),
    new ReferenceError("four"), new SyntaxError("five"), new TypeError("six"),
    new URIError("seven"), new Error(), new Error("")],
  error_stack: stacked(new TypeError("\u65e5"), "TypeError: \u65e5\n    at nowhere"),
  error_no_stack: stacked(new Error("x"), undefined),
  error_causes: [new Error("a", { cause: new RangeError("b", { cause: [1, { c: 2 }] }) }),
    new Error("a", { cause: null }), new Error("a", { cause: undefined })],
  error_shared: [shared, new Error("a", { cause: shared }), shared],
  buffers: [Buffer.alloc(0), Buffer.from("x"), Buffer.from("hello"), Buffer.alloc(100000, "ab")],
  array_buffers: [new ArrayBuffer(0), filled(new ArrayBuffer(3), [1, 2, 3])],
  resizable: filled(new ArrayBuffer(3, { maxByteLength: 10 }), [1, 2, 3]),
  data_view: new DataView(filled(new ArrayBuffer(6), [1, 2, 3, 4, 5, 6]), 1, 3),
  part: new Uint16Array(filled(new ArrayBuffer(8), [1, 2, 3, 4, 5, 6]), 2, 2),
  int8: typed("Int8Array", [-128, 0, 127]),
  uint8: typed("Uint8Array", [0, 255]),
  uint8_clamped: typed("Uint8ClampedArray", [-5, 300]),
  int16: typed("Int16Array", [-32768, 32767]),
  uint16: typed("Uint16Array", [0, 65535]),
  int32: typed("Int32Array", [-(2 ** 31), 2 ** 31 - 1]),
  uint32: typed("Uint32Array", [0, 2 ** 32 - 1]),
  float16: typed("Float16Array", [1.5, -0, Infinity, 65504]),
  float32: typed("Float32Array", [1.5, -0, NaN]),
  float64: typed("Float64Array", [0.1, -0, NaN, 5e-324]),
  bigint64: typed("BigInt64Array", [-(2n ** 63n), 2n ** 63n - 1n]),
  biguint64: typed("BigUint64Array", [0n, 2n ** 64n - 1n]),
  empty_arrays: [new Float64Array(0), new BigInt64Array(0), new DataView(new ArrayBuffer(0))],
  circle,
  shared: [shared, shared, [shared], { shared, list: shared.deep }],
  // What takes no number on the wire, or takes one on the quiet, shifts the ones that follow.
  numbered: [/x/, new Error("e"), Buffer.from("bb"), new Date(7), new Number(1), new Map(),
    new Set(), new Int8Array(1), new ArrayBuffer(1), [, 1], shared, shared],
};
for (const name in values) if (values[name] === undefined) delete values[name];

const checks = {
  invalid_date: (back) => assert.ok(back instanceof Date && Number.isNaN(back.getTime())),
  error_stack: (back) => assert.strictEqual(back.stack, values.error_stack.stack),
  error_no_stack: (back) => assert.strictEqual(back.stack, undefined),
  error_causes: (back) => {
    assert.deepStrictEqual(back[0].cause.cause, [1, { c: 2 }]);
    assert.ok(back[0].cause instanceof RangeError);
    for (const error of back) assert.ok(Object.hasOwn(error, "cause"));
    assert.strictEqual(back[1].cause, null);
    assert.strictEqual(back[2].cause, undefined);
  },
  error_shared: (back) => assert.ok(back[0] === back[2] && back[1].cause === back[0]),
  buffers: (back) => assert.ok(back.every(Buffer.isBuffer)),
  resizable: (back) => assert.ok(back.resizable && back.maxByteLength === 10),
  circle: (back) => {
    assert.strictEqual(back.self, back);
    assert.strictEqual(back.list[0], back);
    assert.strictEqual(back.list[1], back.list);
  },
  map_itself: (back) => assert.strictEqual(back.get(back), back),
  set_itself: (back) => assert.ok(back.has(back)),
  shared: (back) => {
    assert.ok(back[0] === back[1] && back[0] === back[2][0] && back[0] === back[3].shared);
    assert.strictEqual(back[3].list, back[0].deep);
  },
  numbered: (back) => assert.strictEqual(back[10], back[11]),
  far: (back) => assert.strictEqual(back.length, 4294967295),
};

const same = (value, back, seen = new Set()) => {
  // deepStrictEqual takes no notice of some of this.
  assert.strictEqual(typeof back, typeof value);
  if (typeof value !== "object" || value === null || seen.has(value)) return;
  seen.add(value);
  assert.strictEqual(Object.getPrototypeOf(back), Object.getPrototypeOf(value));
  assert.strictEqual(back.constructor, value.constructor);
  if (value instanceof Error) assert.strictEqual(back.stack, value.stack);
  if (ArrayBuffer.isView(value)) return;
  for (const key of Object.keys(value)) same(value[key], back[key], seen);
};

process.on("message", (message) => {
  if (message.back === undefined) {
    for (const name in values) process.send({ name, value: values[name] });
    process.send({ name: "end" });
    return;
  }
  const { name, back } = message;
  try {
    // Node 20 finds that an invalid date is no other's equal.
    if (name !== "invalid_date") assert.deepStrictEqual(back, values[name]);
    same(values[name], back);
    if (checks[name]) checks[name](back);
    process.send({ name, problem: null });
  } catch (error) {
    process.send({ name, problem: String(error.stack) });
  }
});
