// Parts of the SDK for Node.js that need no other process; run by test_node.py.

import assert from "node:assert/strict";
import net from "node:net";
import { mkdtemp } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import test from "node:test";

const { Attachment, Call, Component, ComponentError, Watch } = await import(process.env.SDK);

/** A component on a socket of its own, and the lines it writes. */
async function connected() {
  const folder = await mkdtemp(path.join(os.tmpdir(), "sdk-"));
  const file = path.join(folder, "s");
  const writes = [];
  const server = net.createServer().listen(file);
  const accepted = new Promise((resolve) => server.once("connection", resolve));
  process.env.PAAS_SOCKET = file;
  const component = new Component();
  component.connect();
  const socket = await accepted;
  socket.on("data", (data) => writes.push(String(data)));
  const until = async (condition) => {
    while (!condition()) await new Promise((go) => setTimeout(go, 5));
  };
  const lines = () => writes.join("").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const end = () => {
    socket.destroy();
    server.close();
  };
  return { component, socket, writes, lines, until, end };
}

test("outside of the platform it says so", () => {
  delete process.env.PAAS_SOCKET;
  delete process.env.PAAS_FD;
  assert.throws(() => new Component().connect(), /runs as a component only/);
});

test("what is asked in one turn is written together", async () => {
  const { component, writes, lines, until, end } = await connected();
  await until(() => writes.length > 0);
  const before = writes.length;
  const asked = Array.from({ length: 50 }, () => component.call("x", "y").catch(() => {}));
  await until(() => lines().length === 50);
  assert.equal(writes.length, before + 1);
  end();
  await Promise.all(asked);
});

test("messages in pieces, characters cut in two", async () => {
  const { component, socket, lines, until, end } = await connected();
  component.operation("echo", (inputs) => inputs);
  const params = { operation: "echo", inputs: { text: "ä€😀" } };
  const line = JSON.stringify({ jsonrpc: "2.0", id: 5, method: "component.invoke", params });
  for (const byte of Buffer.from(line + "\n")) {
    socket.write(Buffer.from([byte]));
    await new Promise((go) => setImmediate(go));
  }
  await until(() => lines().length === 1);
  assert.deepEqual(lines()[0].result, { outputs: { text: "ä€😀" } });
  end();
});

test("a message that is too long is refused, and others are not", async () => {
  const { component, end } = await connected();
  const long = "x".repeat(5 << 20);
  await assert.rejects(component.call("x", "y", { long }), { code: "limit-exceeded" });
  end();
});

test("an answer that is too long is an error", async () => {
  const { component, socket, lines, until, end } = await connected();
  component.operation("long", () => "x".repeat(5 << 20));
  const params = { operation: "long" };
  socket.write(JSON.stringify({ id: 1, method: "component.invoke", params }) + "\n");
  await until(() => lines().length === 1);
  assert.equal(lines()[0].error.data.code, "limit-exceeded");
  end();
});

test("the end of the channel ends what waits", async () => {
  const { component, end } = await connected();
  const asked = component.call("x", "y");
  end();
  await assert.rejects(asked, { code: "unknown-outcome" });
});

test("who does not keep up with a watch learns how many events were dropped", async () => {
  const watch = new Watch({ unwatch: async () => watch.end() });
  for (let n = 0; n < 10_005; n += 1) watch.put({ n, index: n });
  let last = null;
  for await (const event of watch) {
    last = event;
    if (event.event === "gap") break;
  }
  assert.deepEqual(last, { watch: 0, event: "gap", index: 0, dropped: 5 });
});

test("errors keep code and data over the wire", () => {
  const error = new ComponentError("refused", "no", { retry: 5 });
  const again = ComponentError.fromRpc(error.toRpc());
  assert.deepEqual([again.code, again.message, again.data], ["refused", "no", { retry: 5 }]);
});

test("an attachment is saved to a file", async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), "sdk-"));
  const item = new Attachment(null, { name: "a", data: Buffer.from("abc").toString("base64") });
  await item.save(path.join(folder, "a"));
  const again = await new Component().attach(path.join(folder, "a"));
  assert.deepEqual([again.name, String(again.data)], ["a", "abc"]);
});

test("a call that nobody cancels makes no signal", () => {
  const call = new Call({ operation: "x" }, null);
  assert.equal(call.cancelled, false);
  call.cancel();
  assert.equal(call.signal.aborted, true);
});

test("an error that cannot be said is answered all the same", async () => {
  const { component, socket, lines, until, end } = await connected();
  component.operation("big", async () => {
    throw new ComponentError("odd", "it is odd", { n: 1n });
  });
  component.operation("long", async () => {
    throw new Error("x".repeat(5 << 20));
  });
  for (const [id, operation] of ["big", "long"].entries()) {
    const message = { id, method: "component.invoke", params: { operation } };
    socket.write(JSON.stringify(message) + "\n");
  }
  await until(() => lines().length === 2);
  const codes = lines().map((line) => line.error.data.code);
  assert.deepEqual(codes.sort(), ["failed", "odd"]);
  end();
});

test("what can be awaited is awaited, whoever made it", async () => {
  const { component, socket, lines, until, end } = await connected();
  component.operation("later", () => ({ then: (done) => setTimeout(() => done(7), 1) }));
  socket.write('{"id":1,"method":"component.invoke","params":{"operation":"later"}}\n');
  await until(() => lines().length === 1);
  assert.deepEqual(lines()[0].result, { outputs: 7 });
  end();
});

test("a signal that outlives its calls keeps nothing of them", async () => {
  const { component, socket, lines, until, end } = await connected();
  const controller = new AbortController();
  const { signal } = controller;
  let listening = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...given) => {
    listening += 1;
    addEventListener.apply(signal, given);
  };
  signal.removeEventListener = (...given) => {
    listening -= 1;
    removeEventListener.apply(signal, given);
  };
  const asked = Array.from({ length: 20 }, () => component.call("x", "y", {}, { signal }));
  await until(() => lines().length === 20);
  for (const { id } of lines()) socket.write(JSON.stringify({ id, result: { outputs: id } }) + "\n");
  await Promise.all(asked);
  assert.equal(listening, 0);
  const cancelled = component.call("x", "y", {}, { signal });
  controller.abort();
  await assert.rejects(cancelled, { code: "cancelled" });
  end();
});

test("a file that cannot be written is an error, not the end of the program", async () => {
  let answers = 0;
  const blobs = {
    request: async () => {
      await new Promise((go) => setTimeout(go, 20));
      answers += 1;
      return { data: "AAAA", eof: answers > 3 };
    },
  };
  const item = new Attachment(blobs, { name: "a", blob: "ff", size: 9, node: "n", key: "k" });
  await assert.rejects(item.save("/nowhere/at/all"), { code: "ENOENT" });
});

test("whoever is told a configuration may fail, or ask for it", async () => {
  const { component, socket, lines, until, end } = await connected();
  const told = [];
  component.onConfigure(async (configuration) => {
    told.push([configuration, await component.configuration()]);
    throw new Error("no");
  });
  for (const n of [1, 2, 3]) {
    const params = { configuration: { n } };
    socket.write(JSON.stringify({ id: n, method: "component.configure", params }) + "\n");
  }
  await until(() => lines().length === 3 && told.length === 2);
  assert.deepEqual(told.at(-1), [{ n: 3 }, { n: 3 }]);
  end();
});

test("what the harness does not read is bounded", async () => {
  const { component, socket, end } = await connected();
  socket.pause();
  const text = "x".repeat(100_000);
  const asked = Array.from({ length: 240 }, () => component.call("x", "y", { text }).catch(String));
  asked.push(...Array.from({ length: 9 }, () => component.tell("x", "y", { text }).catch(String)));
  for (let n = 0; n < 240; n += 1) component.log(text);
  await new Promise((go) => setTimeout(go, 300));
  const waiting = component.unsentBytes;
  assert.ok(waiting <= (8 << 20) + 200_000, String(waiting));
  end();
  const said = await Promise.all(asked);
  assert.ok(said.every((one) => /closed/.test(String(one))), String(said[0]));
});

test("half a character and too much nesting are errors of the program", async () => {
  const { component, end } = await connected();
  for (const text of ["\ud83d", "\\\ud83d", "a\udc00\ud83d"]) {
    await assert.rejects(component.call("x", "y", { text }), { code: "failed" });
  }
  let value = "[".repeat(100);
  for (let n = 0; n < 31; n += 1) value = [value, "]}"];
  await assert.rejects(component.call("x", "y", value), { code: "limit-exceeded" });
  const asked = component.call("x", "y", { text: "\\ud83d \u{1f600}", value: value[0][0] });
  end();
  await assert.rejects(asked, { code: "unknown-outcome" });
});

test("a watch that nobody waited for is left", async () => {
  const { component, socket, lines, until, end } = await connected();
  const controller = new AbortController();
  const { signal } = controller;
  const asked = component.request("hub.watch", { group: "g" }, { signal });
  await until(() => lines().length === 1);
  controller.abort();
  await assert.rejects(asked, { code: "cancelled" });
  const result = { watch: 3, snapshot: [], index: 0 };
  socket.write(JSON.stringify({ id: lines()[0].id, result }) + "\n"); // too late
  await until(() => lines().some(({ method }) => method === "hub.unwatch"));
  assert.deepEqual(lines().at(-1).params, { watch: 3 });
  end();
});
