// The official `openai` package for Node against a running gateway: only baseURL and apiKey differ.
// Runs every case and prints one JSON line for each; tests/sdk/test_openai_npm.py judges them.

import OpenAI from "openai";

const { PATCHBAY_URL, KEYS } = process.env;
const keys = JSON.parse(KEYS);
const SAY_HELLO = "Say hello to the switchboard, please.";
const QUESTION = [{ role: "user", content: SAY_HELLO }];
const WEATHER = [{ role: "user", content: "Use get_weather for Uppsala." }];
const TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city",
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  },
];
const DIALECTS = ["lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"];

const connect = (apiKey) =>
  new OpenAI({ baseURL: `${PATCHBAY_URL}/api/v1`, apiKey, maxRetries: 0, timeout: 20_000 });
const client = connect(keys.chat);
const faulty = (fault) => ({ headers: { "x-sandbox-fault": fault } });
const ask = (body, options) =>
  client.chat.completions.create({ model: "lab-chat", messages: QUESTION, ...body }, options);

async function collected(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

async function toolsThereAndBack(model) {
  const first = await ask({ model, messages: WEATHER, tools: TOOLS, tool_choice: "required" });
  const { message } = first.choices[0];
  const result = {
    role: "tool",
    tool_call_id: message.tool_calls[0].id,
    content: '{"temperature_c": "4"}',
  };
  const second = await ask({ model, messages: [...WEATHER, message, result], tools: TOOLS });
  return { first, second };
}

async function joinedByTheHelper() {
  const stream = client.chat.completions.stream({ model: "lab-chat", messages: QUESTION });
  return { text: await stream.finalContent(), usage: await stream.totalUsage() };
}

async function untilLimited() {
  const frugal = connect(keys.frugal);
  for (let call = 0; call < 4; call++)
    await frugal.chat.completions.create({ model: "lab-chat", messages: QUESTION });
}

const forEachDialect = (name, run) =>
  Object.fromEntries(DIALECTS.map((model) => [`${name} ${model}`, () => run(model)]));

const CASES = {
  ...forEachDialect("chat", (model) => ask({ model })),
  ...forEachDialect("stream", async (model) =>
    collected(await ask({ model, stream: true, stream_options: { include_usage: true } })),
  ),
  ...forEachDialect("tools", toolsThereAndBack),
  ...forEachDialect("streamed tools", async (model) =>
    collected(
      await ask({ model, messages: WEATHER, tools: TOOLS, tool_choice: "required", stream: true }),
    ),
  ),
  ...forEachDialect("response", (model) => client.responses.create({ model, input: SAY_HELLO })),
  ...forEachDialect("streamed response", async (model) =>
    collected(await client.responses.create({ model, input: SAY_HELLO, stream: true })),
  ),
  "response helper": async () =>
    client.responses.stream({ model: "lab-chat", input: SAY_HELLO }).finalResponse(),
  "stream helper": joinedByTheHelper,
  "JSON mode": () => ask({ model: "lab/gpt-x", response_format: { type: "json_object" } }),
  embeddings: async () => {
    const request = { model: "text-embedding-3-small", input: ["one", "two"] };
    return {
      packed: await client.embeddings.create(request),
      plain: await client.embeddings.create({ ...request, encoding_format: "float" }),
    };
  },
  models: () => collected(client.models.list()),
  model: () => client.models.retrieve("lab/gpt-x"),
  "request id": async () => {
    const { data, request_id } = await ask({}).withResponse();
    return { id: data.id, request_id };
  },
  "wrong key": () => connect("pb_test_nonsense").models.list(),
  "missing scope": () =>
    connect(keys.finance).chat.completions.create({ model: "lab-chat", messages: QUESTION }),
  "passed limit": untilLimited,
  malformed: () => ask({ messages: "hello" }),
  "unknown model": () => ask({ model: "no-such-model" }),
  "everything down": () => ask({}, faulty("status=500")),
  "cut stream": async () =>
    collected(await ask({ model: "lab/gpt-x", stream: true }, faulty("cut_after=2"))),
};

function told(error) {
  return {
    class: error.constructor.name,
    ancestry: ["OpenAIError", "APIError"].filter((name) => error instanceof OpenAI[name]),
    status: error.status ?? null,
    code: error.code ?? null,
    param: error.param ?? null,
    requestId: error.requestID ?? null,
    retryAfter: error.headers?.get?.("retry-after") ?? null,
    message: error.message,
  };
}

for (const [name, run] of Object.entries(CASES)) {
  const line = await run().then(
    (value) => ({ case: name, value }),
    (error) => ({ case: name, error: told(error) }),
  );
  console.log(JSON.stringify(line));
}
