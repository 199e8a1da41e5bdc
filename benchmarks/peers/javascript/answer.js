// Answers one request on a connection, and ends it.

'use strict';

module.exports = (socket, answer) => {
  socket.on('error', () => {}); // the client is gone as soon as it has its answer
  socket.once('data', () => socket.end(answer));
  socket.resume();
};
