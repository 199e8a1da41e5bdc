'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const { plainInbox, run } = require('./common');
const values = require('./values');

run({
  // Everything comes back as it was.
  async round_trip() {
    const next = plainInbox(process);
    for (const [name, make] of Object.entries(values)) {
      process.send(make());
      assert.deepStrictEqual(await next(), make(), name);
    }
    process.removeAllListeners('message');
  },

  echo() {
    process.on('message', (message) => process.send(message));
  },

  async large_buffers() {
    const next = plainInbox(process);
    for (let i = 0; i < 4; i++) process.send({ i, data: new Uint8Array(8 * 1024 * 1024).fill(i) });
    for (let i = 0; i < 4; i++) {
      const { data } = await next();
      assert.strictEqual(data.length, 8 * 1024 * 1024);
      assert.ok(data.every((byte) => byte === i));
    }
    process.removeAllListeners('message');
  },

  split_length_fields() {
    const message = Buffer.alloc(65521, 'x');
    let count = 10;
    (function send() {
      if (count--) process.send(message, send);
    })();
  },

  raw_header(length) {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(length);
    fs.writeSync(process.channel.fd, header);
    process.exit();
  },

  raw_frame(base64) {
    process.on('message', () => fs.writeSync(process.channel.fd, Buffer.from(base64, 'base64')));
  },

  internal() {
    process.send({ cmd: 'NODE_bar' });
    process.send(new Map([['cmd', 'NODE_bar']]));
    process.send({ cmd: 'NODE_' });
    process.send('the last');
  },
});
