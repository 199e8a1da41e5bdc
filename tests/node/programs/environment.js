'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const cluster = require('node:cluster');
const fs = require('node:fs');
const { mustCall, run } = require('./common');

const variables = () => Object.keys(process.env).filter((name) =>
  /^(NODE_CHANNEL_|NODE_UNIQUE_ID|TRIO_IPC_)/.test(name));

run({
  variables() {
    process.send(variables());
  },

  // What a process sees that was started without a channel. It says so on stdout.
  without_a_channel() {
    console.log(JSON.stringify({
      variables: variables(), connected: process.connected, send: typeof process.send,
      isWorker: cluster.isWorker,
    }));
  },

  fork_and_spawn() {
    const grandchild = spawn(process.execPath, [__filename, 'without_a_channel'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    grandchild.stdout.on('data', (data) => { output += data; });
    grandchild.on('close', mustCall((code) => {
      assert.strictEqual(code, 0);
      process.send(JSON.parse(output));
    }));
  },

  fork_stdio(extra) {
    fs.writeSync(1, 'to stdout');
    fs.writeSync(2, 'to stderr');
    fs.writeSync(Number(extra), 'to another');
    process.send(fs.readFileSync(0).toString());
  },
});
