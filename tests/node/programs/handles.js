'use strict';

const assert = require('node:assert');
const dgram = require('node:dgram');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const {
  blockUntilTold, connection, descriptors, inbox, listening, mustCall, readAll,
  readSome, run, say,
} = require('./common');

const PAYLOAD = 'a'.repeat(800_004);

function kindOf(handle) {
  if (handle === undefined) return null;
  if (handle instanceof net.Server) return handle.listening ? 'net.Server' : 'idle net.Server';
  if (handle instanceof net.Socket) return 'net.Socket';
  return handle instanceof dgram.Socket ? `dgram.Socket ${handle.type}` : handle.constructor.name;
}

async function boundSocket(type = 'udp4') {
  const socket = dgram.createSocket(type);
  socket.bind(0, type === 'udp6' ? '::1' : '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

function rawUdpHandle() {
  process.noDeprecation = true;
  const { UDP } = process.binding('udp_wrap');
  const handle = new UDP();
  assert.strictEqual(handle.bind('127.0.0.1', 0, 0), 0);
  return handle;
}

function close(handle) {
  if (handle instanceof net.Socket) handle.destroy();
  else handle?.close();
}

run({
  // It answers each message with what came beside it, and closes that.
  describe() {
    process.on('message', (message, handle) => {
      process.send([message, kindOf(handle)]);
      close(handle);
    });
  },

  // It says at the end what it has got.
  record() {
    const seen = [];
    process.on('message', (message, handle) => {
      seen.push([message, kindOf(handle)]);
      close(handle);
    });
    process.on('disconnect', mustCall(() => say(JSON.stringify(seen))));
  },

  async recv_handle() {
    say('here');
    blockUntilTold();  // all three are there before the first is read
    const next = inbox(process);
    const seen = [];
    for (let i = 0; i < 3; i++) {
      const [message, handle] = await next();
      seen.push([message, kindOf(handle)]);
      close(handle);
    }
    process.send(seen);
    process.removeAllListeners('message');
  },

  async send_three() {
    const { accepted, client, server } = await connection();
    server.close();
    process.send('one');
    process.send('two', accepted);
    process.send('three');
    assert.strictEqual(await readAll(client), 'two');
  },

  // The client of each connection gets the message that came with it.
  answer_client() {
    process.on('message', (message, socket) => socket.end(message));
  },

  // It echoes what comes over a connection.
  async serve_connection() {
    const [, socket] = await inbox(process)();
    socket.on('data', (data) => socket.write(data));
    socket.on('end', () => socket.end('that was all'));
    socket.on('close', () => process.removeAllListeners('message'));
  },

  async net_send() {
    const { accepted, client, server } = await connection();
    server.close();
    process.send('a connection', accepted);
    client.write('from the child');
    assert.strictEqual(await readSome(client), 'from the parent');
    client.end();
  },

  // The other end is in the same process, and goes on when the handle has left.
  async pass_fd() {
    const { accepted, client, server } = await connection();
    server.close();
    process.send('handle', accepted);
    const [message] = await once(process, 'message');
    assert.strictEqual(message, 'got');
    client.end('hello?');
  },

  async large_payload() {
    const [{ payload }, socket] = await inbox(process)();
    assert.strictEqual(payload, PAYLOAD);
    assert.strictEqual(kindOf(socket), 'net.Socket');
    process.send({ payload }, socket);
    process.removeAllListeners('message');
  },

  // Sockets over which it writes, and others whose clients have the first and the last word.
  fork_net() {
    let open = 0;
    process.on('message', (message, socket) => {
      assert.strictEqual(kindOf(socket), 'net.Socket');
      open++;
      socket.on('close', () => process.send(--open));
      if (message === 'end') socket.end('ended');
      else socket.once('data', (data) => socket.end(`heard ${data}`));
    });
  },

  async serve() {
    const next = inbox(process);
    const [, server] = await next();
    assert.strictEqual(kindOf(server), 'net.Server');
    server.on('connection', (socket) => socket.end('child'));
    process.send('listening');
    assert.deepStrictEqual(await next(), ['close', undefined]);
    server.close(() => process.send('closed'));
    process.removeAllListeners('message');
  },

  async send_server(...args) {
    const server = await listening(args.length ? { path: args[0] } : undefined);
    server.on('connection', (socket) => socket.end('child'));
    const message = args.length ? 'a path' : null;
    process.send(message, server);
    await once(process, 'message');
    server.close();
  },

  async serve_dgram() {
    const next = inbox(process);
    const [, socket] = await next();
    assert.strictEqual(kindOf(socket), 'dgram.Socket udp4');
    socket.once('message', mustCall((data, { port, address }) => {
      socket.send(`child heard ${data}`, port, address, () => {
        socket.close();
        process.send('heard');
      });
    }));
    process.send('listening');
    await next();
    process.removeAllListeners('message');
  },

  async send_dgram(type) {
    const socket = await boundSocket(type);
    process.send('a socket', socket);
    const [told] = await once(process, 'message');
    assert.strictEqual(told, 'your turn');
    const [data] = await once(socket, 'message');
    process.send(`${data}`);
    socket.close();
  },

  // One of each kind, named by the message. Their other ends close when ours are closed.
  async send_each_kind(pathOfSocket, pipe) {
    const tcp = await connection();
    const raw = await connection();
    const unix = await connection({ path: pathOfSocket });
    const kept = [tcp, raw, unix];
    const udp = [await boundSocket(), await boundSocket('udp6')];
    const rawUdp = rawUdpHandle();
    process.send('net.Socket', tcp.accepted);
    process.send('the other net.Socket', tcp.client);
    process.send('Unix net.Socket', unix.accepted);
    process.send('raw TCP', raw.accepted._handle);
    process.send('net.Server', tcp.server);
    process.send('Unix net.Server', unix.server);
    process.send('raw server', raw.server._handle);
    process.send('dgram.Socket', udp[0]);
    process.send('udp6', udp[1]);
    process.send('raw UDP', rawUdp);
    process.send('pipe', new net.Socket({ fd: Number(pipe) }));
    process.send('the last');
    await once(process, 'disconnect');
    for (const { accepted, client, server } of kept) {
      server.close();
      accepted.destroy();
      client.destroy();
    }
    for (const socket of udp) socket.close();
    rawUdp.close();
  },

  async send_keep_open() {
    const [, socket] = await inbox(process)();
    socket.write('from the child', () => process.send('written'));
    await once(process, 'disconnect');
    socket.destroy();
  },

  async keep_open() {
    const { accepted, client, server } = await connection();
    server.close();
    process.send('a connection', accepted, { keepOpen: true });
    const next = inbox(process);
    assert.strictEqual(await readSome(client), 'from the parent');
    assert.deepStrictEqual(await next(), ['your turn', undefined]);
    accepted.end('from the child');
    assert.strictEqual(await readAll(client), 'from the child');
    accepted.destroy();
    process.removeAllListeners('message');
  },

  exit_at_first_handle() {
    process.once('message', (message, handle) => {
      assert.strictEqual(kindOf(handle), 'net.Socket');
      process.exit();
    });
  },

  async send_many(count) {
    process.on('error', (error) => assert.strictEqual(error.code, 'ERR_IPC_CHANNEL_CLOSED'));
    for (let i = 0; i < count; i++) {
      const { accepted, server } = await connection();
      server.close();
      process.send(i, accepted);
    }
    process.on('message', () => {});
  },

  // Both sides send, neither waits for the other.
  async deadlock(count, size = 0) {
    const payload = 'x'.repeat(Number(size));
    const connections = [];
    for (let i = 0; i < count; i++) connections.push(await connection());
    let received = 0;
    let receivedAll;
    const all = new Promise((resolve) => { receivedAll = resolve; });
    process.on('message', ([message], socket) => {
      assert.strictEqual(message, received++);
      socket.end(`${message}`);
      if (received === Number(count)) receivedAll();
    });
    connections.forEach(({ accepted, server }, i) => {
      process.send([i, payload], accepted);
      server.close();
    });
    for (const [i, { client }] of connections.entries()) {
      assert.strictEqual(await readAll(client), `${i}`);
    }
    await all;
    process.removeAllListeners('message');
  },

  // Messages of many sizes, some of them with a connection that knows which one it belongs to.
  async storm(count, ...sizes) {
    const wanted = Number(count);
    let received = 0;
    const finished = new Promise((resolve) => {
      process.on('message', async ([number, payload, hasHandle], socket) => {
        assert.strictEqual(number, received++);
        assert.strictEqual(payload.length, Number(sizes[number % sizes.length]));
        assert.strictEqual(socket instanceof net.Socket, hasHandle);
        if (hasHandle) {
          assert.strictEqual(await readAll(socket), `${number}`);
          socket.destroy();
        }
        if (number === wanted - 1) resolve();
      });
    });
    for (let number = 0; number < wanted; number++) {
      const payload = 'x'.repeat(Number(sizes[number % sizes.length]));
      if (number % 5) {
        process.send([number, payload, false]);
      } else {
        const { accepted, client, server } = await connection();
        server.close();
        client.end(`${number}`);
        client.resume();
        process.send([number, payload, true], accepted);
      }
    }
    await finished;
    process.removeAllListeners('message');
  },

  async handle_twice() {
    const { accepted, client, server } = await connection();
    server.close();
    process.send('first', accepted);
    process.send('second', accepted);
    assert.strictEqual(await readAll(client), 'from the parent');
  },

  // A server that was inherited by its number.
  async listen_fd(number) {
    const server = await listening({ fd: Number(number) });
    server.on('connection', (socket) => socket.end('child'));
    process.send('listening');
    process.on('disconnect', () => server.close());
  },

  // It is told of the end of a connection that it has sent away.
  async send_and_watch() {
    const { accepted, client, server } = await connection();
    server.close();
    client.on('error', () => {});
    client.on('close', mustCall(() => say('closed')));
    client.resume();
    process.send('a connection', accepted);
    process.send('after it');
  },

  // The other end has reset the connection before it is sent.
  async send_reset() {
    const { accepted, client, server } = await connection();
    server.close();
    client.resetAndDestroy();
    await once(client, 'close');
    process.send('a connection', accepted);
  },

  // It is gone before its handle can be acknowledged.
  async send_and_exit(status) {
    const { accepted, server } = await connection();
    server.close();
    process.send('one');
    process.send('two', accepted, () => process.exit(Number(status)));
  },

  async disconnect_behind_handles(count) {
    const connections = [];
    for (let i = 0; i < count; i++) connections.push(await connection());
    connections.forEach(({ accepted, server }, i) => {
      process.send(i, accepted);
      server.close();
    });
    process.disconnect();
    for (const [i, { client }] of connections.entries()) {
      assert.strictEqual(await readAll(client), `${i}`);
    }
  },

  // What is there to be read is left there.
  disconnect_unread() {
    say('here');
    blockUntilTold();
    process.disconnect();
    say('disconnected');
    process.stdin.resume();
  },

  http() {
    const server = http.createServer((request, response) => {
      response.end(`${request.method} ${request.url}`);
    });
    process.on('message', (message, socket) => {
      server.emit('connection', socket);
      socket.resume();
    });
  },

  async descriptors_after(count) {
    const next = inbox(process);
    let before = 0;
    for (let i = 0; i < count; i++) {
      const [, socket] = await next();
      socket.destroy();
      await once(socket, 'close');
      if (i === 0) before = descriptors();
    }
    process.send(descriptors() - before);
    process.removeAllListeners('message');
  },

  // It opens what it can, so that no descriptor fits in any more. After so many refusals it makes
  // room.
  full_table(refusals) {
    const hoard = [];
    try {
      for (;;) hoard.push(fs.openSync('/dev/null'));
    } catch (error) {
      assert.strictEqual(error.code, 'EMFILE');
    }
    let refused = 0;
    process.on('internalMessage', (message) => {
      assert.strictEqual(message.cmd, 'NODE_HANDLE');
      refused++;
      if (refused === Number(refusals)) for (const fd of hoard.splice(0)) fs.closeSync(fd);
    });
    process.on('message', (message, handle) => {
      process.send([message, kindOf(handle), refused]);
      close(handle);
    });
    process.send('full');
  },

  // It stops at each refusal of its handle, until it is told to go on and send it again.
  async refused() {
    process.prependListener('internalMessage', (message) => {
      if (message.cmd !== 'NODE_HANDLE_NACK') return;
      say('refused');
      blockUntilTold();
    });
    const first = await connection();
    const second = await connection();
    await once(process, 'message');
    process.on('message', (message) => process.send(message));
    process.send('one', first.accepted);
    process.send('two');
    process.send('three', second.accepted);
    process.send('four');
    for (const { client, server } of [first, second]) {
      server.close();
      assert.strictEqual(await readAll(client), 'from the parent');
    }
    say('both ended');
  },

  async refused_for_good() {
    let refusals = 0;
    process.prependListener('internalMessage', (message) => {
      if (message.cmd !== 'NODE_HANDLE_NACK') return;
      refusals++;
      say('refused');
      blockUntilTold();
    });
    process.removeAllListeners('warning');
    process.on('warning', mustCall(({ name }) => {
      assert.strictEqual(refusals, 4);
      say(name);
    }));
    const first = await connection();
    const second = await connection();
    await once(process, 'message');
    process.send('one', first.accepted);
    process.send('two', () => {
      blockUntilTold();
      process.send('three', second.accepted);
    });
    for (const { client, server } of [first, second]) {
      server.close();
      await readAll(client);
    }
    say('ended');
  },

  never_answer() {
    say('here');
    blockUntilTold();
  },
});
