'use strict';

const assert = require('node:assert');
const { mustNotCall, plainInbox, run, start } = require('./common');

const UTF8 = 'ßßßß'.repeat(1e5);

run({
  async fork() {
    const args = ['foo', 'bar baz', '', 'ünï', '--option'];
    const child = start('fork', { args });
    const next = plainInbox(child);
    assert.deepStrictEqual(await next(), { args });
    assert.throws(() => child.send(), { code: 'ERR_MISSING_ARGS' });
    child.send({ hello: 'world' });
    assert.deepStrictEqual(await next(), { foo: 'bar' });
    await child.ended;
  },

  async exec_path() {
    const child = start('echo');
    const next = plainInbox(child);
    assert.strictEqual(child.spawnfile, process.argv[3]);
    child.send('here');
    assert.strictEqual(await next(), 'here');
    child.disconnect();
    await child.ended;
  },

  async send_callback() {
    const child = start('send_callback');
    const next = plainInbox(child);
    const error = await new Promise((resolve) => child.send('anything', resolve));
    assert.ifError(error);
    assert.strictEqual(await next(), 'ok');
    await child.ended;
  },

  async utf8() {
    const child = start('echo');
    const next = plainInbox(child);
    child.send(UTF8);
    assert.strictEqual(await next(), UTF8);
    child.disconnect();
    await child.ended;
  },

  async internal() {
    const child = start('internal');
    const next = plainInbox(child);
    child.on('internalMessage', mustNotCall());
    assert.deepStrictEqual(await next(), { cmd: 'fooNODE_' });
    assert.deepStrictEqual(await next(), { cmd: 'NODE_' });
    assert.deepStrictEqual(await next(), 'the last');
    child.send({ cmd: 'NODE_bar' });
    child.send({ cmd: 'NODE_CLUSTER', ack: -1 });
    child.send({ cmd: 'fooNODE_' });
    child.send({ cmd: 'NODE_' });
    assert.deepStrictEqual(await next(), { cmd: 'fooNODE_' });
    assert.deepStrictEqual(await next(), { cmd: 'NODE_' });
    child.disconnect();
    await child.ended;
  },

  async json_values() {
    const child = start('json_values');
    const next = plainInbox(child);
    assert.deepStrictEqual(await next(), [null, null, null, 0, 1.5, 'ß']);
    assert.deepStrictEqual(await next(), ['\ud800', '\u2028', '\u{1f600}']);
    child.send([NaN, undefined, '\ud800', -0, 2 ** 53, { gone: undefined }]);
    assert.deepStrictEqual(await next(), [null, null, '\ud800', 0, 2 ** 53, {}]);
    await child.ended;
  },

  // Node queues, and says so; the child takes a message only for each answer that it sent.
  async flood() {
    const child = start('slow_reader');
    const next = plainInbox(child);
    const text = 'x'.repeat(1000);
    const count = 2000;
    let written = 0;
    const all = new Promise((resolve) => {
      for (let i = 0; i < count; i++) {
        const returned = child.send([i, text], () => { if (++written === count) resolve(); });
        if (i === count - 1) assert.strictEqual(returned, false);
      }
    });
    const [used, bound] = await next();
    assert.ok(used <= bound, `${used} messages wait in a buffer for ${bound}`);
    assert.ok(written < count, 'all was written to a child that takes nothing');
    child.send('end');
    await all;
    assert.strictEqual(await next(), count);
    child.disconnect();
    await child.ended;
  },

  async invalid_message() {
    const child = start('typed');
    const next = plainInbox(child);
    child.on('error', mustNotCall());
    child.send('no number');
    child.send(1);
    assert.strictEqual(await next(), 'InvalidMessage');
    assert.strictEqual(await next(), 2);
    child.disconnect();
    await child.ended;
  },
});
