// serve.js HOW WORKERS ANSWER: TCP connections that are answered by workers, for Node and Bun.
//
// HOW is "send", where this process accepts and hands out with child.send(); "cluster", where Node's
// own module does; or "alone", where there are no workers.

'use strict';

const cluster = require('cluster');
const net = require('net');
const path = require('path');
const { fork } = require('child_process');
const respond = require('./answer.js');

const [how, workers, answer] = process.argv.slice(2);

function serve(options, take, pids) {
  const server = net.createServer(options, take).listen({ port: 0, host: '127.0.0.1', backlog: 1024 }, () => {
    console.log(JSON.stringify({ pids, port: server.address().port }));
  });
}

function stopWithInput(stop) {
  process.stdin.on('end', () => { stop(); process.exit(); }).resume();
}

const ways = {
  alone() {
    serve({}, (socket) => respond(socket, answer), [process.pid]);
    stopWithInput(() => {});
  },

  send() {
    const program = path.join(__dirname, 'child.js');
    const children = Array.from({ length: workers }, () => fork(program, ['serve'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
    let turn = 0;
    // Its first data is for the worker to read.
    serve({ pauseOnConnect: true }, (socket) => children[turn++ % workers].send(answer, socket),
      [process.pid, ...children.map((child) => child.pid)]);
    stopWithInput(() => children.forEach((child) => child.kill()));
  },

  cluster() {
    const children = Array.from({ length: workers }, () => cluster.fork());
    let left = Number(workers);
    cluster.on('listening', (_, { port }) => {
      if (--left) return;
      console.log(JSON.stringify({ pids: [process.pid, ...children.map((child) => child.process.pid)], port }));
    });
    stopWithInput(() => children.forEach((child) => child.process.kill()));
  },
};

if (how === 'cluster' && cluster.isWorker) {
  net.createServer((socket) => respond(socket, answer)).listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
} else {
  ways[how]();
}
