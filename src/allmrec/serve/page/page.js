"use strict";
// Texts of the catalogue and of the model only ever become text nodes; nothing here makes markup of a string.

const at = (id) => document.getElementById(id);
const shown = { user: null, history: [], titles: new Map(), systems: [], speaking: new Set(), asked: 0, listening: null, key: sessionStorage.getItem("allmrec-key") };

function node(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function headers() {
  return { "Content-Type": "application/json", ...(shown.key ? { Authorization: `Bearer ${shown.key}` } : {}) };
}

// The server answered, and its answer is no.
class Refused extends Error {}

async function call(path, method = "GET", body, signal) {
  const key = shown.key;
  const answer = await fetch(path, { method, headers: headers(), body: body === undefined ? undefined : JSON.stringify(body), signal });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `The server answered ${answer.status}.` }));
  if ((answer.status === 401 || answer.status === 403) && key === shown.key) askForKey(problem.detail);
  throw new Refused(problem.detail);
}

// A key that was refused goes on being used for what it may do, but a reload starts without it.
function askForKey(why) {
  if (sessionStorage.getItem("allmrec-key") === shown.key) sessionStorage.removeItem("allmrec-key");
  at("key-form").hidden = false;
  say(why);
}

const asked = async (...parts) => (await call(...parts)).json();

function say(text) { at("status").textContent = text; }

function button(text, label, act, className) {
  const made = node("button", text, className);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

// What the header and the choice of categories say changes with the items.
async function showModel() {
  const model = await asked("v1/model");
  // Of the versions side by side one may have a language model and the other none.
  shown.speaking = new Set(model.versions.filter((one) => one.language_model).map((one) => one.label));
  const version = model.versions[0];
  shown.systems = version.systems;
  const words = [`version ${version.version}`, `${version.items} items`, version.language_model, version.encoder];
  at("model").textContent = words.filter(Boolean).join(" · ");
  const chosen = at("category").value;
  at("category").replaceChildren(...["", ...version.categories].map((name) => {
    const option = node("option", name || "any");
    option.value = name;
    return option;
  }));
  at("category").disabled = !version.categories.length;
  at("category").value = version.categories.includes(chosen) ? chosen : "";
  return version;
}

async function start() {
  const version = await showModel();
  // The server took the key, so it is worth keeping.
  if (shown.key) sessionStorage.setItem("allmrec-key", shown.key);
  at("key-form").hidden = true;
  say("");
  at("system").replaceChildren(...version.systems.map((one) => {
    const option = node("option", one.title);
    option.value = one.name;
    return option;
  }));
  at("system").value = version.default_system;
  at("add-form").querySelector("button").disabled = !version.takes_new_items;
  if (!version.takes_new_items) at("added").textContent = "Nothing that reads texts is served, so items cannot be added.";
  const users = await asked("v1/users?limit=50");
  at("users").replaceChildren(...users.users.map((user) => { const option = node("option"); option.value = user; return option; }));
  await Promise.all([recommend(), report()]);
}

function showChosen() {
  const rows = shown.history.map((id, place) => {
    const row = node("li");
    const title = shown.titles.get(id) || id;
    row.append(node("span", title, "title"), button("Remove", `Remove ${title}`, () => {
      shown.user = null;
      shown.history.splice(place, 1);
      changed(`Removed ${title}.`);
      // The button that was pressed is gone: the next one gets the focus, or the last, or what adds titles.
      const left = at("chosen").querySelectorAll("button");
      (left[Math.min(place, left.length - 1)] || at("search")).focus();
    }, "plain"));
    return row;
  });
  at("chosen").replaceChildren(...rows);
  at("chosen").tabIndex = rows.length > 6 ? 0 : -1;
  at("chosen-none").hidden = rows.length > 0;
  at("clear").hidden = rows.length === 0;
}

async function changed(text) {
  if (text) say(text);
  showChosen();
  await guarded(recommend)();
}

async function search(event) {
  event.preventDefault();
  const found = await asked(`v1/items?limit=20&query=${encodeURIComponent(at("search").value)}`);
  const rows = found.items.map((item) => {
    const title = item.title || item.item_id;
    shown.titles.set(item.item_id, title);
    const row = node("li");
    row.append(node("span", title, "title"), button("Add", `Add ${title} to the history`, () => {
      shown.user = null;
      shown.history.push(item.item_id);
      changed(`Added ${title}.`);
    }, "plain"));
    return row;
  });
  at("found").replaceChildren(...rows);
  at("found").tabIndex = rows.length > 6 ? 0 : -1;
  say(`${rows.length} titles found.`);
}

async function takeUser(event) {
  event.preventDefault();
  const user = at("user").value.trim();
  if (!user) return;
  const found = await asked(`v1/users/${encodeURIComponent(user)}/history?limit=1000`);
  shown.user = user;
  shown.history = found.interactions.map((one) => { shown.titles.set(one.item_id, one.title || one.item_id); return one.item_id; });
  await changed(`User ${user}: ${found.length} interactions.`);
}

async function recommend(event) {
  if (event) event.preventDefault();
  hush();
  const turn = ++shown.asked;
  const whom = shown.user === null ? { history: shown.history } : { user: shown.user };
  const category = at("category").value;
  const base = { ...whom, k: 8, explain: true, diversity: Number(at("diversity").value), ...(category ? { categories: [category] } : {}) };
  const first = at("system").value;
  const names = [first, ...["backbone", "late-fusion"].filter((name) => name !== first && shown.systems.some((one) => one.name === name))];
  at("lists").setAttribute("aria-busy", "true");
  const panels = names.map((name) => {
    const panel = node("section", undefined, "panel");
    const title = (shown.systems.find((one) => one.name === name) || { title: name }).title;
    const heading = node("h3", name === first ? title : `${title} alone`);
    panel.setAttribute("aria-label", heading.textContent);
    panel.append(heading, node("p", "Asking…", "quiet"));
    return panel;
  });
  at("lists").replaceChildren(...panels);
  await Promise.all(names.map(async (name, place) => {
    try {
      const answer = await asked("v1/recommend", "POST", { ...base, system: name });
      if (turn === shown.asked) showAnswer(panels[place], answer);
    } catch (error) {
      if (turn === shown.asked) panels[place].lastChild.textContent = error.message;
    }
  }));
  if (turn === shown.asked) at("lists").removeAttribute("aria-busy");
}

function showAnswer(panel, answer) {
  panel.lastChild.remove();
  const title = (name) => (shown.systems.find((one) => one.name === name) || { title: name }).title;
  for (const one of answer.fallbacks) {
    panel.append(node("p", `${title(one.system)} did not answer (${one.reason.replaceAll("_", " ")}). ${one.detail} ${title(answer.system)} answers.`, "fallback"));
  }
  for (const note of [answer.note, ...answer.notes].filter(Boolean)) panel.append(node("p", note, "fallback"));
  const list = node("ol", undefined, "answers");
  for (const item of answer.items) list.append(itemRow(item, shown.speaking.has(answer.label)));
  panel.append(list);
  if (!answer.items.length) panel.append(node("p", "Nothing is left to recommend.", "quiet"));
  const times = answer.timings;
  panel.append(node("p", `${title(answer.system)}, ${times.total_ms.toFixed(0)} ms, version ${answer.version}`, "quiet"));
}

function itemRow(item, speaks) {
  const row = at("item").content.cloneNode(true).firstElementChild;
  const title = item.title || item.item_id;
  shown.titles.set(item.item_id, title);
  row.querySelector(".title").textContent = title;
  if (item.added) row.querySelector(".title").append(node("span", "new", "new"));
  row.querySelector(".score").textContent = item.score.toFixed(3);
  row.querySelector(".categories").textContent = item.categories.join(", ");
  row.querySelector(".hidden").textContent = `: ${title}`;
  const body = row.querySelector("tbody");
  for (const part of item.parts || []) {
    const line = node("tr");
    const head = node("th", `${part.part} (${part.system})`);
    head.scope = "row";
    const place = part.place === null ? "not known" : `${part.place} of ${part.of}`;
    line.append(head, node("td", place, "number"), node("td", part.score === null ? "–" : part.score.toFixed(3), "number"));
    body.append(line);
  }
  const speak = row.querySelector(".speak");
  if (!speaks) {
    speak.remove();
    return row;
  }
  speak.setAttribute("aria-label", `Ask the language model why: ${title}`);
  speak.addEventListener("click", guarded(() => listen(item.item_id, row)));
  return row;
}

// One answer at a time: what streams for an older click ends here, and its quote says so.
function hush() {
  if (!shown.listening) return;
  const { stop, words } = shown.listening;
  shown.listening = null;
  stop.abort();
  words.textContent = "";
  remark(words, "Stopped: something else was asked for.");
}

// Says in a quote's place what are not the model's words.
function remark(words, text) {
  words.classList.toggle("unsaid", !words.textContent);
  words.append(node("span", `${words.textContent ? " " : ""}(${text})`, "remark"));
}

async function listen(itemId, row) {
  hush();
  const words = row.querySelector(".words");
  const note = row.querySelector(".note");
  const stop = new AbortController();
  const mine = { stop, words };
  shown.listening = mine;
  words.hidden = false;
  words.textContent = "";
  words.classList.remove("unsaid");
  note.hidden = true;
  const whom = shown.user === null ? { history: shown.history } : { user: shown.user };
  let trouble = "The connection was lost before the answer ended.";
  try {
    const answer = await call("v1/explain", "POST", { ...whom, item_id: itemId, about: "reason" }, stop.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done || stop.signal.aborted) break;
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const name = /^event: (.*)$/m.exec(event)[1];
        const data = JSON.parse(/^data: (.*)$/m.exec(event)[1]);
        if (name === "piece") words.append(data.text);
        if (name === "start") { note.textContent = data.note; note.hidden = false; }
        if (name === "error") trouble = data.detail;
        if (name === "end") trouble = words.textContent ? "" : "It said nothing.";
      }
    }
  } catch (error) {
    if (error instanceof Refused) trouble = error.message;
  }
  if (shown.listening !== mine) return;
  shown.listening = null;
  if (trouble) remark(words, trouble);
}

async function addItem(event) {
  event.preventDefault();
  const title = at("new-title").value.trim();
  const categories = at("new-categories").value.split(",").map((part) => part.trim()).filter(Boolean);
  const id = `new-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 6)}`;
  await asked("v1/items", "PUT", { items: [{ item_id: id, title, categories }] });
  at("added").textContent = `${title} is in the catalogue, with the id ${id}.`;
  at("add-form").reset();
  at("search").value = title;
  await Promise.all([showModel(), search(event)]);
  await recommend();
}

async function report() {
  let found;
  try {
    found = (await asked("v1/report")).report;
  } catch (error) {
    at("report").replaceChildren(node("p", error.message, "quiet"));
    return;
  }
  const names = Object.keys(found.systems[0].metrics);
  const table = node("table");
  const head = node("tr");
  for (const name of ["system", ...names]) { const cell = node("th", name); cell.scope = "col"; head.append(cell); }
  table.append(node("thead"), node("tbody"));
  table.tHead.append(head);
  for (const system of found.systems) {
    const row = node("tr");
    const name = node("th", system.name);
    name.scope = "row";
    row.append(name, ...names.map((one) => {
      const metric = system.metrics[one];
      return node("td", metric ? `${metric.value.toFixed(3)} [${metric.low.toFixed(3)}, ${metric.high.toFixed(3)}]` : "–", "number");
    }));
    table.tBodies[0].append(row);
  }
  at("report").replaceChildren(table);
}

function guarded(work) {
  return async (event) => {
    try { await work(event); } catch (error) { say(error.message); }
  };
}

for (const [id, work] of [["search-form", search], ["user-form", takeUser], ["settings", recommend], ["add-form", addItem]]) {
  at(id).addEventListener("submit", (event) => { event.preventDefault(); guarded(work)(event); });
}
for (const id of ["system", "category", "diversity"]) at(id).addEventListener("change", guarded(() => recommend()));
at("diversity").addEventListener("input", () => { at("diversity-value").textContent = at("diversity").value; });
at("clear").addEventListener("click", () => { shown.user = null; shown.history = []; at("user").value = ""; changed("Started anew."); at("search").focus(); });
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  shown.key = at("key").value;
  guarded(start)();
});
guarded(start)();
