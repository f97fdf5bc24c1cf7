// The page: one state comes in by push, and everything is drawn from it. Texts are only ever set as text.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** An element with a class and a text. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Sets a text only where it differs, so that nothing is laid out anew for nothing. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const percent = (part, whole) => (whole > 0 ? Math.round((100 * part) / whole) : 0);
const clockFormat = new Intl.DateTimeFormat("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: "UTC" });
const timeFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: "UTC" });
const hourFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const watts = (value) => (value >= 10000 ? `${(value / 1000).toFixed(1)} kW` : `${Math.round(value)} W`);
/** Joules for people. */
function energy(joules) {
  const hours = joules / 3600;
  if (Math.abs(hours) >= 1e6) return `${(hours / 1e6).toFixed(1)} MWh`;
  if (Math.abs(hours) >= 1000) return `${(hours / 1000).toFixed(1)} kWh`;
  return `${Math.round(hours)} Wh`;
}
/** Milliseconds for people, in one unit. */
function span(millis) {
  const seconds = Math.max(0, Math.round(millis / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/* ---- The cluster ---- */

const groups = new Map(); // role → {element, list}
const nodes = new Map(); // name → its elements
const tiles = new Map(); // VM → {element, node}

const GROUPS = [
  ["Shared", "Shared nodes", "idle VMs, packed"],
  ["Dedicated", "Dedicated nodes", "a core for each busy vCPU"],
  ["None", "Other nodes", "no policy rules them"],
];

for (const [role, title, note] of GROUPS) {
  const element = make("section", `group ${role.toLowerCase()}`);
  const head = make("div", "group-head");
  const heading = make("h2", "", title);
  heading.id = `group-${role}`;
  element.setAttribute("aria-labelledby", heading.id);
  head.append(heading, make("p", "", note));
  if (role === "Shared") {
    const scale = make("p", "scale", "idle");
    scale.append(make("span", "sample"), "busy");
    head.append(scale);
  }
  const list = make("div", "nodes");
  element.append(head, list);
  element.hidden = true;
  byId("cluster").append(element);
  groups.set(role, { element, list });
}

function nodeOf(node) {
  let known = nodes.get(node.name);
  if (known && known.role === node.role) return known;
  known?.element.remove();
  const element = make("div", "node");
  const button = make("button", "node-name");
  button.type = "button";
  const label = make("span", "label", node.name);
  const meter = make("span", "meter");
  const fill = make("span", "fill");
  meter.append(fill);
  const load = make("span", "load");
  button.append(label, meter, load);
  button.addEventListener("click", () => explain("node", node.name));
  const list = make("div", "tiles");
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", `VMs on ${node.name}`);
  list.addEventListener("keydown", walk);
  const rest = make("span", "rest");
  element.append(button, list);
  known = { element, button, label, meter, fill, load, list, rest, role: node.role, threshold: null };
  nodes.set(node.name, known);
  const group = groups.get(node.role || "None");
  group.element.hidden = false;
  group.list.append(element);
  shorten(node.role);
  return known;
}

/** What all names of a group begin with is said once too often: columns are narrow. */
function shorten(role) {
  const names = [...nodes].filter(([, known]) => known.role === role).map(([name]) => name);
  let common = names.length > 1 ? names[0].search(/[^-.]*$/) : 0;
  while (common > 0 && !names.every((name) => name.startsWith(names[0].slice(0, common)) && name.length > common)) {
    common = names[0].slice(0, common - 1).search(/[^-.]*$/);
  }
  for (const name of names) say(nodes.get(name).label, name.slice(common));
}

/** Arrow keys go from tile to tile; only one tile of a node is in the tab order. */
function walk(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const all = [...event.currentTarget.querySelectorAll(".tile")];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  if (!next) return;
  all.forEach((tile) => { tile.tabIndex = tile === next ? 0 : -1; });
  next.focus();
  event.preventDefault();
}

/** What each place between awake and asleep is called, and the class that it looks by. */
const PHASES = {
  Emptying: ["going to sleep", "falling"],
  Suspending: ["falling asleep", "falling"],
  Suspended: ["asleep", "asleep"],
  Waking: ["waking", "waking"],
  Quarantined: ["does not wake", "lost"],
};

function drawNode(node, count, now) {
  const known = nodeOf(node);
  const [phase, look] = PHASES[node.power] || ["", ""];
  const used = node.used === null ? null : Math.min(1, node.used / node.cores);
  known.element.classList.toggle("over", node.overloaded);
  known.element.classList.toggle("rests", node.canSleep && !phase);
  for (const [, other] of Object.values(PHASES)) known.element.classList.toggle(other, other === look);
  known.fill.style.transform = `scaleX(${used === null ? 0 : used.toFixed(3)})`;
  if (node.threshold !== known.threshold) {
    known.threshold = node.threshold;
    known.meter.querySelector(".threshold")?.remove();
    if (node.threshold !== null) {
      const line = make("span", "threshold");
      line.style.left = `${node.threshold}%`;
      known.meter.append(line);
    }
  }
  const draws = node.watts === null ? "" : watts(node.watts);
  const load = used === null ? (phase && draws) || "load unknown" : `${Math.round(100 * used)} % of ${node.cores}`;
  say(known.load, load);
  const lasts = phase && node.since !== null ? span(now - node.since) : "";
  const state = phase || (node.canSleep ? "could sleep" : "");
  if (state) {
    say(known.rest, lasts ? `${state}\u2002${lasts}` : state);
    if (!known.rest.isConnected) known.list.prepend(known.rest);
  } else known.rest.remove();
  const zone = node.zone ? `, ${node.zone}` : "";
  const told = `${node.name}${zone}: ${used === null ? load : `${load} cores, ${draws}`}, ${count} VMs${node.overloaded ? ", overloaded" : ""}${state ? `, ${state}` : ""}`;
  if (known.button.getAttribute("aria-label") !== told) known.button.setAttribute("aria-label", told);
  if (known.button.title !== (node.why || "")) known.button.title = node.why || "";
}

function newTile(vm) {
  const element = make("button", `tile vcpu-${vm.vcpus >= 8 ? 8 : vm.vcpus >= 4 ? 4 : vm.vcpus >= 2 ? 2 : 1}`);
  element.type = "button";
  element.tabIndex = -1;
  element.dataset.vm = vm.key;
  element.addEventListener("click", () => explain("vm", vm.key));
  return { element, node: null, load: -1 };
}

function drawVms(state) {
  const moved = [];
  const present = new Set();
  const counts = new Map();
  for (const vm of state.vms) {
    present.add(vm.key);
    counts.set(vm.node, (counts.get(vm.node) || 0) + 1);
    let tile = tiles.get(vm.key);
    if (!tile) tiles.set(vm.key, (tile = newTile(vm)));
    const load = vm.used === null ? 0 : Math.min(1, vm.used / vm.vcpus);
    const shade = Math.round(load * 20) / 20;
    if (shade !== tile.load) {
      tile.load = shade;
      tile.element.style.setProperty("--load", shade);
    }
    tile.element.classList.toggle("stays", vm.stays);
    tile.element.classList.toggle("moving", vm.moving !== null);
    const told = `${vm.key}: ${vm.vcpus} vCPU, ${(vm.memory / 2 ** 30).toFixed(0)} GiB, ${Math.round(100 * load)} %${vm.moving ? `, moving to ${vm.moving}` : ""}`;
    if (tile.element.title !== told) {
      tile.element.title = told;
      tile.element.setAttribute("aria-label", told);
    }
    if (tile.node !== vm.node) {
      if (tile.node !== null) moved.push({ tile, from: tile.element.getBoundingClientRect() });
      tile.node = vm.node;
      tile.pending = true;
    }
  }
  for (const [key, tile] of tiles) {
    if (!present.has(key)) {
      tile.element.remove();
      tiles.delete(key);
    }
  }
  for (const node of state.nodes) drawNode(node, counts.get(node.name) || 0, state.at);
  for (const tile of tiles.values()) {
    if (!tile.pending) continue;
    tile.pending = false;
    const home = nodes.get(tile.node);
    if (home) home.list.append(tile.element);
    else tile.element.remove();
  }
  for (const { list } of nodes.values()) {
    const first = list.querySelector(".tile");
    if (first && !list.querySelector('.tile[tabindex="0"]')) first.tabIndex = 0;
  }
  for (const { tile, from } of moved) fly(tile, from);
}

/** First, last, invert, play – above everything, because columns clip what leaves them. */
function fly(tile, from) {
  if (calm.matches || document.hidden || !from.width || !tile.element.isConnected) return;
  const to = tile.element.getBoundingClientRect();
  const bird = tile.element.cloneNode(false);
  bird.removeAttribute("title");
  bird.tabIndex = -1;
  bird.style.left = `${to.left}px`;
  bird.style.top = `${to.top}px`;
  byId("sky").append(bird);
  tile.element.classList.add("away");
  const [x, y] = [from.left - to.left, from.top - to.top];
  const flight = bird.animate(
    [{ transform: `translate(${x}px, ${y}px)` }, { transform: `translate(${x / 2}px, ${y / 2 - 26}px) scale(1.25)`, offset: 0.5 }, { transform: "none" }],
    { duration: 900, easing: "cubic-bezier(.45, .05, .25, 1)" },
  );
  const land = () => {
    bird.remove();
    tile.element.classList.remove("away");
  };
  flight.addEventListener("finish", land);
  flight.addEventListener("cancel", land);
}

/* ---- Figures, feed, blockers, policies ---- */

function figure(name, value, note, mood) {
  say(byId(`figure-${name}`), value);
  say(byId(`figure-${name}-note`), note || "\u00a0");
  byId(`figure-${name}`).parentElement.className = `figure ${mood || ""}`;
}

function drawFigures(state) {
  const { drawn, neverSleeping: never, joules, savedJoules, measured } = state.power;
  const less = percent(never - drawn, never);
  figure("power", watts(drawn), less > 0 ? `${less} % below ${watts(never)}` : measured ? `${measured} nodes measured` : "modelled", less > 0 ? "good" : "");
  const ruled = state.nodes.filter((node) => node.role);
  const asleep = ruled.filter((node) => node.power === "Suspended").length;
  const lost = ruled.filter((node) => node.power === "Quarantined").length;
  const waking = ruled.filter((node) => node.power === "Waking").length;
  const could = ruled.filter((node) => node.power === "Awake" && node.canSleep).length;
  const beside = [[lost, "not waking"], [waking, "waking"], [could, "more could"]].filter(([count]) => count > 0);
  figure("sleep", `${asleep} of ${ruled.length}`, beside.map(([count, what]) => `${count} ${what}`).join(", ") || "nodes", lost > 0 ? "bad" : asleep > 0 ? "good" : "");
  const { sleeps, wakes, failedWakes } = state.powerCounts;
  const told = `${sleeps} sleeps, ${wakes} wakes${failedWakes ? `, ${failedWakes} failed` : ""}`;
  figure("saved", energy(savedJoules), savedJoules > 0 ? `${percent(savedJoules, joules + savedJoules)} %; ${told}` : told, savedJoules > 0 ? "good" : "");
  const over = state.nodes.filter((node) => node.overloaded).length;
  const shared = state.nodes.filter((node) => node.role === "Shared").length;
  figure("overload", `${over} of ${shared}`, "shared nodes", over > 0 ? "bad" : "");
  const sum = (wanted) => state.totals.filter(wanted).reduce((total, one) => total + one.count, 0);
  const running = state.moves.filter((one) => one.outcome === "Running").length;
  const failed = sum((one) => one.outcome === "Failed");
  const why = `${sum((one) => one.reason === "Overload")} overload, ${sum((one) => one.reason === "Idle")} idle`;
  figure("moves", String(sum(() => true)), `${why}${failed ? `, ${failed} failed` : ""}${running ? `, ${running} now` : ""}`);
}

const REASONS = { Overload: "overload", Idle: "idle" };
let fed = "";

function drawFeed(state) {
  const mark = state.moves.map((one) => one.id + one.outcome).join() + (state.powerChanges.length && state.powerChanges[0].node + state.powerChanges[0].at);
  if (mark === fed) return;
  fed = mark;
  const moves = state.moves.map((one) => ({ at: one.began, tell: () => tellMove(one) }));
  const changes = state.powerChanges.map((one) => ({ at: one.at, tell: () => tellPower(one) }));
  const newest = [...moves, ...changes].sort((a, b) => b.at - a.at).slice(0, 60);
  const items = newest.map((one) => one.tell());
  byId("feed").replaceChildren(...(items.length ? items : [make("li", "empty", "Nothing has moved or slept yet.")]));
}

/** When, who – which explains on a click –, and a word about it. */
function headline(at, kind, name, mood, word) {
  const route = make("div", "route");
  const who = make("button", "who", name);
  who.type = "button";
  who.addEventListener("click", () => explain(kind, name));
  route.append(make("span", "when", timeFormat.format(at)), who, make("span", `reason ${mood}`, word));
  return route;
}

function tellMove(one) {
  const item = make("li");
  item.append(headline(one.began, "vm", one.vm, one.reason in REASONS ? one.reason : "", REASONS[one.reason] || one.reason));
  const took = one.tookMillis === null ? "moving …" : `${(one.tookMillis / 1000).toFixed(1)} s`;
  const mode = one.mode === "PostCopy" ? "post-copy" : "pre-copy";
  item.append(make("div", "path", `${one.source} → ${one.target}, ${mode}, ${took}`));
  if (one.outcome === "Failed") item.append(make("div", "reason failed", "failed"));
  if (one.message) item.append(make("div", "why", one.message));
  return item;
}

const CHANGES = { Suspended: ["fell asleep", "Idle"], Awake: ["woke", "Woke"], Quarantined: ["does not wake", "failed"] };

function tellPower(one) {
  const item = make("li", "power");
  const [word, mood] = CHANGES[one.phase] || [one.phase, ""];
  item.append(headline(one.at, "node", one.node, mood, word));
  if (one.message) item.append(make("div", "why", one.message));
  return item;
}

let blocked = "";

function drawBlockers(state) {
  const ranked = state.policies.flatMap((policy) => policy.blockers).sort((a, b) => b.nodes - a.nodes).slice(0, 8);
  const free = state.nodes.filter((node) => node.power === "Awake" && node.canSleep);
  const mark = JSON.stringify([ranked, free.map((node) => [node.name, node.why])]);
  if (mark === blocked) return;
  blocked = mark;
  const row = (count, reason, advice) => {
    const item = make("li");
    item.append(make("span", "count", String(count)), make("span", "", reason), make("span", "advice", advice));
    return item;
  };
  const items = ranked.map((one) => {
    const alone = one.alone === one.nodes ? "" : one.alone ? `alone on ${one.alone}; ` : "";
    return row(one.nodes, one.reason, `${alone}${one.advice}`);
  });
  if (free.length) {
    const told = free.slice(0, 3).map((node) => (node.why ? `${node.name}: ${node.why}` : node.name));
    items.push(row(free.length, "Nothing on them", `${told.join("; ")}${free.length > 3 ? "; …" : ""}`));
  }
  byId("blockers").replaceChildren(...(items.length ? items : [make("li", "empty", "Nothing: all sleep or could.")]));
}

let ruled = "";

function drawPolicies(state) {
  const mark = JSON.stringify(state.policies.map(({ blockers, ...rest }) => rest));
  if (mark === ruled) return;
  ruled = mark;
  const cards = state.policies.map((policy) => {
    const card = make("div", "policy");
    const title = make("h3", "", `${policy.name} `);
    title.append(make("span", "", `${policy.mode}, ${policy.vms} VMs`));
    card.append(title);
    if (policy.gate) card.append(make("p", "", policy.gate));
    const list = make("dl", "conditions");
    for (const one of policy.conditions) {
      const row = make("div");
      row.append(make("dt", "", one.type), make("dd", "", `${one.status}${one.message ? `: ${one.message}` : ""}`));
      list.append(row);
    }
    card.append(list);
    for (const plan of policy.waiting) card.append(make("p", "", `Plan ${plan} waits for approval.`));
    return card;
  });
  byId("policies").replaceChildren(...(cards.length ? cards : [make("p", "empty", "There is no ConsolidationPolicy.")]));
}

function drawBanner(state) {
  const said = [];
  if (state.held) said.push(`Held: everything stays awake and nothing moves (${state.held}).`);
  if (state.paused) said.push(`Paused: no new move (${state.paused}).`);
  if (state.incomplete) said.push(`The picture of the cluster is not complete: ${state.incomplete}.`);
  if (!state.leading) said.push("This replica follows; another one leads and acts.");
  if (state.vmsLeftOut) said.push(`${state.vmsLeftOut} more VMs are not shown.`);
  const banner = byId("banner");
  banner.hidden = said.length === 0;
  say(banner, said.join(" "));
}

/* ---- Charts ---- */

let points = [];
let charted = "";

function take(fresh) {
  const last = points.length ? points[points.length - 1].at : -Infinity;
  points.push(...fresh.filter((point) => point.at > last));
  points = points.slice(-2160);
}

function shape(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** A round number of about this size. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value) || 10 * power;
}

function canvas(host, title) {
  const width = Math.max(host.clientWidth, 160);
  const height = Math.max(host.clientHeight, 90);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  host.replaceChildren(svg);
  return { svg, left: 44, right: width - 4, top: 8, bottom: height - 20 };
}

function axes(area, most, unit, from, to) {
  for (const part of [0, 0.5, 1]) {
    const y = area.bottom - part * (area.bottom - area.top);
    shape(area.svg, "line", { class: "grid", x1: area.left, x2: area.right, y1: y, y2: y });
    shape(area.svg, "text", { x: area.left - 8, y: y + 4, "text-anchor": "end" }, unit(part * most));
  }
  shape(area.svg, "text", { x: area.left, y: area.bottom + 16 }, hourFormat.format(from));
  shape(area.svg, "text", { x: area.right, y: area.bottom + 16, "text-anchor": "end" }, hourFormat.format(to));
}

function drawCharts() {
  const mark = `${points.length && points[points.length - 1].at} ${byId("chart-power").clientWidth}`;
  if (mark === charted) return;
  charted = mark;
  const power = canvas(byId("chart-power"), "Power over time: if no node ever slept, as drawn, and if all empty nodes slept");
  const moves = canvas(byId("chart-moves"), "Moves begun over time");
  if (points.length < 2) {
    for (const area of [power, moves]) shape(area.svg, "text", { class: "nothing", x: 0, y: 20 }, "After two minutes of the cluster's time …");
    return;
  }
  const [from, to] = [points[0].at, points[points.length - 1].at];
  const most = round(Math.max(...points.map((point) => point.neverSleeping)));
  axes(power, most, (value) => watts(value), from, to);
  const every = Math.ceil(points.length / 400);
  const shown = points.filter((_, index) => index % every === 0 || index === points.length - 1);
  const x = (at) => power.left + ((at - from) / (to - from)) * (power.right - power.left);
  const y = (value) => power.bottom - (value / most) * (power.bottom - power.top);
  const line = (name) => shown.map((point) => `${x(point.at).toFixed(1)},${y(point[name]).toFixed(1)}`);
  const [never, drawn, slept] = [line("neverSleeping"), line("drawn"), line("ifEmptySlept")];
  shape(power.svg, "polygon", { class: "saved", points: [...never, ...drawn.slice().reverse()].join(" ") });
  shape(power.svg, "polyline", { class: "slept", points: slept.join(" ") });
  shape(power.svg, "polyline", { class: "never", points: never.join(" ") });
  shape(power.svg, "polyline", { class: "drawn", points: drawn.join(" ") });

  const minutes = [1, 2, 5, 10, 15, 30, 60].find((width) => (to - from) / 60000 / width <= 48) || 60;
  say(byId("bucket"), minutes === 1 ? "minute" : `${minutes} minutes`);
  const buckets = new Map();
  for (const point of points) {
    // A point tells of the minute that ends with it.
    const key = Math.floor((point.at - 1) / 60000 / minutes);
    buckets.set(key, (buckets.get(key) || 0) + point.moves);
  }
  const tallest = Math.max(4, round(Math.max(...buckets.values())));
  axes(moves, tallest, (value) => String(Math.round(value)), from, to);
  const [first, last] = [Math.min(...buckets.keys()), Math.max(...buckets.keys())];
  const step = (moves.right - moves.left) / (last - first + 1);
  for (const [key, count] of buckets) {
    const height = (count / tallest) * (moves.bottom - moves.top);
    const gap = Math.min(2, step * 0.2);
    shape(moves.svg, "rect", { class: "move", rx: 1, x: moves.left + (key - first) * step + gap / 2, y: moves.bottom - height, width: Math.max(0.5, Math.min(step - gap, 14)), height });
  }
}

/* ---- The panel that explains ---- */

let chosen = null; // {kind, name, opener}

async function explain(kind, name) {
  chosen = { kind, name, opener: document.activeElement };
  for (const [key, tile] of tiles) tile.element.classList.toggle("chosen", kind === "vm" && key === name);
  await refreshPanel();
  byId("panel-title").focus();
}

async function refreshPanel() {
  const wanted = chosen;
  if (!wanted) return;
  const path = wanted.name.split("/").map(encodeURIComponent).join("/");
  let told;
  try {
    const answer = await fetch(`/api/explain/${wanted.kind}/${path}`);
    told = answer.ok ? await answer.json() : { title: wanted.name, says: await answer.text(), facts: [], lists: [] };
  } catch {
    told = { title: wanted.name, says: "The operator does not answer.", facts: [], lists: [] };
  }
  if (chosen !== wanted) return;
  const body = [make("p", "says", told.says)];
  if (told.wouldChange) body.push(make("p", "", `What would change it: ${told.wouldChange}`));
  const facts = make("dl");
  for (const [name, value] of told.facts) facts.append(make("dt", "", name), make("dd", "", value));
  body.push(facts);
  for (const { title, items } of told.lists) {
    const list = make("ul");
    list.append(...items.map((item) => make("li", "", item)));
    body.push(make("h3", "", title), list);
  }
  say(byId("panel-title"), told.title);
  byId("panel-body").replaceChildren(...body);
  byId("panel").hidden = false;
}

function closePanel() {
  if (!chosen) return;
  const { opener } = chosen;
  chosen = null;
  byId("panel").hidden = true;
  for (const tile of tiles.values()) tile.element.classList.remove("chosen");
  if (opener && opener.isConnected) opener.focus();
}

byId("panel-close").addEventListener("click", closePanel);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanel();
});

/* ---- Speed ---- */

const speed = byId("speed");
speed.addEventListener("change", async () => {
  const headers = { "content-type": "application/json" };
  try {
    await fetch("/api/demo/speed", { method: "POST", headers, body: JSON.stringify({ speed: Number(speed.value) }) });
  } catch {
    // The lost connection is told already; the next state shows the speed as it is.
  }
});
byId("speed-form").addEventListener("submit", (event) => event.preventDefault());

function drawSpeed(state) {
  byId("speed-form").hidden = state.speed === null;
  if (state.speed === null || document.activeElement === speed) return;
  const value = String(state.speed);
  if (![...speed.options].some((option) => option.value === value)) {
    const option = make("option", "", `${value}×`);
    option.value = value;
    speed.append(option);
  }
  speed.value = value;
}

/* ---- The state comes in ---- */

let explained = 0;

function draw(state) {
  say(byId("clock"), clockFormat.format(state.at));
  drawBanner(state);
  drawSpeed(state);
  drawVms(state);
  drawFigures(state);
  drawFeed(state);
  drawBlockers(state);
  drawPolicies(state);
  take(state.points);
  drawCharts();
  if (chosen && Date.now() - explained > 1000) {
    explained = Date.now();
    refreshPanel();
  }
}

function link(kind, text) {
  byId("link").className = `link ${kind}`;
  say(byId("link"), text);
}

let newest = null;
let drawing = false;

/** Draws the newest state, however many came in meanwhile. */
function show(state) {
  newest = state;
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    draw(newest);
  }, 0);
}

function connect() {
  const stream = new EventSource("/api/stream");
  stream.onmessage = (event) => {
    link("live", "live");
    const state = JSON.parse(event.data);
    // Between two drawings several may come; no point of the charts is lost.
    take(state.points);
    show(state);
  };
  stream.onerror = () => {
    link("lost", "connection lost, trying again");
    // Refused (too busy, or not ready): the browser itself gives up then, we do not.
    if (stream.readyState === EventSource.CLOSED) {
      stream.close();
      setTimeout(connect, 2000);
    }
  };
}

addEventListener("resize", drawCharts);
connect();
