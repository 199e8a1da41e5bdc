// node child.js WORK: the child's side of one benchmark.

'use strict';

const { connect } = require('./connect.js');

const works = {
  echo() {
    process.on('message', (message) => process.send(message));
  },

  // A number, so many messages, and then an answer.
  receive() {
    let count = 0;
    let left = 0;
    process.on('message', (message) => {
      if (left === 0) left = count = message;
      else if (--left === 0) process.send(count);
    });
  },

  send() {
    process.on('message', ({ count, message }) => {
      for (let i = 0; i < count; i++) process.send(message);
    });
  },

  receiveSockets() {
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

  // A number; the second time it is there, they are sent.
  sendSockets() {
    let near = [];
    let far = [];
    process.on('message', async (count) => {
      if (near.length === 0) {
        [near, far] = await connect(count);
        process.send('ready');
      } else {
        near.forEach((socket, i) => process.send(i, socket));
        near = [];
        await Promise.all(far.map((socket) => new Promise((resolve) => socket.resume().on('close', resolve))));
      }
    });
  },
};

works[process.argv[2]]();
