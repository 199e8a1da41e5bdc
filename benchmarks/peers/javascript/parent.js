// parent.js WORK OPTIONS COMMAND...: the parent's side of one work, for Node and Bun.
//
// It tells its process numbers in a line of JSON. Then, for each number that it reads from the
// standard input, it writes the seconds that so many operations took.

'use strict';

const { spawn } = require('child_process');
const { createInterface } = require('readline');

const [work, json, ...command] = process.argv.slice(2);
const { message, serialization, children = 1, size = 0 } = JSON.parse(json);

function start([program, ...args] = command) {
  return spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization });
}

// Resolves after so many messages of a child, and hands each to a function.
function receive(child, count, take = () => {}) {
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

// Sends a message as often as said, each after the answer to the one before.
function exchange(child, message, count) {
  let left = count;
  const done = receive(child, count, () => {
    if (--left) child.send(message);
  });
  child.send(message);
  return done;
}

async function timed(run) {
  const start = process.hrtime.bigint();
  await run();
  return Number(process.hrtime.bigint() - start) / 1e9;
}

const works = {
  round_trip([child], count) {
    return timed(() => exchange(child, message, count));
  },

  // None of them at all is an empty one, which tells when the child is ready.
  payload([child], count) {
    return timed(() => (count ? exchange(child, payload, count) : exchange(child, '', 1)));
  },

  stream([child], count) {
    return timed(() => {
      child.send(count);
      for (let i = 0; i < count; i++) child.send(message);
      return receive(child, 1);
    });
  },

  // Each message after the callback of the one before.
  stream_awaited([child], count) {
    return timed(async () => {
      const done = receive(child, 1);
      child.send(count);
      for (let i = 0; i < count; i++) await new Promise((resolve) => child.send(message, resolve));
      return done;
    });
  },

  stream_back([child], count) {
    return timed(() => {
      child.send({ count, message });
      return receive(child, count);
    });
  },

  async handles([child], count) {
    const [near, far] = await require('./connect.js')(count);
    const seconds = await timed(() => {
      child.send(count);
      near.forEach((socket, i) => child.send(i, socket));
      return receive(child, 1);
    });
    far.forEach((socket) => socket.destroy());
    return seconds;
  },

  async handles_back([child], count) {
    child.send(count);
    await receive(child, 1);
    return timed(() => {
      child.send(count);
      return receive(child, count, (_, socket) => socket.destroy());
    });
  },

  // A round trip with each child at a time; the number is that of all of them together.
  children(all, count) {
    const share = Math.ceil(count / all.length);
    return timed(() => Promise.all(all.map((child) => exchange(child, message, share))));
  },

  async startup(_, count) {
    let seconds = 0;
    for (let i = 0; i < count; i++) {
      let child;
      seconds += await timed(() => receive((child = start()), 1));
      const exited = new Promise((resolve) => child.on('exit', resolve));
      child.disconnect();
      await exited;
    }
    return seconds;
  },
};

// JSON knows no bytes: there it is as much text, which suits it best.
const bytes = Buffer.alloc(size, 'x');
const payload = serialization === 'advanced' ? bytes : bytes.toString('latin1');

async function main() {
  const all = work === 'startup' ? [] : Array.from({ length: children }, () => start());
  console.log(JSON.stringify({ pids: [process.pid, ...all.map((child) => child.pid)] }));
  const input = createInterface({ input: process.stdin });
  input.on('close', () => {
    for (const child of all) child.kill();
    process.exit();
  });
  for await (const line of input) console.log(await works[work](all, Number(line)));
}

main();
