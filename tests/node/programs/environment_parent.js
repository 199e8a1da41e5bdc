'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const path = require('node:path');
const { text } = require('node:stream/consumers');
const { plainInbox, run, start } = require('./common');

const WITHOUT_A_CHANNEL = { variables: [], send: 'undefined', isWorker: false };

// Start the script with its channel at some index of its standard streams.
function startWith(stdio, role, options = {}) {
  const [, , , interpreter, script] = process.argv;
  const child = spawn(interpreter, [script, role], { stdio, ...options });
  child.ended = once(child, 'exit').then((how) => assert.deepStrictEqual(how, [0, null]));
  return child;
}

async function conversation(child) {
  const next = plainInbox(child);
  child.send('a question');
  assert.deepStrictEqual(await next(), 'a question');
  child.disconnect();
  await child.ended;
}

run({
  async variables() {
    const child = start('variables');
    assert.deepStrictEqual(await plainInbox(child)(), []);
    await child.ended;
  },

  async twice() {
    const child = start('twice');
    await plainInbox(child)();
    await child.ended;
  },

  async inherits_nothing() {
    const child = start('inherits_nothing');
    assert.strictEqual(await plainInbox(child)(), 'nothing');
    await child.ended;
  },

  async stdin_ipc() {
    const child = startWith(['ipc', 'pipe', 'inherit'], 'echo_beside_streams');
    const output = text(child.stdout);
    await conversation(child);
    assert.match(await output, /who prints/);
  },

  async stdout_ipc() {
    await conversation(startWith(['ignore', 'ipc', 'inherit'], 'echo_beside_streams'));
  },

  async another_number() {
    await conversation(startWith(
      ['ignore', 'inherit', 'inherit', 'ignore', 'pipe', 'pipe', 'ignore', 'ipc'], 'echo'));
  },

  async fork_stdio() {
    const child = startWith(['pipe', 'pipe', 'pipe', 'ipc', 'pipe'], 'fork_stdio');
    const next = plainInbox(child);
    const [, out, error, , another] = child.stdio.map((stream) => stream && text(stream));
    child.stdin.end('to stdin');
    assert.deepStrictEqual(await next(), 'to stdin');
    assert.strictEqual(await out, 'to stdout');
    assert.strictEqual(await error, 'to stderr');
    assert.strictEqual(await another, 'to another');
    await child.ended;
  },

  async fork_stdio_ignored() {
    await conversation(startWith(['ignore', 'ignore', 'ignore', 'ipc'], 'echo'));
  },

  // The script starts a Node of its own, without a channel.
  async fork_and_spawn() {
    const child = start('fork_and_spawn', {
      args: [process.execPath, path.join(__dirname, 'environment.js')],
    });
    assert.deepStrictEqual(await plainInbox(child)(), WITHOUT_A_CHANNEL);
    await child.ended;
  },

  // The script is a child of Node's and has a Node child of its own: it only hands on.
  async in_the_middle() {
    const child = start('in_the_middle', {
      args: [process.execPath, path.join(__dirname, 'messages.js')],
    });
    await conversation(child);
  },

  // A worker of cluster's is told so by another variable. A Node server that inherits it believes
  // to be one, and does not listen.
  async cluster_worker() {
    const child = start('fork_and_spawn', {
      args: [process.execPath, path.join(__dirname, 'environment.js')],
      env: { ...process.env, NODE_UNIQUE_ID: '1' },
    });
    assert.deepStrictEqual(await plainInbox(child)(), WITHOUT_A_CHANNEL);
    await child.ended;
  },
});
