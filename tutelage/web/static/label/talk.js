// A conversation that goes on: what was said so far, and the next turn.

import { key, make } from "./dom.js";
import { newKey, post } from "./net.js";
import { conversation } from "./sheet.js";

export class Talk {
  // The page has the words and the drafts, and sends what is to be sent until it is there.
  constructor(page, given) {
    this.page = page;
    this.words = page.words;
    this.chat = given.chat;
    this.place = `chat:${page.task.project}`;
    const { words, chat } = this;
    this.field = make("textarea", {
      rows: 3, maxlength: 20000, dir: "auto", "aria-label": words.talk_write, placeholder: words.talk_write,
      on: { input: () => this.changed(), keydown: (event) => this.press(event) },
    });
    const button = (name, letter, text, kind = "quiet") =>
      make("button", { type: "button", class: kind, on: { click: () => page.act(name) } }, text, " ", key(letter));
    this.bar = make("div", { class: "bar" },
      chat.over ? null : button("send", "↵", words.talk_send, "main"),
      chat.chosen ? button("again", "t", words.talk_again) : null,
      chat.begun ? button("fresh", "w", words.talk_fresh, chat.over ? "main" : "quiet") : null,
      chat.begun ? button("undo", "u", words.undo) : null);
    this.waiting = make("p", { class: "soft waiting", role: "status", hidden: true }, words.talk_coming);
    const messages = given.messages.length ? conversation(words, given.messages) : null;
    this.element = make("div", { class: "sheet talk" }, turnLine(words, chat), messages,
      chat.over ? make("p", { class: "soft" }, words.talk_over) : make("div", { class: "compose" }, this.field), this.waiting, this.bar);
    const held = page.drafts.local(this.place);
    const mine = held && held.rev === chat.turn ? JSON.parse(held.body) : null;
    this.field.value = mine?.text || chat.text;
    this.idem = mine?.text && mine.idem ? mine.idem : newKey();
  }

  // When it stands on the page: the end of what was said is what is answered.
  shown() {
    const said = this.element.querySelector(".conversation");
    if (said) said.scrollTop = said.scrollHeight;
    (this.chat.over ? this.bar.querySelector(".main") : this.field).focus({ preventScroll: true });
  }

  // What was changed is another turn, with a key of its own.
  changed() {
    this.idem = newKey();
    this.keep();
    this.page.say("");
    clearTimeout(this.saving);
    if (this.page.task.mode === "judge") this.saving = setTimeout(() => this.save(), 1500);
  }

  async save() {
    if (this.page.busy) return;
    try {
      await post("/chat/draft", { project: this.page.task.project, text: this.field.value });
      this.page.say(this.words.saved);
    } catch {
      // It is kept on this machine, and is sent with the turn.
    }
  }

  act(name) {
    const { chat, idem } = this;
    const text = this.field.value.trim();
    if (name === "send" && text && !chat.over) return this.converse("/chat/ask", { text, idem });
    if (name === "again" && chat.chosen) return this.converse("/chat/again", { idem: newKey() });
    if (name === "fresh" && chat.begun) return this.converse("/chat/end", {});
    return undefined;
  }

  // Answers come after a while. The same key is the same turn, however often it is sent.
  async converse(path, body) {
    const { page } = this;
    if (page.busy) return;
    if (page.task.mode === "preview") {
      page.say(this.words.preview_only);
      return;
    }
    page.busy = true;
    clearTimeout(this.saving);
    this.keep();
    this.wait(true);
    page.say("");
    await page.patiently(async () => {
      const next = await post(path, { project: page.task.project, ...body });
      page.drafts.drop(this.place);
      page.show(next);
    });
    page.busy = false;
    if (page.talk !== this) return;
    this.wait(false);
    this.shown();
  }

  keep() { this.page.drafts.keep(this.place, JSON.stringify({ text: this.field.value, idem: this.idem }), this.chat.turn); }

  // While an input method composes (Chinese, Japanese, ...), Enter belongs to it.
  press(event) {
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    if (!event.repeat) this.page.act("send");
  }

  wait(waits) {
    this.element.setAttribute("aria-busy", String(waits));
    this.waiting.hidden = !waits;
    this.field.readOnly = waits;
    for (const button of this.bar.querySelectorAll("button")) button.disabled = waits;
  }
}

export function turnLine(words, chat, several = false) {
  if (chat.over) return null;
  return make("p", { class: "turn-line" }, make("span", { class: "tag" }, `${words.talk_turn} ${chat.turn} / ${chat.turns}`),
    several && Number.isInteger(chat.last) ? make("span", { class: "soft" }, words.talk_compare) : null);
}
