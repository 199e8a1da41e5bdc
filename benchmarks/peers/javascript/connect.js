// Connections within this process, to be sent away.

'use strict';

const net = require('net');

const server = net.createServer({ pauseOnConnect: true });
server.listen(0, '127.0.0.1').unref();

// Resolves to so many pairs of ends, as two arrays.
module.exports = async (count) => {
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  const near = [];
  const far = [];
  for (let i = 0; i < count; i++) {
    const accepted = new Promise((resolve) => server.once('connection', resolve));
    const socket = net.connect(port, '127.0.0.1');
    await new Promise((resolve, reject) => socket.on('connect', resolve).on('error', reject));
    near.push(socket);
    far.push((await accepted).on('error', () => {}));
  }
  return [near, far];
};
