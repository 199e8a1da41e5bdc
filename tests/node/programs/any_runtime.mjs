// Sends everything back, in any runtime that has Node's child_process.
import process from 'node:process';

process.on('message', (message, handle) => {
  if (message === 'exit 3') process.exit(3);
  if (handle) process.send({ message, kind: handle.constructor.name }, handle);
  else process.send(message);
});
