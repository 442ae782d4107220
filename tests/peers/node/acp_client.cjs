// A foreign ACP client on the TypeScript SDK (it works from CommonJS); see lines.cjs for how it is driven.
const { Client } = require('acp-sdk');
const { serve } = require('./lines.cjs');

function clientFor({ url, session, traceparent }) {
  const withTrace = (input, init) => {
    const headers = new Headers(init?.headers);
    if (traceparent) headers.set('traceparent', traceparent);
    return fetch(input, { ...init, headers });
  };
  return new Client({ baseUrl: url, sessionId: session, fetch: withTrace });
}

async function perform(command, seen, signal) {
  const client = clientFor(command);
  const message = { role: 'user', parts: command.parts ?? [] };
  switch (command.op) {
    case 'agents':
      return client.agents();
    case 'agent':
      return client.agent(command.agent);
    case 'sync':
      return client.runSync(command.agent, [message]);
    case 'stream':
      for await (const event of client.runStream(command.agent, [message], signal)) seen(event);
      return null;
    case 'resume': {
      const resume = { type: 'message', message };
      for await (const event of client.runResumeStream(command.run, resume)) seen(event);
      return null;
    }
    case 'status':
      return client.runStatus(command.run);
    case 'async':
      return client.runAsync(command.agent, [message]);
    case 'events':
      for (const event of await client.runEvents(command.run)) seen(event);
      return null;
    case 'cancel':
      return client.runCancel(command.run);
    default:
      throw new Error(`unknown op ${command.op}`);
  }
}

serve(perform, (error) => ({ code: error.error?.code ?? error.code, data: error.error }));
