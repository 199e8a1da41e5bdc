process.on('message', (message, socket) => {
  if (socket) {
    socket.end(`${message.greeting}, from Node ${process.version}\n`);
  } else {
    process.send({ sorted: message.numbers.sort((a, b) => a - b) });
  }
});
