'use strict';

const assert = require('node:assert');
const dgram = require('node:dgram');
const { once } = require('node:events');
const net = require('node:net');
const { text } = require('node:stream/consumers');
const {
  connection, inbox, listening, mustCall, mustNotCall, plainInbox, readAll, readSome, run, start,
} = require('./common');

const PAYLOAD = 'a'.repeat(800_004);
const WITH_STDOUT = { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] };

function disconnect(child) {
  child.disconnect();
  return child.ended;
}

run({
  async recv_handle() {
    const child = start('recv_handle');
    const server = await listening();
    child.send('one');
    child.send('two', server);
    child.send('three');
    assert.deepStrictEqual(await plainInbox(child)(), [
      ['one', null], ['two', 'SocketListener'], ['three', null],
    ]);
    server.close();
    await disconnect(child);
  },

  async recv_handle_from_the_child() {
    const child = start('send_three');
    const next = inbox(child);
    assert.deepStrictEqual(await next(), ['one', undefined]);
    const [two, socket] = await next();
    assert.strictEqual(two, 'two');
    assert.deepStrictEqual(await next(), ['three', undefined]);
    socket.end(two);
    await child.ended;
  },

  async pass_fd() {
    const children = Array.from({ length: 3 }, () => start('pass_fd'));
    await Promise.all(children.map(async (child) => {
      const [message, socket] = await inbox(child)();
      assert.strictEqual(message, 'handle');
      child.send('got');
      assert.strictEqual(await readAll(socket), 'hello?');
      await child.ended;
    }));
  },

  async net_send() {
    const child = start('net_send');
    const [message, socket] = await inbox(child)();
    assert.strictEqual(message, 'a connection');
    socket.write('from the parent');
    assert.strictEqual(await readAll(socket), 'from the child');
    await child.ended;
  },

  async large_payload() {
    const child = start('large_payload');
    const { accepted, client, server } = await connection();
    server.close();
    child.send({ payload: PAYLOAD }, accepted);
    const [{ payload }, socket] = await inbox(child)();
    assert.strictEqual(payload, PAYLOAD);
    socket.end('there and back');
    assert.strictEqual(await readAll(client), 'there and back');
    await child.ended;
  },

  async fork_net_socket() {
    const child = start('answer_client');
    for (const word of ['echo', 'echo again']) {
      const { accepted, client, server } = await connection();
      child.send(word, accepted);
      assert.strictEqual(await readAll(client), word);
      server.close();
      await once(server, 'close');
    }
    await disconnect(child);
  },

  // Twelve connections over three children; the server is closed when the last of them is.
  async fork_net() {
    const children = [1, 2, 3].map(() => start('fork_net'));
    const server = net.createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const before = children.map((child) => child.listenerCount('internalMessage'));
    const clients = [];
    for (let i = 0; i < 12; i++) {
      const client = net.connect(server.address().port);
      const [socket] = await once(server, 'connection');
      children[i % 3].send(i % 2 ? 'write' : 'end', socket);
      clients.push(client);
    }
    const words = [];
    for (let i = 0; i < 12; i += 2) words.push(await readAll(clients[i]));
    let closed = false;
    const close = once(server, 'close').then(() => { closed = true; });
    server.close();
    for (let i = 1; i < 12; i += 2) {
      assert.strictEqual(closed, false);
      clients[i].write(`${i}`);
      words.push(await readAll(clients[i]));
    }
    await close;
    assert.deepStrictEqual(words, [
      ...Array(6).fill('ended'), ...[1, 3, 5, 7, 9, 11].map((i) => `heard ${i}`),
    ]);
    const after = children.map((child) => child.listenerCount('internalMessage'));
    assert.deepStrictEqual(after, before);
    await Promise.all(children.map(disconnect));
  },

  async fork_net_server() {
    const child = start('serve');
    const next = plainInbox(child);
    const server = net.createServer((socket) => socket.end('parent'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    child.send('server', server);
    assert.strictEqual(await next(), 'listening');
    // Both accept, until one of them closes its copy.
    const seen = new Set();
    while (seen.size < 2) {
      const clients = Array.from({ length: 10 }, () => net.connect(port, '127.0.0.1'));
      for (const word of await Promise.all(clients.map(readAll))) seen.add(word);
    }
    server.close();
    for (let i = 0; i < 5; i++) {
      assert.strictEqual(await readAll(net.connect(port, '127.0.0.1')), 'child');
    }
    child.send('close');
    assert.strictEqual(await next(), 'closed');
    await child.ended;
  },

  async fork_net_server_of_the_child() {
    const child = start('send_server');
    const [message, server] = await inbox(child)();
    assert.strictEqual(message, null);
    assert.strictEqual(server.listening, true);
    child.send('close');
    await child.ended;
    server.on('connection', (socket) => socket.end('parent'));
    const client = net.connect(server.address().port, '127.0.0.1');
    assert.strictEqual(await readAll(client), 'parent');
    server.close();
  },

  async net_listen_handle() {
    const child = start('describe');
    const server = await listening();
    child.send(null, server);
    assert.deepStrictEqual(await plainInbox(child)(), [null, 'SocketListener']);
    server.close();
    await disconnect(child);
  },

  async each_kind(interpreter, script, pathOfSocket) {
    const child = start('describe');
    const next = plainInbox(child);
    const unix = await connection({ path: pathOfSocket });
    const tcp = await connection();
    const raw = await connection();
    const udp = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    await once(udp, 'listening');
    for (const [name, handle] of [
      ['SocketStream', tcp.accepted],
      ['SocketStream', tcp.client],
      ['SocketStream', unix.accepted],
      ['SocketStream', raw.accepted._handle],
      ['SocketListener', tcp.server],
      ['SocketListener', unix.server],
      ['SocketListener', raw.server._handle],
      ['_SocketType', udp],
    ]) {
      child.send({ name }, handle);
      assert.deepStrictEqual(await next(), [{ name }, name]);
    }
    udp.close();
    for (const { server, client, accepted } of [unix, tcp, raw]) {
      server.close();
      client.destroy();
      accepted.destroy();
    }
    await disconnect(child);
  },

  async fork_dgram() {
    const child = start('serve_dgram');
    const next = plainInbox(child);
    const shared = dgram.createSocket('udp4');
    shared.bind(0, '127.0.0.1');
    await once(shared, 'listening');
    child.send('a socket', shared);
    assert.strictEqual(await next(), 'listening');
    // Both sides read. Each answers, so the client goes on until it has heard from both.
    shared.on('message', (data, { port, address }) => {
      shared.send(`parent heard ${data}`, port, address);
    });
    const client = dgram.createSocket('udp4');
    client.connect(shared.address().port, '127.0.0.1');
    await once(client, 'connect');
    const seen = new Set();
    while (seen.size < 2) {
      client.send('it');
      const [data] = await once(client, 'message');
      seen.add(`${data}`);
    }
    assert.deepStrictEqual([...seen].sort(), ['child heard it', 'parent heard it']);
    assert.strictEqual(await next(), 'heard');
    client.send('it');
    assert.strictEqual(`${(await once(client, 'message'))[0]}`, 'parent heard it');
    client.close();
    shared.close();
    child.send('done');
    await disconnect(child);
  },

  async fork_dgram_of_the_child() {
    const child = start('send_dgram');
    const [message, socket] = await inbox(child)();
    assert.strictEqual(message, 'a socket');
    assert.ok(socket instanceof dgram.Socket);
    const client = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    await once(client, 'listening');
    socket.send('from here', client.address().port, '127.0.0.1');
    const [data, { port }] = await once(client, 'message');
    assert.deepStrictEqual([`${data}`, port], ['from here', socket.address().port]);
    socket.close();
    child.send('your turn');
    client.send('to the child', port, '127.0.0.1');
    assert.deepStrictEqual((await once(child, 'message'))[0], 'to the child');
    client.close();
    await child.ended;
  },

  async send_keep_open() {
    const child = start('send_keep_open');
    const next = plainInbox(child);
    const { accepted, client, server } = await connection();
    child.send('a connection', accepted, { keepOpen: true });
    assert.strictEqual(await next(), 'written');
    accepted.end(' and from the parent');
    assert.strictEqual(await readAll(client), 'from the child and from the parent');
    accepted.destroy();
    server.close();
    await disconnect(child);
  },

  async send_keep_open_by_the_child() {
    const child = start('keep_open');
    const [, socket] = await inbox(child)();
    socket.write('from the parent', () => {
      socket.destroy();
      child.send('your turn');
    });
    await child.ended;
  },

  async fork_closed_channel_segfault() {
    const child = start('exit_at_first_handle');
    child.on('error', (error) => {
      assert.match(error.code, /^(ERR_IPC_CHANNEL_CLOSED|ECONNRESET|EPIPE)$/);
    });
    const connections = [await connection(), await connection(), await connection()];
    for (const { accepted, client, server } of connections) {
      client.on('error', (error) => assert.strictEqual(error.code, 'ECONNRESET'));
      child.send({}, accepted);
      server.close();
    }
    await child.ended;
    for (const { client } of connections) client.destroy();
  },

  async deadlock() {
    const count = 30;
    const child = start('deadlock', { args: [`${count}`] });
    const connections = [];
    for (let i = 0; i < count; i++) connections.push(await connection());
    let received = 0;
    child.on('message', mustCall(([message, payload], socket) => {
      assert.strictEqual(payload, PAYLOAD.slice(0, 100_000));
      assert.strictEqual(message, received++);
      socket.end(`${message}`);
    }, count));
    connections.forEach(({ accepted, server }, i) => {
      child.send([i, PAYLOAD.slice(0, 100_000)], accepted);
      server.close();
    });
    for (const [i, { client }] of connections.entries()) {
      assert.strictEqual(await readAll(client), `${i}`);
    }
    await child.ended;
  },

  async disconnect_behind_handles() {
    const child = start('answer_client');
    const connections = [];
    for (let i = 0; i < 5; i++) connections.push(await connection());
    connections.forEach(({ accepted, server }, i) => {
      child.send(`${i}`, accepted);
      server.close();
    });
    child.disconnect();
    for (const [i, { client }] of connections.entries()) {
      assert.strictEqual(await readAll(client), `${i}`);
    }
    await child.ended;
  },

  async handle_twice() {
    const child = start('describe');
    const next = plainInbox(child);
    const { accepted, client, server } = await connection();
    child.send('first', accepted);
    child.send('second', accepted);
    assert.deepStrictEqual(await next(), ['first', 'SocketStream']);
    assert.deepStrictEqual(await next(), ['second', null]);
    assert.strictEqual(await readAll(client), '');
    server.close();
    await disconnect(child);
  },

  async handle_twice_by_the_child() {
    const child = start('handle_twice');
    const [message, socket] = await inbox(child)();
    assert.strictEqual(message, 'first');
    socket.end('from the parent');
    await child.ended;
  },

  async listen_fd() {
    const server = await listening();
    const { port } = server.address();
    const child = start('listen_fd', {
      args: ['4'], stdio: ['ignore', 'inherit', 'inherit', 'ipc', server._handle],
    });
    assert.strictEqual(await plainInbox(child)(), 'listening');
    server.close();
    assert.strictEqual(await readAll(net.connect(port, '127.0.0.1')), 'child');
    await disconnect(child);
  },

  // What arrives after the receiver has closed is closed.
  async close_during_bind() {
    const child = start('close_receive_half', WITH_STDOUT);
    const { accepted, client, server } = await connection();
    await once(child.stdout, 'data');
    child.send('a connection', accepted);
    assert.strictEqual(await readAll(client), '');
    server.close();
    await disconnect(child);
  },

  async never_received() {
    const child = start('leave_unread', WITH_STDOUT);
    const output = text(child.stdout);
    const connections = [await connection(), await connection(), await connection()];
    for (const { accepted, server } of connections) {
      child.send('a connection', accepted);
      server.close();
    }
    const answered = new Promise((resolve) => child.send('after them', resolve));
    for (const { client } of connections) assert.strictEqual(await readAll(client), '');
    assert.ifError(await answered);
    await child.ended;
    assert.strictEqual(await output, '4\n');
  },

  async refused() {
    const child = start('refuse');
    child.on('message', mustNotCall());
    await child.ended;
  },
});
