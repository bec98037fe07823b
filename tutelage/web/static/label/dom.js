// Making elements. Text is always put in as text; only what the server has rendered is put in as markup.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "html") element.innerHTML = value; // rendered and cleaned by the server
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const key = (text) => make("kbd", {}, text);

export function letter(seat) {
  return String.fromCharCode(65 + seat);
}

// A dialog that asks for one of some options; gives the chosen one, or null.
export function choose(title, options, { note = null, words }) {
  return new Promise((resolve) => {
    let chosen = null;
    const text = note === null ? null : make("textarea", { rows: 2, maxlength: 4000, "aria-label": note, placeholder: note });
    const buttons = options.map((option, place) =>
      make("button", { type: "button", class: "option-line", on: { click: () => finish(option.value) } },
        key(String(place + 1)), " ", option.text),
    );
    const dialog = make("dialog", { class: "ask", "aria-label": title },
      make("h2", {}, title), make("div", { class: "option-lines" }, ...buttons), text,
      make("div", { class: "actions" }, make("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, words.close)),
    );
    const finish = (value) => {
      chosen = { value, note: text ? text.value : "" };
      dialog.close();
    };
    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
      const option = options[Number(event.key) - 1];
      if (option) {
        event.preventDefault();
        event.stopPropagation(); // the page behind must not take it for an answer
        finish(option.value);
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(chosen);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
