// The page of a project's sampling: begins one, and shows how far it is.

import { begin as word, post, wait } from "./net.js";
import { begin } from "./sampling.js";

const byId = (id) => document.getElementById(id);
const card = byId("job");
const form = byId("sampling");
const { project } = card.dataset;
word(card.dataset.csrf);

function show(job) {
  card.hidden = job.state === "none";
  if (card.hidden) return;
  byId("job-state").textContent = byId("job-words").content.querySelector(`[data-state=${job.state}]`).textContent;
  byId("job-bar").max = job.total;
  byId("job-bar").value = job.done;
  byId("job-done").textContent = `${job.done} / ${job.total}`;
  byId("job-added").textContent = job.added;
  byId("job-alike").textContent = job.alike;
  byId("job-models").textContent = job.models.join(", ");
  byId("job-message").textContent = job.message;
  byId("job-message").hidden = !job.message;
  byId("job-stop").hidden = job.state !== "running";
}

let watching = false;

async function watch(job) {
  show(job);
  if (watching) return;
  watching = true;
  let last = job;
  while (last.state === "running") {
    await wait(1000);
    try {
      last = await (await fetch(`/p/${project}/sample/progress`)).json();
      if (last.total !== undefined) show(last);
      else break;
    } catch {
      // The next look will tell.
    }
  }
  watching = false;
}

byId("job-stop").addEventListener("click", async () => {
  byId("job-stop").disabled = true;
  show(await post(`/p/${project}/sample/stop`, {}));
  byId("job-stop").disabled = false;
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = byId("said");
  const file = byId("sample-file");
  if (!file.files[0]) {
    file.click();
    return;
  }
  const button = form.querySelector("button.main");
  button.disabled = true;
  said.hidden = true;
  try {
    watch(await begin(project, form));
    file.value = "";
    card.scrollIntoView({ block: "nearest" });
  } catch (error) {
    said.textContent = error.message || String(error);
    said.hidden = false;
  }
  button.disabled = false;
});

watch(JSON.parse(card.dataset.job));
