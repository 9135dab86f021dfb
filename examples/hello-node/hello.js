"use strict";
// A component in Node.js without any package: JSON lines on the socket named in PAAS_SOCKET.

const net = require("node:net");
const readline = require("node:readline");

const operations = {
  greet({ name = "world" }) {
    if (typeof name !== "string") throw new RangeError("name: expected a string");
    log("info", `greeting ${name}`);
    return { text: `Hello, ${name}!`, pid: process.pid, node: process.version };
  },
};

const socket = net.createConnection(process.env.PAAS_SOCKET);
const send = (message) => socket.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
const log = (level, message) => console.log(JSON.stringify({ level, message }));

function error(code, message) {
  return { code: -32000, message, data: { code } };
}

const handlers = {
  "component.invoke"({ operation, inputs }) {
    const run = Object.hasOwn(operations, operation) ? operations[operation] : null;
    if (run === null) throw error("no-such-operation", `no operation ${operation}`);
    return { outputs: run(inputs ?? {}) };
  },
  "component.configure"() {
    return {};
  },
  "component.terminate"() {
    setImmediate(() => socket.end());
    return { accepted: true };
  },
};

function answer({ id, method, params }) {
  const handler = handlers[method];
  if (method === undefined || handler === undefined) {
    if (id !== undefined && method !== undefined) {
      send({ id, error: { code: -32601, message: `no method ${method}` } });
    }
    return;
  }
  try {
    const result = handler(params ?? {});
    if (id !== undefined) send({ id, result });
  } catch (problem) {
    const told = problem instanceof Error ? error("failed", problem.message) : problem;
    if (id !== undefined) send({ id, error: told });
  }
}

socket.on("connect", () => send({ id: 1, method: "component.ready" }));
socket.on("close", () => process.exit(0));
readline.createInterface({ input: socket }).on("line", (line) => answer(JSON.parse(line)));
