"use strict";
const at = (id) => document.getElementById(id);
const WAYS = {
  calibrated: ["Calibrated", "both adapters and their calibration"],
  "multi-step": ["Multi-step", "one adapter after the other"],
  merge: ["Plain merge", "both adapters, without a calibration"],
  backbone: ["Backbone", "the model alone, asked for both"],
};
const ROLES = { primary: "First", tone: "Tone", language: "Language" };
let known = null;
let running = null;

function headers() {
  const key = at("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function failure(response) {
  if (response.status === 401) at("key-row").hidden = false;
  try {
    return (await response.json()).error.message;
  } catch {
    return `the gateway answered ${response.status}`;
  }
}

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function chosen() {
  return [...document.querySelectorAll("#tasks input:checked")].map((one) => one.value).filter(Boolean).join("+");
}

function showTasks() {
  const roles = Object.keys(ROLES).filter((role) => known.tasks.some((task) => task.role === role));
  at("tasks").replaceChildren(...roles.map((role) => {
    const tasks = known.tasks.filter((task) => task.role === role);
    const options = role === "primary" ? tasks : [{ name: "", label: "as it is" }, ...tasks];
    return element("fieldset", {}, element("legend", { textContent: ROLES[role] }), ...options.flatMap((task, index) => {
      const id = `${role}-${task.name || "none"}`;
      const input = element("input", { type: "radio", name: role, id, value: task.name, checked: index === 0 });
      return [input, element("label", { htmlFor: id, textContent: task.label })];
    }));
  }));
  const first = known.compositions[0];
  if (first) for (const name of first.name.split("+")) {
    const input = [...document.querySelectorAll("#tasks input")].find((one) => one.value === name);
    if (input) input.checked = true;
  }
  showChoice();
}

function showChoice() {
  const names = new Set(known.compositions.map((one) => one.name));
  const name = chosen();
  const found = known.compositions.find((one) => one.name === name);
  for (const input of document.querySelectorAll("#tasks input")) {
    const parts = [...document.querySelectorAll("#tasks input:checked")].map((one) => (one.name === input.name ? input : one).value);
    // One that leads nowhere by itself stays open where a third task may complete it.
    const asked = parts.filter(Boolean);
    const leads = [...names].some((one) => asked.every((part) => one.split("+").includes(part)));
    input.disabled = !input.checked && input.name !== "primary" && !leads;
  }
  at("wanted").textContent = name;
  at("learnt").textContent = !found ? "which this bundle does not have"
    : found.parameters ? `${found.parameters.toLocaleString("en")} parameters, ${found.mebibytes.toFixed(3)} MiB of its own` : "by its own adapter";
  at("go").disabled = !found || running !== null;
}

function card(way, composition, first) {
  const [title, how] = composition.passes === 1 ? [WAYS[way][0].replace("Calibrated", "Adapter"), "one task"] : WAYS[way];
  const values = {};
  const list = element("dl", {}, ...["passes", "seconds", "tokens/s", "parameters", "MiB"].map((name) => {
    values[name] = element("dd", { textContent: "–" });
    return element("div", {}, element("dt", { textContent: name }), values[name]);
  }));
  const own = way === "calibrated" ? composition : { parameters: 0, mebibytes: 0 };
  values.passes.textContent = way === "multi-step" ? composition.passes : 1;
  values.parameters.textContent = own.parameters.toLocaleString("en");
  values.MiB.textContent = own.mebibytes.toFixed(3);
  const answer = element("p", { className: "answer" });
  const note = element("p", { className: "how cut" });
  const box = element("article", { className: first ? "first waiting" : "waiting" },
    element("h3", { textContent: title }), element("p", { className: "how", textContent: how }), answer, note, list);
  const state = (name, said = "") => {
    box.className = `${first ? "first " : ""}${name}`;
    box.setAttribute("aria-busy", String(name === "waiting" || name === "running"));
    note.textContent = said;
  };
  return { way, title, box, answer, values, state };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the gateway broke the answer off");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data: ") ? line.slice(6).trim() : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

async function answer(composition, text, one, signal) {
  one.state("running");
  const begun = performance.now();
  const response = await fetch("v1/chat/completions", {
    method: "POST", headers: headers(), signal,
    body: JSON.stringify({
      model: one.way === "calibrated" ? composition.name : `${composition.name}@${one.way}`,
      messages: [{ role: "user", content: text }], max_tokens: 96, stream: true, stream_options: { include_usage: true },
    }),
  });
  if (!response.ok) throw new Error(await failure(response));
  let cut = false;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    cut ||= event.choices[0]?.finish_reason === "length";
    one.answer.textContent += event.choices[0]?.delta?.content ?? "";
    const seconds = (performance.now() - begun) / 1000;
    one.values.seconds.textContent = seconds.toFixed(2);
    if (event.usage) one.values["tokens/s"].textContent = (event.usage.completion_tokens / seconds).toFixed(1);
  }
  if (!one.answer.textContent) one.answer.textContent = "(an empty answer)";
  one.state("done", cut ? "cut at the most tokens it may have" : "");
  at("said").textContent = `${one.title}: ${one.answer.textContent}`;
}

async function ask(event) {
  event.preventDefault();
  const composition = known?.compositions.find((one) => one.name === chosen());
  if (!composition || running) return;
  const text = at("text").value;
  const ways = at("compare").checked ? composition.ways : ["calibrated"];
  const cards = ways.map((way, index) => card(way, composition, index === 0));
  at("answers").replaceChildren(...cards.map((one) => one.box));
  at("trouble").textContent = "";
  running = new AbortController();
  at("stop").disabled = false;
  at("stop").focus();
  showChoice();
  let current = null;
  try {
    for (current of cards) await answer(composition, text, current, running.signal);
  } catch (error) {
    for (const one of cards) if (!one.box.className.includes("done")) one.state("stopped", "stopped");
    if (error.name !== "AbortError") {
      current.state("failed", "failed");
      at("trouble").textContent = error.message;
    }
  } finally {
    running = null;
    showChoice();
    if (document.activeElement === at("stop")) at("go").focus();
    at("stop").disabled = true;
  }
}

async function start() {
  try {
    const response = await fetch("v1/playground", { headers: headers() });
    if (!response.ok) throw new Error(await failure(response));
    known = await response.json();
  } catch (error) {
    at("trouble").textContent = error.message;
    return;
  }
  at("trouble").textContent = "";
  at("about").textContent = `${known.backbone} with ${known.adapters} single-task adapters, and a tiny calibration for each composition of them.`;
  at("example").replaceChildren(at("example").options[0], ...known.examples.map((one) => element("option", { textContent: one.title, value: one.text })));
  showTasks();
}

at("ask").addEventListener("submit", ask);
at("stop").addEventListener("click", () => running?.abort());
at("tasks").addEventListener("change", showChoice);
at("example").addEventListener("change", () => { if (at("example").value) at("text").value = at("example").value; });
at("text").addEventListener("input", () => { at("example").value = ""; });
at("key").addEventListener("change", start);
start();
