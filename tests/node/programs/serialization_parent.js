'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const { plainInbox, run, start } = require('./common');
const values = require('./values');

async function sendAll(child) {
  const next = plainInbox(child);
  for (const [name, make] of Object.entries(values)) {
    child.send(make());
    assert.deepStrictEqual(await next(), make(), name);
  }
  child.disconnect();
}

run({
  async round_trip() {
    const child = start('echo');
    await sendAll(child);
    await child.ended;
  },

  async stdin_ipc() {
    const [, , , interpreter, script] = process.argv;
    const child = spawn(interpreter, [script, 'echo'], {
      stdio: ['ipc', 'inherit', 'inherit'], serialization: 'advanced',
    });
    const exit = once(child, 'exit');
    await sendAll(child);
    assert.deepStrictEqual(await exit, [0, null]);
  },

  async large_buffers() {
    const child = start('echo');
    const next = plainInbox(child);
    for (let i = 0; i < 4; i++) child.send(new Uint8Array(8 * 1024 * 1024).fill(i));
    for (let i = 0; i < 4; i++) {
      const data = await next();
      assert.strictEqual(data.length, 8 * 1024 * 1024);
      assert.ok(data.every((byte) => byte === i));
    }
    child.disconnect();
    await child.ended;
  },

  async split_length_fields() {
    const child = start('echo');
    const next = plainInbox(child);
    const message = Buffer.alloc(65521, 'x');
    for (let i = 0; i < 10; i++) child.send(message);
    for (let i = 0; i < 10; i++) assert.ok(message.equals(await next()));
    child.disconnect();
    await child.ended;
  },
});
