'use strict';

const assert = require('node:assert');
const { fork } = require('node:child_process');
const { on, once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');

const expectations = [];

process.on('exit', (code) => {
  if (code !== 0) return;
  for (const { name, wanted, calls } of expectations) {
    if (calls !== wanted) {
      console.error(`${name} was called ${calls} times instead of ${wanted}`);
      process.exitCode = 1;
    }
  }
});

/** A function that has to be called so many times before the process exits. */
function mustCall(f = () => {}, wanted = 1) {
  const expectation = { name: f.name || f.toString(), wanted, calls: 0 };
  expectations.push(expectation);
  return function(...args) {
    expectation.calls++;
    return f.apply(this, args);
  };
}

/** A function that fails the process when it is called. */
function mustNotCall(why = 'this was not to be called') {
  return (...args) => assert.fail(`${why}, with ${JSON.stringify(args)}`);
}

/** Play one of the roles, the one that the command line names. If it is async, it has to come to
 * its end: Node exits with status 0 when nothing is left that could resolve a promise. */
function run(roles) {
  const [, , role, ...args] = process.argv;
  const result = roles[role](...args);
  if (result instanceof Promise) result.then(mustCall(function theEndOfTheRole() {}));
}

/** A function that returns the next message and its handle. None is lost between two calls. */
function inbox(emitter) {
  const events = on(emitter, 'message');
  return async () => (await events.next()).value;
}

/** A function that returns the next message, which has no handle. */
function plainInbox(emitter) {
  const next = inbox(emitter);
  return async () => {
    const [message, handle] = await next();
    assert.strictEqual(handle, undefined);
    return message;
  };
}

/** Fork what the command line names; it has to exit with status 0, and `ended` says when. */
function start(role, { args = [], ended = [0, null], ...options } = {}) {
  const [, , , interpreter, script] = process.argv;
  const child = fork(script, [role, ...args], {
    execPath: interpreter, execArgv: [], serialization: process.env.SERIALIZATION, ...options,
  });
  child.ended = once(child, 'exit').then(mustCall(function theChildsExit(how) {
    assert.deepStrictEqual(how, ended);
  }));
  return child;
}

/** Wait for a line on stdin, without letting anything else happen meanwhile. */
function blockUntilTold() {
  const one = Buffer.alloc(1);
  for (;;) {
    try {
      if (fs.readSync(0, one) === 0 || one[0] === 10) return;
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

/** Say a line on stdout at once: the process may be blocked, or gone, a moment later. */
function say(line) {
  fs.writeSync(1, `${line}\n`);
}

/** A server that listens somewhere, on 127.0.0.1 if nothing is said. */
async function listening(where = { port: 0, host: '127.0.0.1' }, options = {}) {
  const server = net.createServer(options);
  server.listen(where);
  await once(server, 'listening');
  return server;
}

/** A connection of this process with itself: its two ends, and the server that accepted one. */
async function connection(where, options = {}) {
  const server = await listening(where, { pauseOnConnect: true, ...options });
  const address = server.address();
  const client = net.connect(typeof address === 'string' ? { path: address } : address.port);
  const [[accepted]] = await Promise.all([once(server, 'connection'), once(client, 'connect')]);
  return { accepted, client, server };
}

/** All that comes until the other end has ended. */
async function readAll(socket) {
  let all = '';
  socket.setEncoding('utf8');
  for await (const data of socket) all += data;
  return all;
}

/** The next piece that comes. */
async function readSome(socket) {
  const [data] = await once(socket, 'data');
  return data.toString();
}

/** How many descriptors this process has open. */
function descriptors() {
  return fs.readdirSync('/proc/self/fd').length;
}

module.exports = {
  blockUntilTold,
  connection,
  descriptors,
  inbox,
  listening,
  mustCall,
  mustNotCall,
  plainInbox,
  readAll,
  readSome,
  run,
  say,
  start,
};
