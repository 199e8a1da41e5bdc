// The Node child of the demo, as one is written for child_process.fork(): it does not know that
// its parent is none of Node's.
process.on('message', (message, socket) => {
  if (socket) {
    socket.end(`answered by Node ${process.version}, ${process.pid}\n`);
  } else {
    process.send({ text: message.text.toUpperCase(), pid: process.pid });
  }
});
