// node parent.js WORK MESSAGE COMMAND...: the parent's side of one benchmark. For each number that
// is read from the standard input, the seconds that so many operations took are written.

'use strict';

const { spawn } = require('child_process');
const { createInterface } = require('readline');
const { connect } = require('./connect.js');

const [work, json, program, ...args] = process.argv.slice(2);
const message = JSON.parse(json);
const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });

// Resolves after so many messages, and hands each to a function.
function receive(count, take = () => {}) {
  return new Promise((resolve) => {
    let left = count;
    child.on('message', function listener(message, handle) {
      take(message, handle);
      if (--left === 0) {
        child.off('message', listener);
        resolve();
      }
    });
  });
}

async function timed(run) {
  const start = process.hrtime.bigint();
  await run();
  return Number(process.hrtime.bigint() - start) / 1e9;
}

const works = {
  echo(count) {
    return timed(() => {
      let left = count;
      const done = receive(count, () => {
        if (--left) child.send(message);
      });
      child.send(message);
      return done;
    });
  },

  receive(count) {
    return timed(() => {
      child.send(count);
      for (let i = 0; i < count; i++) child.send(message);
      return receive(1);
    });
  },

  send(count) {
    return timed(() => {
      child.send({ count, message });
      return receive(count);
    });
  },

  async receiveSockets(count) {
    const [near, far] = await connect(count);
    const seconds = await timed(() => {
      child.send(count);
      near.forEach((socket, i) => child.send(i, socket));
      return receive(1);
    });
    far.forEach((socket) => socket.destroy());
    return seconds;
  },

  async sendSockets(count) {
    child.send(count);
    await receive(1);
    return timed(() => {
      child.send(count);
      return receive(count, (_, socket) => socket.destroy());
    });
  },
};

async function main() {
  console.log('started');
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(await works[work](Number(line)));
  }
  child.disconnect();
}

main();
