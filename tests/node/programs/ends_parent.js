'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const { text } = require('node:stream/consumers');
const { mustCall, mustNotCall, plainInbox, run, start } = require('./common');

const BIG = 'x'.repeat(10_000_000);
const WITH_STDIN = { stdio: ['pipe', 'inherit', 'inherit', 'ipc'] };
const WITH_STDOUT = { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] };

run({
  async fork3() {
    await start('ignore_channel').ended;
    await start('open_and_leave').ended;
  },

  async fork_close() {
    const child = start('fork_close');
    const seen = [];
    for (const event of ['message', 'disconnect', 'exit', 'close']) {
      child.on(event, mustCall(() => seen.push(event)));
    }
    await once(child, 'close');
    assert.strictEqual(seen[0], 'message');
    assert.strictEqual(seen[3], 'close');
  },

  async fork_ref() {
    const child = start('fork_ref', WITH_STDOUT);
    const output = text(child.stdout);
    const next = plainInbox(child);
    assert.strictEqual(await next(), '1');
    child.send('2');
    child.disconnect();
    await child.ended;
    assert.strictEqual(await output, 'cleaned up\n');
  },

  async fork_ref2() {
    const child = start('fork_ref2', WITH_STDIN);
    child.on('message', mustNotCall());
    await once(child, 'disconnect');
    assert.strictEqual(child.exitCode, null);
    child.stdin.end();
    await child.ended;
  },

  async disconnect_by_child() {
    const child = start('disconnect_by_child', WITH_STDIN);
    const next = plainInbox(child);
    assert.strictEqual(await next(), 'about to disconnect');
    if (child.connected) await once(child, 'disconnect');
    assert.strictEqual(child.exitCode, null);
    child.stdin.end();
    await child.ended;
  },

  async disconnect_by_parent() {
    const child = start('until_the_end', WITH_STDOUT);
    const output = text(child.stdout);
    assert.strictEqual(await plainInbox(child)(), 'ready');
    let returned = false;
    child.on('disconnect', mustCall(() => assert.ok(returned)));
    child.disconnect();
    returned = true;
    await child.ended;
    assert.strictEqual(await output, 'ended cleanly\n');
  },

  async close_send_half() {
    const child = start('close_send_half', WITH_STDOUT);
    const output = text(child.stdout);
    assert.strictEqual(await plainInbox(child)(), 'the last');
    if (child.connected) await once(child, 'disconnect');
    await child.ended;
    assert.strictEqual(await output, 'end\n');
  },

  async send_after_close() {
    const child = start('send_after_close', WITH_STDOUT);
    const output = text(child.stdout);
    child.disconnect();
    await child.ended;
    assert.strictEqual(await output, 'broken\nclosed\n');
    const error = await new Promise((resolve) => child.send('too late', resolve));
    assert.strictEqual(error.code, 'ERR_IPC_CHANNEL_CLOSED');
  },

  async exit() {
    const child = start('exit', { args: ['7'], ended: [7, null] });
    assert.strictEqual(await plainInbox(child)(), 'before');
    await child.ended;
  },

  async throw() {
    const child = start('throw', {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'], ended: [1, null],
    });
    const output = text(child.stderr);
    assert.strictEqual(await plainInbox(child)(), 'before');
    await child.ended;
    assert.match(await output, /ValueError: on purpose/);
  },

  // A child of ours drains before it goes: nothing is cut.
  async big_then_exit() {
    const child = start('big_then_exit');
    const next = plainInbox(child);
    assert.strictEqual(await next(), 'one');
    assert.strictEqual((await next()).length, BIG.length);
    await child.ended;
  },

  async big_then_close() {
    const child = start('big_then_close');
    const next = plainInbox(child);
    assert.strictEqual(await next(), 'one');
    assert.strictEqual((await next()).length, BIG.length);
    await child.ended;
  },

  // Node's own last message is cut off. Nobody may take that for an orderly end.
  async truncated() {
    const child = start('truncated', WITH_STDOUT);
    child.send(BIG);
    child.disconnect();
    console.log(await text(child.stdout));
    await child.ended;
  },

  async many_then_disconnect() {
    const child = start('count_until_the_end', WITH_STDOUT);
    const output = text(child.stdout);
    for (let size = 0; size < 10; size++) child.send('x'.repeat(size));
    child.disconnect();
    await child.ended;
    assert.deepStrictEqual(JSON.parse(await output), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  },

  async concurrent_disconnect() {
    const children = [1, 2, 3].map(() => start('disconnect_when_told'));
    for (const child of children) {
      child.on('error', (error) => assert.match(error.code, /^(EPIPE|ECONNRESET)$/));
      for (let i = 0; i < 100; i++) child.send(i, () => {});
      child.disconnect();
    }
    await Promise.all(children.map((child) => child.ended));
  },

  // The channel is all that tells the children.
  async primary_kill() {
    const children = [start('until_the_end'), start('until_the_end')];
    for (const child of children) assert.strictEqual(await plainInbox(child)(), 'ready');
    process.kill(process.pid, 'SIGKILL');
  },

  async primary_error() {
    const children = [start('until_the_end'), start('until_the_end')];
    for (const child of children) assert.strictEqual(await plainInbox(child)(), 'ready');
    throw new Error('on purpose');
  },

  async kill() {
    const child = start('until_the_end', { ended: [null, 'SIGKILL'] });
    assert.strictEqual(await plainInbox(child)(), 'ready');
    child.kill('SIGKILL');
    await child.ended;
  },
});
