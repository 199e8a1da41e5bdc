'use strict';

// What the structured clone algorithm takes, and JSON does not.

function cycle() {
  const object = { list: [1] };
  object.self = object;
  object.list.push(object.list);
  return object;
}

function shared() {
  const one = { name: 'one' };
  return [one, one, new Map([[one, one]])];
}

module.exports = {
  cycle,
  shared,
  plain: () => ({ a: [1, -1, 1.5, 2 ** 40, 'text', 'ünï', '\u{1f600}', true, null, {}, []] }),
  top: () => 'a string at the top',
  undefined: () => ({ a: undefined, list: [undefined, 1] }),
  numbers: () => [NaN, Infinity, -Infinity, -0, 0.1, 2 ** 53, -(2 ** 31), 2 ** 32, 5e-324],
  bigint: () => ({ some: [0n, 1n, -1n, 2n ** 64n, -(2n ** 200n)] }),
  Map: () => new Map([['a', 1], [2, new Map([[{ key: 1 }, 'x']])], [null, undefined]]),
  Set: () => new Set(['a', 1, 2n, null]),
  Date: () => [new Date(0), new Date(1700000000123), new Date(-1)],
  RegExp: () => /a+(b)?/gi,
  Buffer: () => [Buffer.from('hi'), Buffer.alloc(0), Buffer.from([0, 255, 10])],
  ArrayBuffer: () => new Uint8Array([1, 2, 3]).buffer,
  views: () => [
    new Int8Array([-1]), new Uint8Array([255]), new Uint8ClampedArray([255]),
    new Int16Array([-1, 1]), new Uint16Array([65535]), new Int32Array([-1]),
    new Uint32Array([2 ** 32 - 1]), new Float32Array([0.5]), new Float64Array([0.1, NaN]),
    new BigInt64Array([-1n]), new BigUint64Array([2n ** 64n - 1n]),
    new DataView(new Uint8Array([1, 2]).buffer),
  ],
  errors: () => [new Error('an error'), new RangeError('a range'), new TypeError('a type')],
  sparse: () => { const list = [1]; list[3] = 4; return list; },
  boxed: () => [Object(1), Object('x'), Object(true), Object(1n)],
};
