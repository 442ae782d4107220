// JSON lines: a command {"id", "op", …} from stdin; answers with its id to stdout:
// {"id", "at", "event"} for each event as it arrives, `at` being the monotonic clock in seconds, then
// {"id", "done": result} or {"id", "error": {"code", "message"}}. Commands run side by side; "drop" ends the
// one that it names as its "target".
const { createInterface } = require('node:readline');

const put = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const running = {};

exports.serve = function (perform, describe) {
  createInterface({ input: process.stdin }).on('line', async (line) => {
    const command = JSON.parse(line);
    const { id } = command;
    const seen = (event) => put({ id, at: Number(process.hrtime.bigint()) / 1e9, event });
    const controller = (running[id] = new AbortController());
    try {
      if (command.op === 'drop') running[command.target].abort();
      const result = command.op === 'drop' ? null : await perform(command, seen, controller.signal);
      put({ id, done: result ?? null });
    } catch (error) {
      put({ id, error: { name: error.constructor?.name, message: error.message, ...describe(error) } });
    } finally {
      delete running[id];
    }
  });
  put({ ready: true });
};
