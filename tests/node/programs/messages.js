'use strict';

const assert = require('node:assert');
const {
  blockUntilTold, inbox, mustCall, mustNotCall, plainInbox, run, say,
} = require('./common');

run({
  // It answers {hello: 'world'}, and has tried to send what can't be sent.
  fork(...args) {
    assert.throws(() => process.send(), { code: 'ERR_MISSING_ARGS' });
    for (const bad of [undefined, Symbol('x'), () => {}]) {
      assert.throws(() => process.send(bad), TypeError);
    }
    process.send({ args });
    process.once('message', mustCall((message, handle) => {
      assert.deepStrictEqual(message, { hello: 'world' });
      assert.strictEqual(handle, undefined);
      process.send({ foo: 'bar' });
    }));
  },

  // It sends everything back, until the end.
  echo() {
    process.on('message', (message, handle) => {
      assert.strictEqual(handle, undefined);
      process.send(message);
    });
  },

  // It tells what it was sent from what its parent believes to have sent.
  async compare(count) {
    const next = plainInbox(process);
    for (let i = 0; i < count; i++) {
      const [json, message] = await next();
      process.send(JSON.stringify(message) === json ? null : JSON.stringify(message));
    }
    process.removeAllListeners('message');
  },

  async json_values() {
    const sparse = [1];
    sparse[2] = 3;
    process.send([NaN, Infinity, -Infinity, -0, 1e300, 2 ** 53]);
    process.send({ dropped: undefined, also: () => {}, list: [undefined, () => {}, sparse] });
    process.send([new Date(0), Buffer.from('hi'), new Map([[1, 2]]), new Error('x')]);
    process.send(['\ud800', '\udc00\ud800', '\u2028\u2029', '\r\n\0', '\u{1f600}', '\ufeff']);
    for (const top of [null, true, 0, '', [], {}]) process.send(top);
  },

  send_callback() {
    process.send('ok', mustCall((error) => assert.ifError(error)));
  },

  internal() {
    process.send({ cmd: 'NODE_bar' });
    process.send({ cmd: 'fooNODE_' });
    process.send({ cmd: 'NODE_' });
    process.send({ cmd: 'NODE_HANDLES', type: 'net.Socket' });
    process.send({ cmd: ['NODE_bar'] });
    process.send('the last');
    process.on('message', (message) => process.send(message));
    process.on('internalMessage', mustNotCall());
  },

  cluster_invalid_message() {
    process.send({ cmd: 'NODE_CLUSTER', ack: -1 });
    process.send('after an acknowledgement of nothing');
    process.on('message', (message) => process.send(message));
  },

  // It takes no message before it is told to, and then counts them.
  async count() {
    say('here');
    blockUntilTold();
    const next = plainInbox(process);
    let count = 0;
    for (let message = await next(); message !== 'end'; message = await next()) {
      assert.strictEqual(message[0], count++);
    }
    process.send(count);
    process.removeAllListeners('message');
  },

  // It sends without a pause, and says what send() returned.
  flood(count) {
    const text = 'x'.repeat(1000);
    let written = 0;
    let returned = true;
    for (let i = 0; i < count; i++) {
      returned = process.send([i, text], () => {
        written++;
        if (written === Number(count)) say('written');
      });
    }
    say(`send() returned ${returned}`);
  },

  sizes_when_told(...sizes) {
    process.on('message', () => {
      for (const size of sizes) process.send('x'.repeat(Number(size)));
    });
  },

  // Messages of many sizes, around those of the pipe and of the reader's buffer.
  sizes(...sizes) {
    for (const size of sizes) process.send('x'.repeat(Number(size)));
  },

  async sum_of_sizes(count) {
    const next = inbox(process);
    const sizes = [];
    for (let i = 0; i < count; i++) sizes.push((await next())[0].length);
    process.send(sizes);
    process.removeAllListeners('message');
  },
});
