// What `words.py` and `workers.py` say, for Node: the roles are named by the first argument.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const { crc32 } = require('node:zlib');

class Sum {
  count = 0;
  crc = 0;

  add([number, check, text]) {
    assert.strictEqual(number, this.count, 'another one came');
    assert.strictEqual(crc32(text), check, 'it is not what was sent');
    this.count++;
    this.crc = crc32(text, this.crc);
  }

  told() {
    return [this.count, this.crc];
  }
}

const SIZES = [[100000, 1000000], [1000, 65536], [20, 4000], [1, 120]];
let text = '';
for (let each = 0; each < 4096; each++) {
  text += String.fromCharCode(33 + (7 * each * each + Math.floor(each / 90)) % 90);
}
const TEXT = text.repeat(300);

function messageOf(number) {
  const most = SIZES.find(([every]) => number % every === every - 1)[1];
  const start = number * 31 % 4096;
  const content = TEXT.slice(start, start + number * 7919 % most);
  return [number, crc32(content), content];
}

function filler(number, size) {
  return String(number).padEnd(8).repeat(Math.floor(size / 8)) + '.'.repeat(size % 8);
}

function sendBack() {
  const heard = new Sum();
  process.on('message', (message, handle) => {
    if (Array.isArray(message)) {
      heard.add(message);
      process.send(message, handle);
    } else if (message.do === 'sum') {
      process.send(heard.told());
    } else if (message.do === 'fail') {
      throw new Error('as it was told');
    } else if (message.do === 'exit') {
      process.exit(0);
    } else {
      process.kill(process.pid, message.do);
    }
  });
}

function sendLarge(size, count) {
  let heard = 0;
  process.on('message', (message) => {
    assert(message === filler(heard, size), `${heard} is not it`);
    if (++heard === count) process.send('all of them');
  });
  for (let number = 0; number < count; number++) process.send(filler(number, size));
}

// Both at once, as fast as the channel takes it, until told to stop.
function sendAndReceive() {
  const heard = new Sum();
  const told = new Sum();
  let stopped = false;
  const send = () => {
    if (stopped) return;
    const message = messageOf(told.count);
    told.add(message);
    process.send(message, undefined, undefined, () => setImmediate(send));
  };
  send();
  process.on('message', (message) => {
    if (Array.isArray(message)) {
      heard.add(message);
    } else if (message.do === 'pause') {
      fs.readSync(0, Buffer.alloc(100));
    } else {
      stopped = true;
      process.send({ heard: heard.told(), told: told.told(), cpu: 0 });
    }
  });
}

const ROLES = { sendBack, sendLarge, sendAndReceive };
ROLES[process.argv[2]](...process.argv.slice(3).map(Number));
