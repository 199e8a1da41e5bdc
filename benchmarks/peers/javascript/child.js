// child.js WORK: the child's side of one work, for Node and Bun.

'use strict';

const works = {
  first_message() {
    process.send(1);
    process.on('message', () => {});
  },

  round_trip() {
    process.on('message', (message) => process.send(message));
  },

  // Every payload is answered with its length.
  payload() {
    process.on('message', (message) => process.send(message.length));
  },

  // A number, so many messages, and then an answer.
  stream() {
    let count = 0;
    let left = 0;
    process.on('message', (message) => {
      if (left === 0) left = count = message;
      else if (--left === 0) process.send(count);
    });
  },

  stream_back() {
    process.on('message', ({ count, message }) => {
      for (let i = 0; i < count; i++) process.send(message);
    });
  },

  // A number, so many sockets, and then an answer.
  handles() {
    let count = 0;
    let left = 0;
    process.on('message', (message, socket) => {
      if (left === 0) {
        left = count = message;
      } else {
        socket.destroy();
        if (--left === 0) process.send(count);
      }
    });
  },

  // A number; the second time it is there, so many sockets are sent.
  handles_back() {
    let near = [];
    let far = [];
    process.on('message', async (count) => {
      if (near.length === 0) {
        [near, far] = await require('./connect.js')(count);
        process.send('ready');
      } else {
        near.forEach((socket, i) => process.send(i, socket));
        near = [];
        await Promise.all(far.map((socket) => new Promise((resolve) => socket.resume().on('close', resolve))));
      }
    });
  },

  // Every message is a connection, which asks once and is answered.
  serve() {
    process.on('message', (answer, socket) => require('./answer.js')(socket, answer));
  },
};

works[process.argv[2]]();
