// The probe of the SDK's tests, in Node.js; the SDK's file is named on the command line.

const { Component, ComponentError, Result } = await import(process.argv[2]);

const probe = new Component();
const heard = [];
const changes = [];

probe.operation("echo", (inputs) => inputs);
probe.operation("ask", async (inputs) => ({
  got: await probe.call("group:b", "get", inputs, { timeout: 5 }),
}));
probe.operation("tell_browser", async (_, call) => {
  await probe.push(call.sender, "c1", "hi");
  await probe.push(call.sender, "c1", "", { kind: "binary", data: Buffer.from([0]) });
  return probe.push(call.sender, "c1", "", { kind: "close", code: 1001, reason: "later" });
});
probe.operation("wait", (_, call) => {
  probe.log("waiting");
  return new Promise((_, reject) => {
    call.signal.addEventListener("abort", () => reject(call.signal.reason));
  });
});
probe.operation("impatient", async () => {
  try {
    return await probe.call("group:slow", "get", {}, { signal: AbortSignal.timeout(50) });
  } catch (error) {
    return { code: error.code };
  }
});
probe.operation("follow", async () => {
  const watch = await probe.watch({ group: "g", since: 7 });
  const found = [];
  for await (const event of watch) {
    found.push(event.n);
    if (found.length === 3) break;
  }
  return { snapshot: watch.snapshot, events: found };
});
probe.operation("listen", async () => {
  const hear = async (event) => {
    await new Promise((go) => setTimeout(go, 1));
    heard.push(event.n);
  };
  return (await probe.watch({ components: true }, hear)).number;
});
probe.operation("hearing", () => heard);
probe.operation("paint", async () => {
  probe.attributes().colour = "blue";
  const volatile = probe.attributes({ kind: "volatile" });
  volatile.wet = true;
  delete volatile.wet;
  await probe.setAttributes({ layers: 2 }, { expect: { layers: null } });
  const { attributes } = await probe.getAttributes("", { names: ["colour"] });
  return { colour: attributes.colour, signal: await probe.signal("dry", { n: 1 }) };
});
probe.operation("send_large", async () => {
  const item = await probe.attach(Buffer.alloc(3 << 20, "x"), { name: "big", type: "text/plain" });
  const answer = await probe.callWhole("group:b", "take", {}, { attachments: [item] });
  return { item, back: (await answer.attachments[0].read()).toString() };
});
probe.operation("measure", async (_, call) => {
  const sizes = [];
  for (const item of call.attachments) sizes.push((await item.read()).length);
  return new Result({ sizes });
});
probe.operation("copy", async (_, call) => {
  const data = (await call.attachments[0].read()).reverse();
  return new Result({}, [{ name: "c", type: "t", data }]);
});
probe.operation("take", (inputs, call) => {
  if (inputs.bad) throw new ComponentError("reject", "bad order");
  return call.message;
});
probe.operation("break_down", () => {
  const error = new Error("it broke");
  error.name = "ValueError";
  throw error;
});
probe.operation("deep", ({ depth }) => {
  let value = 0;
  for (let n = 0; n < depth; n += 1) value = [value];
  return value;
});
probe.operation("half_a_character", () => ({ text: "\ud83d" }));
probe.operation("fail_oddly", async () => {
  throw new ComponentError("odd", "it is odd", { why: 1n });
});
probe.operation("send_plainly", () => {
  return new Result({}, [{ name: "b", type: "t", data: Buffer.alloc(2 << 20, "x") }]);
});
probe.operation("wait_wrapped", (_, call) => ({
  then(_done, fail) {
    probe.log("waiting");
    call.signal.addEventListener("abort", () => fail(call.signal.reason));
  },
}));
let openGate;
const gate = new Promise((resolve) => (openGate = resolve));
const late = [];
probe.operation("listen_late", async () => {
  const hear = async (event) => {
    await gate;
    late.push(event);
  };
  return (await probe.watch({ group: "late" }, hear)).number;
});
probe.operation("open_gate", () => openGate());
probe.operation("heard_late", () => [late.length, late.slice(-1)]);
probe.operation("tell_many", async () => {
  for (let n = 0; n < 300; n += 1) await probe.tell("group:b", "note", { n });
});
probe.operation("configured_as", async () => ({ now: await probe.configuration(), changes }));
probe.onConfigure((configuration) => changes.push(configuration));
probe.object("cart", {
  add: (_, call) => ({ object: call.object, sender: call.sender.slice(0, 4) }),
});
probe.onTerminate((reason) => {
  if (reason === "no") throw new ComponentError("refused", "not yet");
});

await probe.join("probes");
await probe.run();
