// Write a component of the platform in Node.js: one file, no packages, from Node 18 on.
//
//     import { Component } from "./paas-component.mjs";
//
//     const component = new Component();
//     component.operation("greet", ({ name }) => ({ text: `Hello, ${name}!` }));
//     await component.run();
//
// An operation is `(inputs, call) => outputs`, plain or async; what it throws becomes the error
// `failed`, or the code of a ComponentError. `call.signal` is an AbortSignal that fires when nobody
// wants the answer any more. `await component.call("group:store", "get", {})` asks another
// component. What is asked in one turn of the event loop is written together.
// The wire: JSON-RPC 2.0, one object a line, on PAAS_SOCKET or the descriptor PAAS_FD.

import { AsyncLocalStorage } from "node:async_hooks";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

const DEFAULT_TIMEOUT_S = 30;
const ANSWER_MARGIN_S = 2;
const DRAIN_MS = 5_000;
const MESSAGE_BYTES_MAX = 4 << 20;
const INLINE_BYTES_MAX = 1 << 20;
const PIECE_BYTES = 1 << 20;
const NESTING_MAX = 32;
const OPENING = new Set(["hub.watch", "controller.monitor", "log.follow"]);
const OPENINGS_MAX = 1_000;
const WATCH_EVENTS_MAX = 10_000;
const WATCH_BYTES_MAX = 16 << 20;
const WAITING_OPERATIONS_MAX = 10_000;
const WAITING_BYTES_MAX = 32 << 20;
const UNSENT_BYTES_MAX = 8 << 20;
const TOLD_MAX = 256;
const TOLD_BYTES_MAX = 262_144;
const OURS = -32000;
const NO_SUCH_METHOD = -32601;

/** An error with a code of the platform: answered by others, or to be answered to a caller. */
export class ComponentError extends Error {
  constructor(code, message = "", data = {}) {
    super(message || code);
    this.name = "ComponentError";
    this.code = code;
    this.data = data;
  }

  toRpc() {
    return { code: OURS, message: this.message, data: { ...this.data, code: this.code } };
  }

  static fromRpc(error) {
    const { code = "failed", ...data } = error.data ?? {};
    return new ComponentError(String(code), String(error.message ?? ""), data);
  }
}

/** Outputs with attachments: what `attach` made, or objects with `name`, `type`, `data`. */
export class Result {
  constructor(outputs = {}, attachments = []) {
    this.outputs = outputs;
    this.attachments = attachments;
  }
}

/** One attachment: `name`, `type`, and `data` (a Buffer) or the place of its blob. */
export class Attachment {
  #component;

  constructor(component, item) {
    this.#component = component;
    Object.assign(this, item);
    if (typeof item.data === "string") this.data = Buffer.from(item.data, "base64");
  }

  /** All of it, as a Buffer. */
  async read() {
    const pieces = [];
    for await (const piece of this.pieces()) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  /** Piece by piece. */
  async *pieces() {
    if (this.blob === undefined) {
      yield this.data ?? Buffer.alloc(0);
      return;
    }
    const { blob, node, key } = this;
    for (let offset = 0, eof = false; !eof; ) {
      const params = { blob, node, key, offset, size: PIECE_BYTES };
      const answer = await this.#component.request("blob.read", params);
      const piece = Buffer.from(answer.data, "base64");
      offset += piece.length;
      eof = answer.eof === true || piece.length === 0;
      yield piece;
    }
  }

  /** Write it to a file. */
  async save(file) {
    await pipeline(Readable.from(this.pieces()), createWriteStream(file));
  }
}

/** What an operation can know about the call it answers. */
export class Call {
  #controller = null;
  #attachments = null;
  #params;

  constructor(params, component) {
    this.#params = params;
    this.component = component;
    this.operation = params.operation;
    this.object = params.object ?? "";
    this.inputs = params.inputs ?? {};
    this.sender = params.from ?? "";
    this.deadline = params.deadline ?? null;
    this.trace = params.trace ?? null;
    this.oneway = params.oneway === true;
    this.message = params.message ?? null;
  }

  get attachments() {
    const given = this.#params.attachments ?? [];
    this.#attachments ??= given.map((item) => new Attachment(this.component, item));
    return this.#attachments;
  }

  /** An AbortSignal: nobody wants the answer any more. */
  get signal() {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  get cancelled() {
    return this.#controller !== null && this.#controller.signal.aborted;
  }

  /** Which attempt this is of a message from a durable mailbox; 0 for ordinary calls. */
  get attempt() {
    return this.message?.attempt ?? 0;
  }

  cancel() {
    this.signal;
    this.#controller.abort(new ComponentError("cancelled"));
  }

  /** Seconds until nobody waits for the answer any more. */
  remaining() {
    return this.deadline === null ? DEFAULT_TIMEOUT_S : this.deadline - Date.now() / 1000;
  }
}

/**
 * A watch: `number`, `snapshot` (how it was at first), `index`, and events that the program has not
 * taken yet, in order and bounded: beyond that they are dropped, and once those that are here were
 * taken, one event `gap` says how many.
 */
class Backlog {
  #events = [];
  #bytes = 0;
  #dropped = 0;

  constructor(component) {
    this.component = component;
    this.ended = false;
    this.number = 0;
    this.index = 0;
    this.snapshot = null;
  }

  opened(answer) {
    Object.assign(this, { number: answer.watch, index: answer.index, snapshot: answer.snapshot });
  }

  /** Keep it; false if there is nothing more to be taken than before. */
  put(event, size = 0) {
    if (this.ended) return false;
    const waiting = this.#events.length;
    const full = waiting >= WATCH_EVENTS_MAX || this.#bytes + size > WATCH_BYTES_MAX;
    if (this.#dropped > 0 || (waiting > 0 && full)) {
      this.#dropped += 1;
      return this.#dropped === 1;
    }
    this.#events.push({ event, size });
    this.#bytes += size;
    return true;
  }

  /** What came before it was known whose it is. */
  adopt(early) {
    this.#events = early.#events;
    this.#bytes = early.#bytes;
    this.#dropped = early.#dropped;
  }

  /** The next event and its size, or what was dropped; null if there is nothing. */
  taken() {
    if (this.#events.length > 0) {
      const found = this.#events.shift();
      this.#bytes -= found.size;
      if (found.event.index) this.index = found.event.index;
      return found;
    }
    if (this.#dropped === 0) return null;
    const dropped = this.#dropped;
    this.#dropped = 0;
    return { event: { watch: this.number, event: "gap", index: 0, dropped }, size: 0 };
  }

  /** No more will come; what is here can be taken. */
  end() {
    this.ended = true;
  }

  /** The program wants no more of them. */
  forget() {
    this.#events.length = 0;
    this.#bytes = this.#dropped = 0;
    this.end();
  }

  async close() {
    if (!this.ended) await this.component.unwatch(this.number);
  }
}

/** Events for a callback, one after the other. */
class Told extends Backlog {
  #told;
  #running = false;

  constructor(component, told) {
    super(component);
    this.#told = told;
  }

  put(event, size) {
    if (!super.put(event, size)) return false;
    if (!this.#running) this.#run();
    return true;
  }

  adopt(early) {
    super.adopt(early);
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    await null; // not where messages are read
    for (let found = this.taken(); found !== null; found = this.taken()) {
      try {
        await this.#told(found.event);
      } catch (error) {
        console.error(error);
      }
    }
    this.#running = false;
  }
}

/** Events of a watch: `for await (const event of watch)`. */
export class Watch extends Backlog {
  #waiting = null;

  put(event, size) {
    const more = super.put(event, size);
    if (more) this.#waiting?.();
    return more;
  }

  end() {
    super.end();
    this.#waiting?.();
  }

  async *[Symbol.asyncIterator]() {
    try {
      while (true) {
        const found = this.taken();
        if (found !== null) {
          yield found.event;
        } else if (this.ended) {
          return;
        } else {
          await new Promise((resolve) => (this.#waiting = resolve));
          this.#waiting = null;
        }
      }
    } finally {
      await this.close().catch(() => {});
    }
  }
}

/** This program's connection to the platform. */
export class Component {
  #operations = new Map();
  #pending = new Map();
  #calls = new Map();
  #watches = new Map();
  #opening = 0;
  #openings = new Set();
  #early = new Map();
  #dropped = new Map();
  #told = 0;
  #toldBytes = 0;
  #out = [];
  #outBytes = 0;
  #waitsForRoom = [];
  #flushing = false;
  #parts = [];
  #lastId = 0;
  #running = 0;
  #runningBytes = 0;
  #socket = null;
  #closed = false;
  #sweeper = null;
  #traces = null;
  #onTerminate = null;
  #onConfigure = null;
  #configuration = {};
  #isConfigured = false;
  #configured;
  #telling = null;
  #setConfigured;
  #stopped;
  #stop;
  #exitStatus = 0;

  constructor() {
    this.id = process.env.PAAS_COMPONENT_ID ?? "";
    this.#configured = new Promise((resolve) => (this.#setConfigured = resolve));
    this.#stopped = new Promise((resolve) => (this.#stop = resolve));
  }

  // -- what the program says about itself ---------------------------------------------------------

  /** `run(inputs, call)` answers calls of this operation. */
  operation(name, run, { object = "" } = {}) {
    this.#operations.set(`${object}\0${name}`, run);
    return this;
  }

  /** Methods of `thing` (own, or of its class) answer calls of the object `name`; not `_these`. */
  object(name, thing) {
    for (let at = thing; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
      for (const word of Object.getOwnPropertyNames(at)) {
        const known = this.#operations.has(`${name}\0${word}`);
        const method = Object.getOwnPropertyDescriptor(at, word).value;
        if (word === "constructor" || word.startsWith("_") || known) continue;
        if (typeof method === "function") this.operation(word, method.bind(thing), { object: name });
      }
    }
    return this;
  }

  /** `decide(reason, inputs)` before the end: false, or a ComponentError, to stay. */
  onTerminate(decide) {
    this.#onTerminate = decide;
    return this;
  }

  /** `told(configuration)` whenever the configuration changes. */
  onConfigure(told) {
    this.#onConfigure = told;
    return this;
  }

  /** What the component was created with. */
  async configuration() {
    this.connect();
    await this.#configured;
    return this.#configuration;
  }

  /** Say `ready`, then answer calls until the component is to end. */
  async run() {
    this.connect();
    const onSignal = () => this.#stop();
    process.once("SIGTERM", onSignal);
    await this.request("component.ready");
    await this.#stopped;
    const end = Date.now() + DRAIN_MS;
    const busy = () => this.#running > 0 || (!this.#closed && this.unsentBytes > 0);
    while (busy() && Date.now() < end) await new Promise((go) => setTimeout(go, 10));
    process.off("SIGTERM", onSignal);
    clearInterval(this.#sweeper);
    if (!this.#closed) this.#socket.end();
    this.#socket.destroy();
    this.#lost();
    if (this.#exitStatus) process.exitCode = this.#exitStatus;
  }

  /** Let `run` return; a `status` other than 0 is the program's. */
  stop(reason = "", status = 0) {
    this.#exitStatus = status;
    if (this.#socket && !this.#closed) this.#notify("component.exit", { reason });
    this.#stop();
  }

  // -- what it asks of others ---------------------------------------------------------------------

  /** Ask a component (id, name or `group:<name>`); its outputs, or all replies. */
  async call(target, operation, inputs = {}, options = {}) {
    const answer = await this.callWhole(target, operation, inputs, options);
    return answer.replies ?? answer.outputs;
  }

  /** Everything the answer has. Options: object, selector, attachments, timeout, signal. */
  async callWhole(target, operation, inputs = {}, options = {}) {
    const { timeout = DEFAULT_TIMEOUT_S, signal } = options;
    const params = this.#callParams(target, operation, inputs, options);
    if (hasLarge(options.attachments)) {
      params.attachments = outgoing(await this.#uploaded(options.attachments));
    }
    const answer = await this.request("hub.call", params, { timeout, signal });
    for (const reply of [answer, ...(answer.replies ?? [])]) {
      reply.attachments = reply.attachments?.map((item) => new Attachment(this, item));
    }
    return answer;
  }

  /** Tell without waiting for an answer; to how many components it went. */
  async cast(target, operation, inputs = {}, options = {}) {
    return (await this.castWhole(target, operation, inputs, options)).accepted;
  }

  /** As `cast`; also `message`, the id of what a durable mailbox has taken. */
  async castWhole(target, operation, inputs = {}, options = {}) {
    const params = this.#callParams(target, operation, inputs, options);
    if (hasLarge(options.attachments)) {
      params.attachments = outgoing(await this.#uploaded(options.attachments));
    }
    if (options.id) params.id = options.id;
    return this.request("hub.cast", params);
  }

  /**
   * Say something to a browser, over a WebSocket or an answer that goes on; resolves when there is
   * room for it. `gateway` is the sender of the call that told the `connection`. Options: `data`
   * (bytes), `kind` (text, binary, close; body, end), `code` and `reason` of a close.
   */
  async push(gateway, connection, text = "", { data, kind = "text", code = 1000, reason = "" } = {}) {
    const inputs = { connection, kind };
    if (kind === "close") Object.assign(inputs, { code, reason });
    else if (text) inputs.text = text;
    const attachments = data === undefined ? undefined : [{ name: "data", data }];
    return this.call(gateway, "gateway.send", inputs, { attachments });
  }

  /**
   * A cast in a stream of casts: not each is confirmed. Now and then one waits until the hub has
   * handed it, and thus all before it, on. Attachments up to 1 MiB.
   */
  async tell(target, operation, inputs = {}, { object, selector, attachments } = {}) {
    const params = this.#callParams(target, operation, inputs, { object, selector });
    if (attachments?.length) params.attachments = outgoing(attachments);
    if (this.#told >= TOLD_MAX || this.#toldBytes >= TOLD_BYTES_MAX) {
      this.#told = this.#toldBytes = 0;
      await this.request("hub.cast", params);
      return;
    }
    this.connect();
    while (!this.#closed && this.unsentBytes > UNSENT_BYTES_MAX) await this.#room();
    if (this.#closed) throw new ComponentError("not-available", "the channel is closed");
    const trace = this.#traces?.getStore();
    const line = this.#line({ method: "hub.cast", params: trace ? { trace, ...params } : params });
    this.#told += 1;
    this.#toldBytes += line.length;
    this.#write(line);
  }

  #callParams(target, operation, inputs, { object, selector, attachments }) {
    const params = { target, operation, inputs };
    if (object) params.object = object;
    if (selector && selector !== "any") params.selector = selector;
    if (attachments?.length && !hasLarge(attachments)) params.attachments = outgoing(attachments);
    return params;
  }

  /** An attachment of bytes, of a file (its path), or of an iterable of pieces. */
  async attach(source, { name = "", type = "application/octet-stream" } = {}) {
    const words = { name, type };
    let pieces = source;
    if (typeof source === "string") {
      words.name ||= path.basename(source);
      pieces = createReadStream(source, { highWaterMark: PIECE_BYTES });
      if ((await stat(source)).size <= INLINE_BYTES_MAX) {
        const data = [];
        for await (const piece of pieces) data.push(piece);
        return new Attachment(this, { ...words, data: Buffer.concat(data) });
      }
    } else if (source instanceof Uint8Array) {
      if (source.length <= INLINE_BYTES_MAX) return new Attachment(this, { ...words, data: source });
      pieces = [source];
    }
    const { upload } = await this.request("blob.begin");
    let offset = 0;
    for await (const block of pieces) {
      for (let at = 0; at < block.length; at += PIECE_BYTES) {
        const piece = Buffer.from(block.subarray(at, at + PIECE_BYTES));
        const data = piece.toString("base64");
        await this.request("blob.append", { upload, offset, data });
        offset += piece.length;
      }
    }
    const { upload: _, ...place } = await this.request("blob.commit", { upload });
    return new Attachment(this, { ...words, ...place });
  }

  async #uploaded(attachments) {
    const found = [];
    for (const item of attachments) {
      const large = (item.data?.length ?? 0) > INLINE_BYTES_MAX;
      try {
        found.push(large ? await this.attach(item.data, item) : item);
      } catch (error) {
        if (error.code !== "no-such-method") throw error;
        found.push(item); // no blob store here: with the message, if it is not too long
      }
    }
    return found;
  }

  /** Join groups; positions, member counts and fencing tokens by group. */
  join(...groups) {
    return this.request("hub.join", { groups, unique: false });
  }

  /** Join a group only if it has no other member; else `conflict`. */
  joinAlone(group) {
    return this.request("hub.join", { groups: [group], unique: true });
  }

  leave(...groups) {
    return this.request("hub.leave", { groups });
  }

  /** The members of a group, in joining order. */
  async members(group, selector = "all") {
    return (await this.request("hub.members", { group, selector })).members;
  }

  async groups(prefix = "") {
    return (await this.request("hub.groups", { prefix })).groups;
  }

  /** Wait until a group has `count` available members: `{group, count}`, or `{name}`. */
  async awaitMembers({ timeout = DEFAULT_TIMEOUT_S, ...what }) {
    return (await this.request("hub.await", what, { timeout })).members;
  }

  /** Set attributes (null removes). Options: object, kind, expect, ttl. The index of the log. */
  async setAttributes(attributes, options = {}) {
    return (await this.request("hub.set_attributes", { attributes, ...options })).index;
  }

  /** Attributes of a component or group. Options: names, object, kind, aggregate. */
  getAttributes(target = "", options = {}) {
    return this.request("hub.get_attributes", { ...(target ? { target } : {}), ...options });
  }

  /**
   * Attributes by assignment: `component.attributes().queue = 3`; `delete` removes one, and
   * `await component.attributes().queue` reads one.
   */
  attributes({ object = "", kind = "durable" } = {}) {
    const tell = (name, value) => {
      this.setAttributes({ [name]: value }, { object, kind }).catch((error) => {
        console.error(`hub.set_attributes: ${error.code}: ${error.message}`);
      });
      return true;
    };
    const read = async (name) => {
      const { attributes } = await this.getAttributes("", { names: [name], object, kind });
      return attributes[name];
    };
    return new Proxy(
      {},
      {
        get: (_, name) => (typeof name === "string" && name !== "then" ? read(name) : undefined),
        set: (_, name, value) => tell(name, value),
        deleteProperty: (_, name) => tell(name, null),
      },
    );
  }

  /** Tell whoever watches this component's signals; how many watches there are. */
  async signal(signal, payload = null, { object = "" } = {}) {
    return (await this.request("hub.signal", { signal, payload, object })).watchers;
  }

  /**
   * Be told of changes: `{group}`, `{components: true}`, `{attributes: {target}}` or
   * `{signals: {target}}`, perhaps with `since`. With a callback, or to iterate over.
   */
  watch(what, told = null) {
    return this.#openWatch("hub.watch", what, told);
  }

  /** Be told once, with the reason, when a component ends. */
  monitor(component, told = null) {
    return this.#openWatch("controller.monitor", { component }, told);
  }

  async #openWatch(method, params, told) {
    const watch = told === null ? new Watch(this) : new Told(this, told);
    this.#opening += 1; // meanwhile, events of watches that are not known are kept
    try {
      watch.opened(await this.request(method, params));
      this.#watches.set(watch.number, watch);
      const early = this.#early.get(watch.number);
      this.#early.delete(watch.number);
      if (early !== undefined) watch.adopt(early);
      if (this.#closed) watch.end();
    } finally {
      this.#opening -= 1;
      if (this.#opening === 0) this.#early.clear();
    }
    return watch;
  }

  async unwatch(number) {
    this.#watches.get(number)?.forget();
    this.#watches.delete(number);
    await this.request("hub.unwatch", { watch: number });
  }

  configureGroup(group, settings = {}) {
    return this.request("hub.configure_group", { group, mailbox: "durable", ...settings });
  }

  /** A group and its mailbox; without a name, all that have one. */
  async group(group = "") {
    return (await this.request("hub.group", { group })).groups;
  }

  /** May this component call that operation, and why (`hub.allow`). */
  allowed(target, operation, { object = "" } = {}) {
    return this.request("hub.allow", { target, operation, object });
  }

  async deadLetters(group, { after = 0, limit = 100 } = {}) {
    return (await this.request("hub.dead_letters", { group, after, limit })).letters;
  }

  redeliver(group, ...messages) {
    return this.request("hub.redeliver", { group, messages, all: messages.length === 0 });
  }

  discard(group, ...messages) {
    return this.request("hub.discard", { group, messages, all: messages.length === 0 });
  }

  /** The end points of what the manifest requires under this name. */
  resolve(name) {
    return this.request("resource.resolve", { name });
  }

  unavailable(reason = "") {
    return this.request("component.unavailable", { reason });
  }

  available() {
    return this.request("component.available");
  }

  /** Write a structured record; level is debug, info, warning or error. */
  log(message, level = "info", fields = {}) {
    this.connect();
    if (this.unsentBytes > UNSENT_BYTES_MAX) {
      this.#countDropped("log record: the harness does not read");
    } else {
      this.#notify("log.write", { message, level, fields });
    }
  }

  /** Any method of the component API; its result. Options: timeout (s), signal (AbortSignal). */
  request(method, params = {}, { timeout, signal } = {}) {
    this.connect();
    if (this.#closed) return Promise.reject(new ComponentError("not-available", "it is closed"));
    if (this.unsentBytes > UNSENT_BYTES_MAX) {
      return this.#room().then(() => this.request(method, params, { timeout, signal }));
    }
    const id = (this.#lastId += 1);
    const given = timeout === undefined ? params : { ...params, timeout };
    const trace = this.#traces?.getStore();
    const message = { id, method, params: trace ? { trace, ...given } : given };
    if (OPENING.has(method)) {
      this.#openings.add(id);
      if (this.#openings.size > OPENINGS_MAX) this.#openings.delete(this.#openings.values().next().value);
    }
    const answer = new Promise((resolve, reject) => {
      const untilMs = Date.now() + ((timeout ?? DEFAULT_TIMEOUT_S) + ANSWER_MARGIN_S) * 1000;
      this.#pending.set(id, { resolve, reject, untilMs });
      try {
        this.#write(this.#line(message));
      } catch (error) {
        this.#pending.delete(id);
        throw error;
      }
    });
    if (signal === undefined) return answer;
    const abort = () => this.#giveUp(id, new ComponentError("cancelled"));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    return answer.finally(() => signal.removeEventListener("abort", abort));
  }

  #giveUp(id, error) {
    const waiting = this.#pending.get(id);
    if (waiting === undefined) return;
    this.#pending.delete(id);
    this.#notify("rpc.cancel", { id });
    waiting.reject(error);
  }

  #sweep() {
    const now = Date.now();
    for (const [id, { untilMs }] of this.#pending) {
      if (untilMs < now) this.#giveUp(id, new ComponentError("timeout", "no answer"));
    }
  }

  // -- connection ---------------------------------------------------------------------------------

  /** Open the channel; done by itself when it is needed. */
  connect() {
    if (this.#socket !== null) return;
    const { PAAS_SOCKET, PAAS_FD } = process.env;
    if (PAAS_SOCKET) this.#socket = net.createConnection(PAAS_SOCKET);
    else if (PAAS_FD) {
      this.#socket = new net.Socket({ fd: Number(PAAS_FD), readable: true, writable: true });
    } else {
      const text = "neither PAAS_SOCKET nor PAAS_FD is set: this runs as a component only";
      throw new ComponentError("not-available", text);
    }
    this.#socket.on("data", (data) => this.#receive(data));
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => this.#lost());
    this.#sweeper = setInterval(() => this.#sweep(), 1000);
    this.#sweeper.unref();
    this.#write("\n"); // tells the codec; the configuration comes back
  }

  #lost() {
    if (this.#closed) return;
    this.#closed = true;
    const gone = new ComponentError("unknown-outcome", "the channel was closed");
    for (const { reject } of this.#pending.values()) reject(gone);
    this.#pending.clear();
    for (const watch of this.#watches.values()) watch.end();
    for (const call of this.#calls.values()) call.cancel();
    this.#hasRoom();
    this.#stop();
  }

  #line(message) {
    const line = JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n";
    if (line.length > MESSAGE_BYTES_MAX / 4 && Buffer.byteLength(line) > MESSAGE_BYTES_MAX) {
      throw new ComponentError("limit-exceeded", "a message has 4 MiB at most");
    }
    if (isTooDeep(line)) {
      throw new ComponentError("limit-exceeded", `it is nested more than ${NESTING_MAX} deep`);
    }
    if (line.includes("\\ud") && LONE_SURROGATE.test(line)) {
      throw new ComponentError("failed", "a string has half a surrogate pair: it is no Unicode");
    }
    return line;
  }

  #write(line) {
    this.#out.push(line);
    this.#outBytes += line.length;
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => this.#flush());
  }

  #flush() {
    this.#flushing = false;
    if (this.#out.length === 0 || this.#closed) return;
    this.#socket.write(this.#out.join(""), () => this.#hasRoom());
    this.#out.length = this.#outBytes = 0;
  }

  /** Bytes (about) that the harness has not taken yet. */
  get unsentBytes() {
    return this.#outBytes + (this.#socket?.writableLength ?? 0);
  }

  /** Until the harness has taken most of what there is to be written. */
  #room() {
    return new Promise((go) => this.#waitsForRoom.push(go));
  }

  #hasRoom() {
    if (!this.#closed && this.unsentBytes > UNSENT_BYTES_MAX) return;
    for (const go of this.#waitsForRoom.splice(0)) go();
  }

  /** Nobody can be answered: say so in the log, each time that the number has doubled. */
  #countDropped(what) {
    const number = (this.#dropped.get(what) ?? 0) + 1;
    this.#dropped.set(what, number);
    if ((number & (number - 1)) === 0) console.error(`dropped ${number} times: ${what}`);
  }

  #notify(method, params) {
    this.connect();
    if (!this.#closed) this.#write(this.#line({ method, params }));
  }

  #receive(data) {
    const end = data.lastIndexOf(10) + 1;
    if (end === 0) {
      this.#parts.push(data);
      return;
    }
    const whole = Buffer.concat([...this.#parts, data.subarray(0, end)]);
    this.#parts = end < data.length ? [data.subarray(end)] : [];
    for (const line of whole.toString("utf8").split("\n")) {
      if (line === "") continue;
      try {
        this.#take(JSON.parse(line), line.length);
      } catch (error) {
        console.error(error);
      }
    }
  }

  #take(message, size) {
    const { id, method, params } = message;
    if (method === "component.invoke") this.#invoke(id, params, size);
    else if (method === undefined) this.#answered(message);
    else if (method === "component.event") this.#event(params, size);
    else if (method === "component.cancel") this.#calls.get(params.id)?.cancel();
    else if (method === "component.configure") this.#configure(id, params);
    else if (method === "component.terminate") this.#terminate(id, params ?? {});
    else if (id !== undefined) {
      const error = { code: NO_SUCH_METHOD, message: `no method is called ${method}` };
      this.#write(this.#line({ id, error }));
    }
  }

  #answered({ id, result, error }) {
    const waiting = this.#pending.get(id);
    const opening = this.#openings.delete(id);
    if (waiting === undefined) {
      // a watch may have been opened for somebody who did not wait for it
      if (opening && result?.watch !== undefined) this.unwatch(result.watch).catch(() => {});
      if (id === null) console.error("the harness could not read a message:", error);
      return;
    }
    this.#pending.delete(id);
    if (error !== undefined) waiting.reject(ComponentError.fromRpc(error));
    else waiting.resolve(result);
  }

  #event(event, size) {
    let target = this.#watches.get(event.watch) ?? this.#early.get(event.watch);
    if (target === undefined && this.#opening > 0) {
      target = new Backlog(this);
      target.number = event.watch;
      this.#early.set(event.watch, target);
    }
    target?.put(event, size);
  }

  #configure(id, params) {
    this.#configuration = params.configuration ?? {};
    const changed = this.#isConfigured;
    this.#isConfigured = true;
    this.#setConfigured();
    if (id !== undefined) this.#write(this.#line({ id, result: {} }));
    if (changed) this.#telling = this.#tellConfiguration(this.#telling, this.#configuration);
  }

  /** One after the other. */
  async #tellConfiguration(before, configuration) {
    await before;
    try {
      await this.#onConfigure?.(configuration);
    } catch (error) {
      console.error(error);
    }
  }

  async #terminate(id, { reason = "", inputs = {} }) {
    let result = { accepted: true, reason: "" };
    try {
      if ((await this.#onTerminate?.(reason, inputs)) === false) result.accepted = false;
    } catch (error) {
      if (error instanceof ComponentError) result = { accepted: false, reason: error.message };
      else console.error(error);
    }
    if (id !== undefined) this.#write(this.#line({ id, result }));
    if (result.accepted) this.#stop();
  }

  // -- operations ---------------------------------------------------------------------------------

  #invoke(id, params, size) {
    const call = new Call(params, this);
    const run = this.#operations.get(`${call.object}\0${call.operation}`);
    if (run === undefined) {
      const names = [...this.#operations.keys()].map((key) => key.split("\0")[1]);
      const known = [...new Set(names)].sort().join(", ");
      const text = `no operation "${call.operation}"; there are: ${known}`;
      this.#refuse(id, new ComponentError("no-such-operation", text));
      return;
    }
    if (call.remaining() < 0) return;
    const bytes = this.#runningBytes + this.unsentBytes + size;
    if (this.#running >= WAITING_OPERATIONS_MAX || bytes > WAITING_BYTES_MAX) {
      const text = `${this.#running} operations run in this component already`;
      this.#refuse(id, new ComponentError("limit-exceeded", text));
      return;
    }
    try {
      const outputs = this.#traced(call.trace, () => run(call.inputs, call));
      const later = typeof outputs?.then === "function" || outputs instanceof Result;
      if (later) this.#later(id, call, outputs, size);
      else this.#done(id, outputs);
    } catch (error) {
      this.#failed(id, error);
    }
  }

  /** What an operation asks belongs to its call; only sampled traces are carried along. */
  #traced(trace, run) {
    if (!trace?.endsWith("01")) return run();
    this.#traces ??= new AsyncLocalStorage();
    return this.#traces.run(trace, run);
  }

  #refuse(id, error) {
    if (id === undefined) this.#countDropped(`cast: ${error.code}`);
    else this.#failed(id, error);
  }

  async #later(id, call, promised, size) {
    this.#running += 1;
    this.#runningBytes += size;
    if (id !== undefined) this.#calls.set(id, call);
    try {
      let outputs = await promised;
      if (outputs instanceof Result && hasLarge(outputs.attachments)) {
        outputs = new Result(outputs.outputs, await this.#uploaded(outputs.attachments));
      }
      this.#done(id, outputs);
    } catch (error) {
      this.#failed(id, error);
    } finally {
      this.#calls.delete(id);
      this.#running -= 1;
      this.#runningBytes -= size;
    }
  }

  #done(id, outputs) {
    if (id === undefined || this.#closed) return;
    const whole = outputs instanceof Result;
    const result = whole
      ? { outputs: outputs.outputs, attachments: outgoing(outputs.attachments) }
      : { outputs: outputs ?? {} };
    this.#write(this.#line({ id, result }));
  }

  #failed(id, error) {
    let told = error;
    if (error?.name === "AbortError") told = new ComponentError("cancelled");
    else if (!(error instanceof ComponentError)) {
      console.error(error);
      const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      told = new ComponentError("failed", text);
    }
    if (id === undefined || this.#closed) return;
    try {
      this.#write(this.#line({ id, error: told.toRpc() }));
    } catch (worse) {
      // its data or its text cannot be said
      const text = `${told.message.slice(0, 1000)} (${worse.message})`.replace(SURROGATE, "?");
      this.#write(this.#line({ id, error: new ComponentError(String(told.code), text).toRpc() }));
    }
  }
}

const SURROGATE = /[\ud800-\udfff]/g;
const LONE_SURROGATE = /(?<!\\)(?:\\\\)*\\ud[89a-f][0-9a-f]{2}/;

/** Is this line nested too deep? The harness could not read it, nor tell whose it is. */
function isTooDeep(line) {
  let openers = 0;
  for (let at = -1; (at = line.indexOf("[", at + 1)) >= 0 && openers <= NESTING_MAX; ) openers += 1;
  for (let at = -1; (at = line.indexOf("{", at + 1)) >= 0 && openers <= NESTING_MAX; ) openers += 1;
  if (openers <= NESTING_MAX) return false;
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < line.length; at += 1) {
    const code = line.charCodeAt(at);
    if (quoted) {
      if (code === 92) at += 1;
      else if (code === 34) quoted = false;
    } else if (code === 34) {
      quoted = true;
    } else if (code === 91 || code === 123) {
      depth += 1;
      if (depth > NESTING_MAX) return true;
    } else if (code === 93 || code === 125) {
      depth -= 1;
    }
  }
  return false;
}

function hasLarge(attachments) {
  return (attachments ?? []).some((item) => (item.data?.length ?? 0) > INLINE_BYTES_MAX);
}

function outgoing(attachments) {
  return attachments.map((item) =>
    item.blob === undefined
      ? { ...item, data: Buffer.from(item.data ?? []).toString("base64") }
      : { ...item },
  );
}
