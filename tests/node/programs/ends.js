'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const { blockUntilTold, mustCall, mustNotCall, run, say } = require('./common');

const BIG = 'x'.repeat(10_000_000);

// As long as nobody closes stdin, it stays alive.
function stayUntilToldOnStdin() {
  process.stdin.on('data', () => process.stdin.destroy());
}

run({
  ignore_channel() {},

  fork_close() {
    process.send('hello');
    process.exit(0);
  },

  fork_ref() {
    process.send('1');
    process.on('disconnect', mustCall(() => say('cleaned up')));
    stayUntilToldOnStdin();
    process.stdin.on('close', () => process.send('2'));
  },

  fork_ref2() {
    process.disconnect();
    process.on('message', mustNotCall());
    stayUntilToldOnStdin();
  },

  disconnect_by_parent() {
    assert.strictEqual(process.connected, true);
    process.send('connected');
    process.on('disconnect', mustCall(() => {
      assert.strictEqual(process.connected, false);
      say('disconnected');
    }));
  },

  disconnect_by_child() {
    let returned = false;
    process.on('disconnect', mustCall(() => {
      assert.strictEqual(returned, true);
      say('disconnected');
    }));
    process.send('about to disconnect');
    process.disconnect();
    returned = true;
    stayUntilToldOnStdin();
  },

  send_after_close() {
    process.on('disconnect', mustCall(() => {
      process.send('too late', mustCall((error) => {
        assert.strictEqual(error.code, 'ERR_IPC_CHANNEL_CLOSED');
        say(error.code);
      }));
    }));
  },

  exit(status) {
    process.exit(Number(status));
  },

  exit_after_messages(count) {
    for (let i = 0; i < count; i++) process.send(i);
    process.exit(3);
  },

  throw_at_once() {
    throw new Error('on purpose');
  },

  throw_at_a_message() {
    process.on('message', (message) => { throw new Error(message); });
  },

  be_killed() {
    process.send('ready');
    process.on('message', () => {});
  },

  // Nothing but SIGKILL ends it.
  stubborn() {
    process.on('SIGTERM', () => {});
    process.on('disconnect', () => {});
    setInterval(() => {}, 1000);
    process.send('ready');
  },

  // A timer keeps it running after the end.
  idle() {
    setInterval(() => {}, 1000);
    process.send('ready');
  },

  big_then_exit() {
    process.send('one');
    process.send({ two: 2 });
    process.send(BIG);
    process.exit();
  },

  big_then_disconnect() {
    process.send('one');
    process.send({ two: 2 });
    process.send(BIG);
    process.disconnect();
  },

  big_then_natural_exit() {
    process.send(BIG);
  },

  big_then_exit_in_callback() {
    process.send(BIG, () => process.exit());
  },

  count_until_the_end() {
    const sizes = [];
    process.on('message', (message) => sizes.push(message.length));
    process.on('disconnect', mustCall(() => say(JSON.stringify(sizes))));
  },

  // It exits without having read what was sent to it.
  exit_unread() {
    say('here');
    blockUntilTold();
    process.send('the last');
    process.exit();
  },

  disconnect_when_told() {
    // Without any listener, Node dies of a message that it has read before the disconnect().
    process.on('message', () => {});
    process.once('message', mustCall(() => {
      for (let i = 0; i < 100; i++) process.send(i, () => {});
      process.disconnect();
    }));
  },

  // When it gets a message, it writes these bytes where messages should be.
  garbage(...pieces) {
    process.on('message', () => {
      const { fd } = process.channel;
      for (const piece of pieces) fs.writeSync(fd, Buffer.from(piece, 'base64'));
    });
  },

  garbage_and_exit(piece) {
    fs.writeSync(process.channel.fd, Buffer.from(piece, 'base64'));
    process.exit();
  },

  last_words() {
    process.on('message', (message) => say(JSON.stringify(message)));
    process.on('disconnect', mustCall(() => say('end')));
  },
});
