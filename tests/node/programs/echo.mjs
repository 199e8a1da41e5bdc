// An ES module, as a child and as a parent.
import assert from 'node:assert';
import { fork } from 'node:child_process';
import { once } from 'node:events';

if (process.argv[2] === 'parent') {
  const child = fork(process.argv[4], ['echo'], { execPath: process.argv[3], execArgv: [] });
  const exit = once(child, 'exit');
  child.send('echo this');
  assert.deepStrictEqual((await once(child, 'message'))[0], 'echo this');
  child.disconnect();
  assert.deepStrictEqual(await exit, [0, null]);
  console.log('done');
} else {
  process.on('message', (message) => process.send(message));
}
