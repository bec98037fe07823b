// A new project: its questions come from a kind and can be changed; its files follow once it is there.

import { begin, post, upload } from "./net.js";
import { begin as sample, fields } from "./sampling.js";

const form = document.getElementById("making");
const { presets } = JSON.parse(form.dataset.presets);
const rows = document.querySelector("#questions tbody");
const said = document.getElementById("said");
const byId = (id) => document.getElementById(id);
begin(form.dataset.csrf);

function addRow(question) {
  const row = byId("row").content.firstElementChild.cloneNode(true);
  for (const field of row.querySelectorAll("[data-name]")) {
    const value = question[field.dataset.name];
    if (field.type === "checkbox") field.checked = value;
    else field.value = value;
  }
  const kind = row.querySelector("[data-name=kind]");
  const fit = () => {
    row.querySelector(".range").hidden = kind.value !== "scale";
    row.querySelector("[data-name=per_response]").disabled = !["scale", "binary"].includes(kind.value);
  };
  kind.addEventListener("change", fit);
  fit();
  row.querySelector("[data-remove]").addEventListener("click", () => row.remove());
  rows.append(row);
}

function take(preset) {
  rows.replaceChildren();
  preset.questions.forEach(addRow);
  byId("text").value = preset.guideline;
  byId("rules").value = preset.rules.join("\n");
  byId("talking").hidden = preset.key !== "chat";
  byId("sampling").hidden = byId("items-file").hidden = preset.key === "chat";
}

function questions() {
  return Array.from(rows.children, (row) => {
    const question = {};
    for (const field of row.querySelectorAll("[data-name]")) {
      if (field.type === "checkbox") question[field.dataset.name] = field.checked && !field.disabled;
      else if (field.type === "number") question[field.dataset.name] = Number(field.value) || 0;
      else question[field.dataset.name] = field.value.trim();
    }
    return question;
  });
}

const number = (id) => Number(byId(id).value) || 0;

let project = null; // once it is made, only its files are sent again

async function makeAll() {
  if (project === null) {
    const made = await post("/projects", {
      name: byId("name").value, kind: form.elements.preset.value, chat: fields(byId("talking")), questions: questions(), guideline: byId("text").value,
      conflict_rules: byId("rules").value.split("\n").map((line) => line.trim()).filter(Boolean),
      overlap: number("overlap"), gold_share: number("gold") / 100, pass_share: number("pass") / 100,
      lease_minutes: number("lease"), daily_cap: number("cap"), per_answer: number("pay"), currency: byId("currency").value,
    });
    project = made.project;
  }
  for (const [id, path] of [["file", "items"], ["quiz", "quiz/file"]]) {
    const input = byId(id);
    if (input.files[0]) {
      await upload(`/p/${project}/${path}`, input.files[0]);
      input.value = "";
    }
  }
  const prompts = byId("sample-file");
  if (prompts?.files[0]) {
    await sample(project, byId("sampling"));
    prompts.value = "";
    location.assign(`/p/${project}/sample`);
  } else location.assign(`/p/${project}/board`);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button.main");
  button.disabled = true;
  said.hidden = true;
  try {
    await makeAll();
  } catch (error) {
    said.textContent = error.message || String(error);
    said.hidden = false;
    said.scrollIntoView({ block: "center" });
  }
  button.disabled = false;
});

for (const radio of form.elements.preset) {
  radio.addEventListener("change", () => take(presets.find((preset) => preset.key === radio.value)));
}
byId("more").addEventListener("click", () =>
  addRow({ key: "", label: "", kind: "compare", dimension: "overall", low: 1, high: 5, per_response: false, required: true }));
take(presets.find((preset) => preset.key === form.elements.preset.value));
