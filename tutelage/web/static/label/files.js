// Files that are sent as they are, and a guideline that is shown while it is written.

import { begin, post, upload } from "./net.js";

for (const box of document.querySelectorAll("[data-upload]")) {
  const [input, button, said] = [box.querySelector("input"), box.querySelector("button"), box.querySelector("p")];
  button.addEventListener("click", async () => {
    const file = input.files[0];
    if (!file) return input.click();
    begin(box.dataset.csrf);
    button.disabled = true;
    said.textContent = box.dataset.busy;
    try {
      const { items } = await upload(box.dataset.upload, file, box.querySelector("[name=ask]")?.value);
      said.textContent = box.dataset.done.replace("{}", items);
      input.value = "";
    } catch (error) {
      said.textContent = error.message || String(error);
    }
    button.disabled = false;
    return undefined;
  });
}

const text = document.querySelector("textarea[data-render]");
if (text) {
  const shown = document.getElementById("shown");
  let coming;
  begin(text.dataset.csrf);
  text.addEventListener("input", () => {
    clearTimeout(coming);
    coming = setTimeout(async () => {
      try {
        shown.innerHTML = (await post(text.dataset.render, { text: text.value })).html; // rendered and cleaned by the server
      } catch {
        // It is only a look ahead: what is published is rendered again.
      }
    }, 400);
  });
}
