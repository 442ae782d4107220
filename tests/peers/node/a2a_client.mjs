// A foreign A2A client on the JavaScript SDK; see lines.cjs for how it is driven.
import {
  AgentCard,
  CancelTaskRequest,
  GetTaskRequest,
  Message,
  SendMessageRequest,
  StreamResponse,
  SubscribeToTaskRequest,
  Task,
} from '@a2a-js/sdk';
import {
  ClientFactory,
  DefaultAgentCardResolver,
  JsonRpcTransportFactory,
  RestTransportFactory,
} from '@a2a-js/sdk/client';
import { serve } from './lines.cjs';

const factories = {};
const clients = {};

function factory(binding) {
  return (factories[binding] ??= new ClientFactory({
    transports: [new JsonRpcTransportFactory(), new RestTransportFactory()],
    preferredTransports: [binding],
    cardResolver: new DefaultAgentCardResolver(),
  }));
}

async function perform(command, seen, signal) {
  const { op, url, binding = 'JSONRPC', traceparent } = command;
  if (op === 'card') return AgentCard.toJSON(await new DefaultAgentCardResolver().resolve(url));
  const client = await (clients[`${binding} ${url}`] ??= factory(binding).createFromUrl(url));
  const options = { signal, ...(traceparent ? { serviceParameters: { traceparent } } : {}) };
  const { task: id } = command;
  if (op === 'get') return Task.toJSON(await client.getTask(GetTaskRequest.fromJSON({ id }), options));
  if (op === 'cancel') return Task.toJSON(await client.cancelTask(CancelTaskRequest.fromJSON({ id }), options));
  if (op === 'subscribe') {
    const events = client.resubscribeTask(SubscribeToTaskRequest.fromJSON({ id }), options);
    for await (const event of events) seen(StreamResponse.toJSON(event));
    return null;
  }
  const request = SendMessageRequest.fromJSON(command.request);
  if (op === 'stream') {
    for await (const event of client.sendMessageStream(request, options)) seen(StreamResponse.toJSON(event));
    return null;
  }
  if (op === 'send') {
    const result = await client.sendMessage(request, options);
    const value = result.payload?.value ?? result;
    return 'role' in value ? { message: Message.toJSON(value) } : { task: Task.toJSON(value) };
  }
  throw new Error(`unknown op ${op}`);
}

serve(perform, (error) => ({ code: error.envelopeCode ?? error.code, data: error.data }));
