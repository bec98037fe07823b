// Prompts that named models answer: what was chosen, as the server takes it.

import { uploadTo } from "./net.js";

export function fields(root) {
  const values = {};
  for (const field of root.querySelectorAll("[data-field]")) {
    values[field.dataset.field] = field.type === "number" ? Number(field.value) : field.value;
  }
  return values;
}

// Sends the file of prompts; gives the sampling that it began.
export function begin(project, root) {
  const file = root.querySelector("input[type=file]").files[0];
  const query = new URLSearchParams(fields(root));
  for (const box of root.querySelectorAll("[data-model]:checked")) query.append("models", box.value);
  query.append("name", file.name);
  return uploadTo(`/p/${project}/sample?${query}`, file);
}
