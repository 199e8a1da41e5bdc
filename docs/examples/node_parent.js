const { fork } = require('node:child_process');
const net = require('node:net');
const path = require('node:path');

const worker = fork(path.join(__dirname, 'worker_of_node.py'), [], {
  execPath: process.env.PYTHON ?? 'python3',
  execArgv: [],
});
worker.on('message', (message) => console.log('the worker says', message));
worker.on('exit', (code) => console.log('the worker has ended with', code));

const server = net.createServer({ pauseOnConnect: true }, (socket) => {
  worker.send({ from: 'a client' }, socket);
});
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1', () => {
  console.log('listening on port', server.address().port);
});
process.on('SIGTERM', () => {
  server.close();
  worker.disconnect();
});
