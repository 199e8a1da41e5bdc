'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const net = require('node:net');
const { promisify } = require('node:util');
const { run, start } = require('./common');

// One side owns a server, sends the connections that it accepts, and counts them; the other holds
// them, and closes one for each message. Here are owners: as a child, `peer` is the process
// itself, as a parent it is the child.

async function open(count, options = {}) {
  const server = net.createServer({ pauseOnConnect: true });
  server.listen(options.path ? options : { port: 0, host: '127.0.0.1', ...options });
  await once(server, 'listening');
  const clients = [];
  const sockets = [];
  for (let i = 0; i < count; i++) {
    const address = server.address();
    const client = net.connect(
      typeof address === 'string' ? { path: address } : { port: address.port, host: address.address });
    client.resume();
    sockets.push((await once(server, 'connection'))[0]);
    clients.push(client);
  }
  const getCount = promisify(server.getConnections.bind(server));
  return { clients, getCount, server, sockets };
}

function sendAll(peer, sockets) {
  return Promise.all(sockets.map((socket, i) =>
    new Promise((resolve, reject) =>
      peer.send({ i }, socket, (error) => (error ? reject(error) : resolve())))));
}

// A message, and nothing that could be lost before the next one.
async function said(peer) {
  const [message] = await once(peer, 'message');
  return message;
}

async function getConnections(peer, count = 12) {
  const { getCount, server, sockets } = await open(count);
  await sendAll(peer, sockets);
  for (let left = count; left > 0; left--) {
    assert.strictEqual(await getCount(), left);
    peer.send('close one');
    assert.strictEqual(await said(peer), 'closed');
  }
  assert.strictEqual(await getCount(), 0);
  server.close();
  await once(server, 'close');
}

async function onAPath(peer) {
  const { getCount, server, sockets } = await open(2, { path: process.env.SOCKET_PATH });
  await sendAll(peer, sockets);
  assert.strictEqual(await getCount(), 2);
  server.close();
  for (let i = 0; i < 2; i++) {
    peer.send('close one');
    assert.strictEqual(await said(peer), 'closed');
  }
  await once(server, 'close');
}

async function close(peer) {
  const { clients, server, sockets } = await open(3);
  await sendAll(peer, sockets);
  let closed = false;
  const close = once(server, 'close').then(() => { closed = true; });
  server.close();
  for (let left = 3; left > 0; left--) {
    assert.strictEqual(closed, false);
    peer.send('close one');
    assert.strictEqual(await said(peer), 'closed');
  }
  await close;
  for (const client of clients) assert.strictEqual(client.destroyed || client.readableEnded, true);
}

// The count of one server is not that of another.
async function twoServers(peer) {
  const first = await open(2);
  const second = await open(3, { host: '127.0.0.2' });
  await sendAll(peer, first.sockets);
  await sendAll(peer, second.sockets);
  assert.strictEqual(await first.getCount(), 2);
  assert.strictEqual(await second.getCount(), 3);
  peer.send('close one');
  assert.strictEqual(await said(peer), 'closed');
  assert.strictEqual(await first.getCount(), 1);
  assert.strictEqual(await second.getCount(), 3);
  for (let i = 0; i < 4; i++) {
    peer.send('close one');
    assert.strictEqual(await said(peer), 'closed');
  }
  first.server.close();
  second.server.close();
  await Promise.all([once(first.server, 'close'), once(second.server, 'close')]);
}

// What arrived counts, whether or not anybody has received it.
async function unreceived(peer) {
  const { getCount, server, sockets } = await open(5);
  await sendAll(peer, sockets);
  assert.strictEqual(await getCount(), 5);
  peer.send('drop all');
  server.close();
  await once(server, 'close');
}

// What was sent on to another process is that one's.
async function handedOn(peer) {
  const { getCount, server, sockets } = await open(2);
  await sendAll(peer, sockets);
  assert.strictEqual(await getCount(), 2);
  peer.send('hand one on');
  assert.strictEqual(await said(peer), 'handed on');
  assert.strictEqual(await getCount(), 1);
  peer.send('close one');
  assert.strictEqual(await said(peer), 'closed');
  server.close();
  await once(server, 'close');
}

// The questions alone, about servers that nobody has heard of.
async function unknownKey(peer) {
  const key = '4:192.0.2.1:1';
  const answer = () => new Promise((resolve) => peer.on('internalMessage', function listen(m) {
    if (m.key !== key) return;
    peer.removeListener('internalMessage', listen);
    resolve(m);
  }));
  let answered = answer();
  peer._send({ cmd: 'NODE_SOCKET_GET_COUNT', key }, undefined, true);
  assert.deepStrictEqual(await answered, { cmd: 'NODE_SOCKET_COUNT', key, count: 0 });
  answered = answer();
  peer._send({ cmd: 'NODE_SOCKET_NOTIFY_CLOSE', key }, undefined, true);
  assert.deepStrictEqual(await answered, { cmd: 'NODE_SOCKET_ALL_CLOSED', key });
}

async function childEndsFirst(child) {
  const { getCount, server, sockets } = await open(2);
  await sendAll(child, sockets);
  assert.strictEqual(await getCount(), 2);
  child.send('block');
  assert.strictEqual(await said(child), 'blocking');
  const counted = getCount();
  child.kill('SIGKILL');
  await assert.rejects(counted, { code: 'ERR_CHILD_CLOSED_BEFORE_REPLY' });
  server.close();
  await once(server, 'close');
}

async function childExitsHolding(child) {
  const { server, sockets } = await open(2);
  await sendAll(child, sockets);
  server.close();
  child.send('exit');
  await once(server, 'close');
}

const owners = {
  get_connections: getConnections,
  on_a_path: onAPath,
  close,
  two_servers: twoServers,
  unreceived,
  handed_on: handedOn,
  unknown_key: unknownKey,
};

const roles = {
  async child_ends_first() {
    const child = start('hold', { ended: [null, 'SIGKILL'] });
    await childEndsFirst(child);
    await child.ended;
  },

  async child_exits_holding() {
    const child = start('hold');
    await childExitsHolding(child);
    await child.ended;
  },
};

for (const [name, owner] of Object.entries(owners)) {
  roles[name] = async () => {
    process.channel.ref();
    await owner(process);
    process.channel.unref();
  };
  roles[`${name}_of_a_parent`] = async () => {
    const child = start(name === 'unreceived' ? 'hold_late' : 'hold');
    await owner(child);
    child.disconnect();
    await child.ended;
  };
}

run(roles);
