// The page of the feeds application: asks the JSON interface, and is told of new items as they come.
//
// Nothing that comes from a feed is ever read as mark-up.  Items arrive as trees of names and text
// (indexer/sanitise.py); elements are made from a closed list of names, and everything else is text.

const $ = (id) => document.getElementById(id);
const VIEWS = ["timeline", "sources", "discover", "account"];
const TAGS = new Set("a b blockquote br code dd del dl dt em h3 h4 i li ol p pre q s small strong sub sup u ul".split(" "));
const PAGE = 30;
const ITEMS_MAX = 400;
const state = {
  user: "", view: "timeline", items: new Map(), sources: new Map(), waiting: [], more: false,
  filter: { source: 0, unread: false, text: "" }, seq: 0, socket: null, retries: 0, clock: 0, suggested: 0,
};

// -- asking ----------------------------------------------------------------------------------------

async function ask(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const reply = await fetch(path, options);
  const value = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    const error = new Error(value.error?.message || `the server answered ${reply.status}`);
    error.status = reply.status;
    throw error;
  }
  return value;
}

function report(error) {
  if (error.status === 401) welcome();
  else toast(error.message);
}

const action = (work) => (...given) => Promise.resolve(work(...given)).catch(report);

// -- small things ----------------------------------------------------------------------------------

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function ago(ms) {
  const s = Math.max(0, Math.round((Date.now() - state.clock - ms) / 1000));
  if (s < 10) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  if (s < 30 * 86400) return `${Math.floor(s / 86400)} d ago`;
  return new Date(ms).toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
}

function span(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const isWeb = (text) => /^https?:\/\//i.test(text || "");

function toast(text, link) {
  const box = make("div", { class: "toast" });
  box.append(isWeb(link) ? make("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, text) : text);
  $("toasts").append(box);
  setTimeout(() => box.remove(), 7000);
}

// A tree of the sanitiser: text, or [name, attributes, children].
function grow(nodes, depth = 0) {
  return (depth > 20 ? [] : nodes).map((node) => {
    if (typeof node === "string") return document.createTextNode(node);
    const [name, attributes, children] = node;
    const element = document.createElement(TAGS.has(name) ? name : "span");
    if (name === "a" && isWeb(attributes.href)) {
      element.href = attributes.href;
      element.target = "_blank";
      element.rel = "noopener noreferrer nofollow";
    }
    element.append(...grow(children, depth + 1));
    return element;
  });
}

// -- items -----------------------------------------------------------------------------------------

function itemElement(item) {
  const id = `item-${item.seq}`;
  const where = make("span", { class: "where" });
  const open = make("button", { class: "open", type: "button", "aria-expanded": "false", onclick: () => toggle(item) },
    make("span", { class: "title", id: `${id}-title` }, item.title), where);
  const tick = make("button", { class: "icon tick", type: "button", onclick: action(() => mark([item], !item.unread)) });
  const article = make("article", { class: "item", id, "aria-labelledby": `${id}-title`, tabindex: "-1" },
    make("div", { class: "head" }, open, tick));
  item.element = article;
  item.show = () => {
    article.classList.toggle("unread", item.unread);
    const label = item.unread ? "Mark as read" : "Mark as unread";
    tick.setAttribute("aria-label", `${label}: ${item.title}`);
    tick.title = label;
    tick.textContent = item.unread ? "●" : "○";
    where.textContent = [item.source_title || item.source_url, item.author, ago(item.at_ms)].filter(Boolean).join(" · ");
  };
  item.show();
  return article;
}

function toggle(item, wanted) {
  const open = item.element.querySelector(".open");
  const isOpen = wanted === undefined ? open.getAttribute("aria-expanded") !== "true" : wanted;
  open.setAttribute("aria-expanded", String(isOpen));
  item.element.querySelector(".body")?.remove();
  if (!isOpen) return;
  const body = make("div", { class: "body" }, ...grow(item.content));
  if (isWeb(item.link)) body.append(make("p", {}, make("a", { href: item.link, target: "_blank", rel: "noopener noreferrer" }, "Read it where it was published")));
  else if (!item.content.length) body.append(make("p", { class: "muted" }, "The feed says nothing more."));
  item.element.append(body);
  if (item.unread) action(mark)([item], false);
}

async function mark(items, unread) {
  items.forEach((item) => setUnread(item, unread));
  await ask("POST", "api/marks", { items: items.map((i) => i.seq), unread });
}

function setUnread(item, unread) {
  if (item.unread === unread) return;
  item.unread = unread;
  const source = state.sources.get(item.source);
  if (source) source.unread = Math.max(0, source.unread + (unread ? 1 : -1));
  item.show?.();
  showCounts();
}

const before = (a, b) => a.at_ms > b.at_ms || (a.at_ms === b.at_ms && a.seq > b.seq);

function insert(items, fresh) {
  const list = $("items");
  for (const item of items) {
    if (state.items.has(item.seq)) continue;
    state.items.set(item.seq, item);
    const element = itemElement(item);
    element.classList.toggle("fresh", fresh);
    let next = fresh ? list.firstElementChild : null;
    while (next && state.items.get(Number(next.id.slice(5))) && before(state.items.get(Number(next.id.slice(5))), item)) next = next.nextElementSibling;
    list.insertBefore(element, next);
  }
  while (fresh && list.children.length > ITEMS_MAX) {
    state.items.delete(Number(list.lastElementChild.id.slice(5)));
    list.lastElementChild.remove();
    state.more = true;
  }
  showEmpty();
}

async function load(older) {
  const { source, unread, text } = state.filter;
  const list = $("items");
  list.setAttribute("aria-busy", "true");
  const query = new URLSearchParams({ limit: PAGE });
  let found;
  if (text) {
    query.set("text", text);
    found = await ask("GET", `api/search?${query}`);
  } else {
    const last = older && list.lastElementChild && state.items.get(Number(list.lastElementChild.id.slice(5)));
    if (last) query.set("before", `${last.at_ms},${last.seq}`);
    if (source) query.set("source", source);
    if (unread) query.set("unread", "1");
    found = await ask("GET", `api/timeline?${query}`);
    state.seq = Math.max(state.seq, found.seq);
  }
  if (text !== state.filter.text) return;
  const open = new Set(older ? [] : [...list.querySelectorAll("[aria-expanded=true]")].map((e) => e.closest(".item").id));
  if (!older) {
    state.items.clear();
    state.waiting = [];
    list.replaceChildren();
  }
  insert(found.items, false);
  for (const item of found.items) if (open.has(item.element?.id)) toggle(item, true);
  state.more = Boolean(found.more);
  list.setAttribute("aria-busy", "false");
  showEmpty();
  showNews();
}

function showEmpty() {
  const none = !state.items.size;
  $("empty").hidden = !none;
  $("more").hidden = !state.more;
  if (!none) return;
  if (state.filter.text) $("empty").textContent = `Nothing has “${state.filter.text}”.`;
  else if (!state.sources.size) $("empty").replaceChildren("You follow nothing yet. ", make("button", { type: "button", class: "link", onclick: () => show("discover") }, "Add a source"));
  else $("empty").textContent = state.filter.unread ? "All read." : "Nothing yet: items appear here by themselves.";
}

function showNews() {
  const many = state.waiting.length;
  $("news").hidden = !many;
  $("news").textContent = many === 1 ? "1 new item" : `${many} new items`;
}

function takeNews() {
  const items = state.waiting;
  state.waiting = [];
  insert(items, true);
  showNews();
  scrollTo({ top: 0 });
}

function showCounts() {
  const many = [...state.sources.values()].reduce((sum, s) => sum + s.unread, 0);
  $("unread").textContent = many > 999 ? "999+" : many;
  $("unread").hidden = !many;
  document.title = many ? `(${many}) Feeds` : "Feeds";
  for (const source of state.sources.values()) if (source.count) source.count.textContent = source.unread || "";
}

// -- sources ---------------------------------------------------------------------------------------

async function loadSources() {
  const found = await ask("GET", "api/sources");
  state.clock = Date.now() - found.now_ms;
  state.sources = new Map(found.sources.map((s) => [s.source, s]));
  const mine = found.sources.map((source) => {
    source.count = make("span", { class: "count" });
    const name = make("span", {}, source.title || source.url);
    return make("li", {}, make("button", { type: "button", title: source.url, onclick: action(() => filter({ source: source.source })) }, name, source.count));
  });
  $("mine").replaceChildren(...mine);
  if (state.view === "sources") showSources();
  showCounts();
  showEmpty();
}

const HEALTH = { ok: "healthy", failing: "failing", gone: "gone for good", new: "not looked at yet" };

function showSources() {
  const all = [...state.sources.values()];
  const failing = all.filter((s) => s.state === "failing" || s.state === "gone").length;
  $("sources-summary").textContent = all.length ? `${all.length} followed${failing ? `, ${failing} in trouble` : ", all well"}` : "";
  $("no-sources").hidden = all.length > 0;
  const kept = document.activeElement?.id;
  $("sources").replaceChildren(...all.map(sourceCard));
  if (kept) document.getElementById(kept)?.focus();
}

function sourceCard(source) {
  const name = source.title || source.url;
  const select = make("select", { id: `alert-${source.source}`, "aria-label": `Alerts of ${name}`, onchange: action(async () => {
    await ask("PUT", `api/sources/${source.source}`, { alert: select.value });
    if (select.value === "push" && isSecureContext && window.Notification?.permission === "default") Notification.requestPermission();
    source.alert = select.value;
  }) });
  for (const [value, text] of [["none", "No alerts"], ["push", "Alert here"], ["mail", "Alert by mail"]]) {
    select.append(make("option", { value, selected: source.alert === value }, text));
  }
  const facts = [
    source.kind === "stream" ? "streaming, no polls" : `next look ${dueText(source)}`,
    source.kind === "stream" ? "" : `every ${span(source.interval_s)}`,
    source.polled_ms ? `looked at ${ago(source.polled_ms)}` : "",
    source.new_ms ? `new ${ago(source.new_ms)}` : "",
    `${source.items} items`, source.format,
    source.subscribers > 1 ? `${source.subscribers} readers` : "",
    source.polls ? `${Math.round((100 * source.unchanged) / source.polls)} % unchanged` : "",
  ];
  const card = make("li", { class: "card" },
    make("span", { class: "name" }, name),
    make("span", { class: `health ${source.state}` }, HEALTH[source.state] || source.state),
    make("span", { class: "address", title: source.url }, source.url),
    make("div", { class: "facts" }, ...facts.filter(Boolean).map((text) => make("span", {}, text))));
  if (source.error) card.append(make("p", { class: "error facts" }, source.error));
  card.append(make("div", { class: "tools" }, select,
    make("button", { type: "button", class: "quiet", id: `read-${source.source}`, onclick: action(() => filter({ source: source.source })) }, source.unread ? `Read (${source.unread})` : "Read"),
    make("button", { type: "button", class: "quiet", id: `poll-${source.source}`, "aria-label": `Look at ${name} now`, onclick: action(async () => {
      await ask("POST", `api/sources/${source.source}/poll`, {});
      setTimeout(action(loadSources), 1200);
    }) }, "Look now"),
    make("button", { type: "button", class: "quiet", id: `drop-${source.source}`, "aria-label": `Do not follow ${name} any more`, onclick: action(async () => {
      await ask("DELETE", `api/sources/${source.source}`);
      await Promise.all([loadSources(), load()]);
    }) }, "Unfollow")));
  return card;
}

function dueText(source) {
  const left = (source.due_ms - (Date.now() - state.clock)) / 1000;
  return left < 1 ? "now" : `in ${span(left)}`;
}

// -- adding ----------------------------------------------------------------------------------------

async function subscribe(url) {
  await ask("POST", "api/sources", { url, alert: "none" });
  toast(`You follow ${url}`);
  await Promise.all([loadSources(), load()]);
}

async function suggest(more) {
  if (!more) state.suggested = 0;
  const found = await ask("GET", `api/suggestions?offset=${state.suggested}`);
  const followed = new Set([...state.sources.values()].map((s) => s.url));
  const cards = found.feeds.map(({ url, kind, title }) => {
    const button = make("button", { type: "button", "aria-label": `Follow ${title}`, onclick: action(async () => {
      button.disabled = true;
      await subscribe(url).finally(() => (button.disabled = false));
      button.disabled = true;
      button.textContent = "Followed";
    }) }, followed.has(url) ? "Followed" : "Follow");
    button.disabled = followed.has(url);
    return make("li", { class: "card" }, make("span", { class: "name" }, title), button,
      make("span", { class: "address", title: url }, `${kind} · ${url}`));
  });
  if (more) $("suggestions").append(...cards);
  else $("suggestions").replaceChildren(...cards);
  state.suggested += found.feeds.length;
  $("more-suggestions").hidden = state.suggested >= found.total;
}

// -- live ------------------------------------------------------------------------------------------

function connect() {
  state.socket?.close();
  const address = new URL(`live?since=${state.seq}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  state.socket = socket;
  state.heard = Date.now();
  socket.addEventListener("message", (event) => {
    state.heard = Date.now();
    told(JSON.parse(event.data));
  });
  socket.addEventListener("close", () => {
    if (state.socket !== socket || !state.user) return;
    showState("off", "connecting again");
    setTimeout(connect, Math.min(10000, 300 * 2 ** state.retries++) * (0.7 + Math.random() * 0.6));
  });
}

// A network that is gone says nothing: ask now and then, and begin anew when there is no answer.
function probe() {
  const { socket } = state;
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (Date.now() - state.heard > 20000) begone(socket);
  else socket.send('{"type":"ping"}');
}

// Closing waits for the other side, which is not there.
function begone(socket) {
  if (state.socket !== socket) return;
  state.socket = null;
  socket.close();
  showState("off", "connecting again");
  connect();
}

function showState(kind, text) {
  $("state").className = `state ${kind}`;
  $("state-text").textContent = text;
}

function told(message) {
  if (message.type === "hello") {
    state.retries = 0;
    showState("live", "live");
  } else if (message.type === "items") arrived(message);
  else if (message.type === "marked") marked(message);
  else if (message.type === "changed") action(loadSources)();
  else if (message.type === "alert") for (const item of message.items) alerted(item);
}

function arrived({ items, gap }) {
  if (gap) action(load)();
  let unknown = false;
  for (const item of items) {
    state.seq = Math.max(state.seq, item.seq);
    if (state.items.has(item.seq) || state.waiting.some((w) => w.seq === item.seq)) continue;
    const source = state.sources.get(item.source);
    if (source && item.unread && !item.backlog) source.unread += 1;
    if (source && !source.items) unknown = true;
    if (source) source.items += 1;
    if (!state.filter.text && (!state.filter.source || state.filter.source === item.source)) state.waiting.push(item);
  }
  if (unknown || items.some((i) => i.backlog)) setTimeout(action(loadSources), 300);
  showCounts();
  if (state.view === "timeline" && scrollY < 120 && !document.hidden) takeNews();
  else showNews();
}

function marked({ items, unread, source, up_to: upTo }) {
  for (const item of state.items.values()) {
    if (items ? items.includes(item.seq) : (!source || item.source === source) && item.seq <= upTo) {
      item.unread = items ? Boolean(unread) : false;
      item.show();
    }
  }
  clearTimeout(state.recount);
  state.recount = setTimeout(action(loadSources), 400);
}

function alerted(item) {
  toast(`${item.source_title}: ${item.title}`, item.link);
  if (document.hidden && "Notification" in window && Notification.permission === "granted") {
    new Notification(item.source_title, { body: item.title, tag: `feeds-${item.seq}` });
  }
}

// -- views -----------------------------------------------------------------------------------------

function show(view) {
  state.view = view;
  for (const name of VIEWS) $(`view-${name}`).hidden = name !== view;
  for (const button of document.querySelectorAll(".nav > [data-view]")) {
    if (button.dataset.view === view) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  if (view === "sources") { showSources(); action(loadSources)(); }
  if (view === "discover") action(suggest)(false);
  if (location.hash.slice(1) !== view) history.replaceState(null, "", `#${view}`);
  scrollTo({ top: 0 });
}

async function filter(change) {
  Object.assign(state.filter, { source: 0, text: "" }, change);
  if (!state.filter.text) $("query").value = "";
  const source = state.sources.get(state.filter.source);
  $("timeline-title").textContent = state.filter.text ? `Search: ${state.filter.text}` : source ? source.title || source.url : "All items";
  if (state.view !== "timeline") show("timeline");
  await load();
}

function step(by) {
  const all = [...$("items").children];
  const at = all.indexOf(document.activeElement?.closest?.(".item"));
  const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
  next?.querySelector(".open").focus();
  next?.scrollIntoView({ block: "nearest" });
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("welcome").open) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const here = document.activeElement?.closest?.(".item");
  const item = here && state.items.get(Number(here.id.slice(5)));
  const keys = {
    j: () => step(1), k: () => step(-1), n: takeNews, "/": () => $("query").focus(),
    m: () => item && action(mark)([item], !item.unread),
    v: () => item && isWeb(item.link) && open(item.link, "_blank", "noopener"),
    1: () => action(filter)({}), 2: () => show("sources"), 3: () => show("discover"), 4: () => show("account"),
  };
  if (!(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
}

function welcome() {
  state.user = "";
  state.socket?.close();
  if (!$("welcome").open) $("welcome").showModal();
}

async function begin(account) {
  state.user = account.user;
  $("who").textContent = account.user;
  $("account-title").textContent = account.user;
  $("email").value = account.email;
  await loadSources();
  await load();
  connect();
  const wanted = location.hash.slice(1);
  show(VIEWS.includes(wanted) ? wanted : "timeline");
  if (!state.sources.size && state.view === "timeline") show("discover");
}

function formError(id, error) {
  $(id).hidden = !error;
  $(id).textContent = error ? error.message : "";
}

function listen(id, kind, work) {
  $(id).addEventListener(kind, (event) => {
    if (kind === "submit") event.preventDefault();
    action(work)(event);
  });
}

listen("enter", "submit", async () => {
  try {
    const account = await ask("POST", "api/session", { user: $("name").value });
    $("welcome").close();
    formError("enter-error", null);
    await begin(account);
  } catch (error) { formError("enter-error", error); }
});
listen("subscribe", "submit", async () => {
  try {
    await subscribe($("url").value);
    $("url").value = "";
    formError("subscribe-error", null);
  } catch (error) { formError("subscribe-error", error); }
});
listen("account", "submit", async () => {
  const found = await ask("PUT", "api/account", { email: $("email").value });
  $("account-note").textContent = found.email ? `Mail goes to ${found.email}.` : "No mail is sent.";
});
listen("leave", "click", async () => { await ask("DELETE", "api/session"); location.reload(); });
listen("search", "submit", () => filter({ text: $("query").value.trim() }));
let typing = 0;
listen("query", "input", () => {
  clearTimeout(typing);
  typing = setTimeout(action(() => filter({ text: $("query").value.trim() })), 250);
});
listen("only-unread", "change", () => { state.filter.unread = $("only-unread").checked; return load(); });
listen("all-read", "click", async () => {
  const up = state.seq;
  const { source } = state.filter;
  await ask("POST", "api/marks", source ? { source, up_to: up } : { up_to: up });
  await Promise.all([loadSources(), load()]);
});
listen("news", "click", takeNews);
listen("more", "click", () => load(true));
listen("more-suggestions", "click", () => suggest(true));
listen("theme", "click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = localStorage.theme = now === "dark" ? "light" : "dark";
});
$("welcome").addEventListener("cancel", (event) => event.preventDefault());
document.addEventListener("click", (event) => {
  const view = event.target.closest?.("[data-view]")?.dataset.view;
  if (view === "timeline") action(filter)({});
  else if (view) show(view);
});
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => { if (!document.hidden && state.view === "timeline" && scrollY < 120) takeNews(); });
setInterval(probe, 8000);
setInterval(() => state.items.forEach((item) => item.show()), 30000);
setInterval(() => { if (state.user && state.view === "sources" && !document.hidden) action(loadSources)(); }, 5000);
if (localStorage.theme) document.documentElement.dataset.theme = localStorage.theme;
action(async () => {
  const account = await ask("GET", "api/session");
  await (account.user ? begin(account) : welcome());
})();
