// The chat page. What the model says is put in as text nodes only: it can never become markup.
"use strict";

const words = document.body.dataset;
const conversation = document.getElementById("conversation");
const welcome = document.getElementById("welcome");
const composer = document.getElementById("composer");
const message = document.getElementById("message");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const system = document.getElementById("system");
const temperature = document.getElementById("temperature");
const settings = document.getElementById("settings");

// Control characters but newline and tab: nothing to see.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

let turns = []; // {role, content}, as the server reads them
let coming = null; // the AbortController of the answer that is coming

function show(kind, text) {
  const article = document.getElementById(kind).content.firstElementChild.cloneNode(true);
  article.querySelector(".text").textContent = text;
  conversation.append(article);
  welcome.hidden = true;
  return article;
}

function notice(article, text) {
  const line = article.querySelector(".notice");
  line.textContent = text;
  line.hidden = false;
}

function atEnd() {
  return window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 120;
}

function toEnd() {
  window.scrollTo(0, document.documentElement.scrollHeight);
}

function busy(controller) {
  coming = controller;
  send.hidden = controller !== null;
  stop.hidden = controller === null;
  refresh();
}

function refresh() {
  send.disabled = message.value.trim() === "";
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
}

// The parsed events of a stream of server-sent events.
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part === "data: [DONE]") return;
      if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
    }
  }
}

async function request(signal) {
  const instructions = system.value.trim();
  const messages = instructions ? [{ role: "system", content: instructions }, ...turns] : turns;
  return fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model: words.model, messages, stream: true, temperature: Number(temperature.value) }),
    signal,
  });
}

// Asks for an answer to the turns so far. `earlier` is the id of the answer that this one replaces.
async function answer(earlier = null) {
  const controller = new AbortController();
  const article = show("answered", "");
  const text = article.querySelector(".text");
  let said = "";
  let id = null;
  let failed = false;
  article.classList.add("coming");
  article.setAttribute("aria-busy", "true");
  busy(controller);
  toEnd();
  try {
    const response = await request(controller.signal);
    if (!response.ok) {
      const body = await response.json();
      throw new Refusal(response.status === 429 ? words.busy : body.error.message);
    }
    for await (const event of events(response.body)) {
      if (event.error) throw new Refusal(event.error.message);
      id = event.id;
      const choice = event.choices[0];
      const stay = atEnd();
      if (choice?.delta.content) {
        said += choice.delta.content;
        text.append(document.createTextNode(choice.delta.content.replace(CONTROLS, "")));
      }
      if (choice?.finish_reason === "length") notice(article, words.cut);
      if (stay) toEnd();
    }
    if (!said.trim()) notice(article, words.empty);
  } catch (error) {
    if (error.name === "AbortError") {
      notice(article, words.stopped);
    } else {
      failed = true;
      notice(article, error instanceof Refusal ? error.message : words.unreachable);
    }
  }
  article.classList.remove("coming");
  article.removeAttribute("aria-busy");
  if (!article.isConnected) return; // a new chat has begun meanwhile
  const stay = atEnd();
  busy(null);
  finish(article, said, failed ? null : id, earlier);
  if (stay) toEnd();
}

class Refusal extends Error {}

// The buttons under an answer that has ended.
function finish(article, said, id, earlier) {
  const replaces = turns.length;
  if (said.trim()) turns.push({ role: "assistant", content: said });
  const status = article.querySelector(".said");
  for (const thumb of article.querySelectorAll(".thumb")) {
    thumb.hidden = id === null || !said.trim();
    thumb.addEventListener("click", () => {
      judge(article.querySelectorAll(".thumb"), thumb, status, { completion_id: id, kind: "thumb" });
    });
  }
  const copy = article.querySelector(".copy");
  copy.hidden = !said || !navigator.clipboard;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(said);
    status.textContent = words.copied;
  });
  article.querySelector(".again").addEventListener("click", () => {
    if (coming || article !== conversation.lastElementChild) return;
    turns.length = replaces;
    article.remove();
    answer(id);
  });
  const compare = article.querySelector(".compare");
  if (compare && earlier !== null && id !== null && said.trim()) {
    compare.hidden = false;
    const buttons = compare.querySelectorAll("button");
    for (const button of buttons) {
      button.addEventListener("click", () => {
        judge(buttons, button, status, { completion_id: id, other_id: earlier, kind: "pair" });
      });
    }
  }
  article.querySelector(".actions").hidden = false;
}

// Sends one judgement and shows it as made only when the server has it.
async function judge(buttons, pressed, status, judgement) {
  try {
    const response = await fetch("/v1/feedback", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...judgement, value: pressed.dataset.value }),
    });
    if (!response.ok) throw new Refusal((await response.json()).error.message);
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
    status.textContent = words.thanks;
  } catch (error) {
    status.textContent = error instanceof Refusal ? error.message : words.unreachable;
  }
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text || coming) return;
  // A question that never got its answer gives way to the new one.
  if (turns.at(-1)?.role === "user") turns.pop();
  message.value = "";
  refresh();
  turns.push({ role: "user", content: text });
  show("asked", text);
  answer();
});

message.addEventListener("keydown", (event) => {
  // While an input method composes (Chinese, Japanese, ...), Enter belongs to it.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault();
    composer.requestSubmit();
  }
});

message.addEventListener("input", refresh);

stop.addEventListener("click", () => {
  coming?.abort();
  message.focus();
});

document.getElementById("new").addEventListener("click", () => {
  coming?.abort();
  busy(null);
  turns = [];
  conversation.replaceChildren();
  welcome.hidden = false;
  message.focus();
});

temperature.addEventListener("input", () => {
  document.getElementById("temperature-shown").textContent = Number(temperature.value).toFixed(1);
});

document.addEventListener("click", (event) => {
  if (!settings.contains(event.target)) settings.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (settings.open) settings.open = false;
    else coming?.abort();
  }
});

refresh();
