// The task page. What is said is kept on this machine until the server has it, and the server has it once.

import { Drafts, preferences } from "./drafts.js";
import { choose, key, make } from "./dom.js";
import { begin, newKey, Offline, post, wait } from "./net.js";
import { keyTable, Sheet } from "./sheet.js";
import { Talk, turnLine } from "./talk.js";

const root = document.getElementById("task");

class Page {
  constructor(task) {
    this.task = task;
    this.words = task.words;
    this.drafts = new Drafts(task.account);
    this.sheet = null;
    this.talk = null; // a turn that is written
    this.held = null; // the item that is ours: {item, token, rev}
    this.busy = false;
    this.active = 0;
    this.notice = make("p", { class: "status", role: "status" });
    this.banner = make("p", { class: "notice", role: "alert", hidden: true }, this.words.offline);
    this.body = make("div", { class: "stage" });
    root.replaceChildren(this.banner, this.body, this.notice);
    document.addEventListener("keydown", (event) => this.key(event));
    for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => this.act(button.dataset.do));
    window.addEventListener("online", () => this.wake?.());
    setInterval(() => { if (document.visibilityState === "visible") this.active += 1000; }, 1000);
    if (task.lease_seconds) setInterval(() => this.renew(), Math.max(15, task.lease_seconds / 3) * 1000);
  }

  async start() {
    if (this.task.mode !== "judge") return this.show({ state: "item", ...this.task.given });
    const left = this.drafts.outgoing;
    if (left) return this.deliver(left);
    return this.claim();
  }

  async claim() {
    this.body.replaceChildren(make("div", { class: "skeleton", "aria-hidden": "true" }, make("i"), make("i"), make("i")));
    await this.patiently(async () => this.show(await post("/seats/claim", { project: this.task.project })));
  }

  // Does it again while there is no connection; tells what the server refuses.
  async patiently(work) {
    for (let pause = 1000; ; pause = Math.min(2 * pause, 15000)) {
      try {
        const result = await work();
        this.banner.hidden = true;
        return result;
      } catch (error) {
        if (!(error instanceof Offline)) return this.refused(error);
        this.banner.hidden = false;
        await Promise.race([wait(pause), new Promise((resolve) => { this.wake = resolve; })]);
      }
    }
  }

  show(next) {
    this.busy = false;
    this.sheet = this.talk = this.held = null;
    const progress = document.getElementById("progress");
    if (progress && next.state === "item" && next.answered !== undefined) {
      progress.textContent = `${next.answered} ${this.words.done_today}` +
        (next.left_today === null || next.left_today === undefined ? "" : ` · ${next.left_today} ${this.words.left_today}`);
    }
    if (next.state === "chat") return this.write(next);
    if (next.state !== "item") return this.pause(next.state);
    this.held = { item: next.item, token: next.token, rev: next.rev || 0 };
    this.active = 0;
    this.sheet = new Sheet(this.task, next, () => this.changed());
    this.body.replaceChildren(...(next.chat ? [turnLine(this.words, next.chat, this.task.questions.length > 1)] : []), this.sheet.element);
    if (next.chat) this.sheet.element.firstChild.scrollTop = this.sheet.element.firstChild.scrollHeight;
    (this.sheet.dock.matches(".long") ? this.body : this.sheet.dock).append(this.actions());
    this.restore(next);
    window.scrollTo(0, 0);
    this.sheet.rows[this.sheet.at].focus();
    return undefined;
  }

  write(next) {
    this.talk = new Talk(this, next);
    this.body.replaceChildren(this.talk.element);
    this.talk.shown();
  }

  // What was begun: here if it is at least as new as there.
  restore(next) {
    if (next.said) return this.sheet.fill(next);
    const local = next.item ? this.drafts.local(next.item) : null;
    const body = local && local.rev >= this.held.rev ? local.body : next.draft;
    if (body) {
      try {
        this.sheet.fill(JSON.parse(body));
      } catch {
        this.say(this.words.failed);
      }
    }
    return undefined;
  }

  actions() {
    const { words } = this;
    const button = (name, letter, text, kind = "quiet") =>
      make("button", { type: "button", class: kind, on: { click: () => this.act(name) } }, text, letter ? " " : "", letter ? key(letter) : "");
    const main = { judge: words.submit, correct: words.save, quiz: words.check, decide: words.decide, preview: words.submit }[this.task.mode];
    const judging = this.task.mode === "judge" || this.task.mode === "preview";
    return make("div", { class: "bar" },
      button("submit", "↵", main, "main"),
      ...(this.task.mode === "decide" ? [button("gold", "", words.make_known), button("send_back", "", words.send_back)] : []),
      ...(judging ? [button("skip", "s", words.skip), button("flag", "f", words.flag), button("undo", "u", words.undo)] : []),
      ...(this.task.mode === "quiz" ? [] : [button("note", "n", words.note)]),
      button("raw", "r", words.raw, "quiet wide"), ...(this.sheet.seats === 2 ? [button("marked", "d", words.differences, "quiet wide")] : []));
  }

  changed() {
    this.say("");
    if (this.task.mode !== "judge" || !this.held) return;
    this.drafts.keep(this.held.item, this.sheet.body, this.held.rev);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.saveDraft(), 1500);
  }

  async saveDraft() {
    const held = this.held;
    if (!held || !this.sheet || this.busy) return;
    const body = this.sheet.body;
    try {
      const { rev } = await post("/seats/draft", { item: held.item, token: held.token, body, rev: held.rev });
      held.rev = rev;
      if (this.held !== held) return;
      this.drafts.keep(held.item, this.sheet.body, rev);
      this.say(this.words.saved);
    } catch (error) {
      if (error instanceof Offline || this.held !== held) return;
      if (error.code === "stale_draft") {
        this.drafts.drop(held.item);
        await this.claim();
        this.say(this.words.changed_elsewhere);
      } else this.refused(error);
    }
  }

  async renew() {
    const held = this.held;
    if (!held || this.task.mode !== "judge" || document.visibilityState !== "visible" || this.busy) return;
    try {
      await post("/seats/renew", { item: held.item, token: held.token });
    } catch (error) {
      if (!(error instanceof Offline) && this.held === held) this.refused(error);
    }
  }

  async submit() {
    if (this.busy || !this.sheet) return;
    const { missing } = this.sheet;
    if (missing) {
      this.say(`${this.words.still_open}: ${missing.label}`, true);
      this.sheet.focusQuestion(missing);
      return;
    }
    if (!Object.keys(this.sheet.said).length) {
      this.say(this.words.nothing_answered, true);
      return;
    }
    let rule = "";
    if (this.sheet.conflict && this.sheet.rules.length) {
      const chosen = await this.sheet.askRule();
      if (!chosen) return;
      rule = chosen.value;
    }
    const common = { item: this.held.item, said: this.sheet.said, note: this.sheet.note.value };
    switch (this.task.mode) {
      case "preview":
        this.say(this.words.preview_only);
        break;
      case "quiz":
        await this.answerQuiz(common.said);
        break;
      case "decide":
        await this.decide("decide");
        break;
      case "correct":
        await this.once({ path: "/seats/correct", body: { ...common, conflict_rule: rule, idem: newKey() } });
        break;
      default:
        await this.deliver({
          path: "/seats/submit",
          body: { project: this.task.project, token: this.held.token, ...common, conflict_rule: rule, idem: newKey(), active_ms: this.active, client: "web" },
        });
    }
  }

  // Sends what was said until the server says that it has it, or that it cannot have it.
  async deliver(parcel) {
    this.busy = true;
    clearTimeout(this.saving);
    this.drafts.outgoing = parcel;
    document.body.classList.add("sending");
    await this.patiently(async () => {
      const answer = await post(parcel.path, parcel.body);
      this.drafts.outgoing = null;
      this.drafts.drop(parcel.body.item);
      this.say(this.words.kept);
      this.show(answer.next);
    });
    document.body.classList.remove("sending");
  }

  async once({ path, body }) {
    this.busy = true;
    const done = await this.patiently(() => post(path, body));
    this.busy = false;
    if (done) location.assign(`/p/${this.task.project}/history`);
  }

  async answerQuiz(said) {
    this.busy = true;
    const marked = await this.patiently(() => post(`/p/${this.task.project}/quiz`, { place: this.task.given.place, said }));
    if (!marked) return;
    const { words } = this;
    const again = make("button", { type: "button", class: "main", on: { click: () => location.reload() } }, words.go_on, " ", key("↵"));
    const wanted = Object.entries(marked.wanted).map(([name, value]) => {
      const shown = typeof value === "number" && words[`step_${value}`] ? words[`step_${value}`] : words[value] || JSON.stringify(value);
      return make("p", {}, `${words.quiz_wanted}: `, make("b", {}, shown), this.task.questions.length > 1 ? ` (${this.task.labels[name] || name})` : "");
    });
    this.body.querySelector(".bar").replaceWith(make("section", { class: `card verdict ${marked.right ? "right" : "wrong"}`, role: "status" },
      make("h2", {}, marked.right ? words.quiz_right : words.quiz_wrong), ...(marked.right ? [] : wanted),
      make("div", { class: "prose", html: marked.explanation }), again));
    again.focus();
  }

  async decide(kind) {
    if (this.busy) return;
    if (kind !== "send_back" && this.sheet.missing) {
      this.say(`${this.words.still_open}: ${this.sheet.missing.label}`, true);
      return;
    }
    this.busy = true;
    const said = kind === "send_back" ? {} : this.sheet.said;
    const path = `/p/${this.task.project}/items/${this.task.given.item}`;
    const done = await this.patiently(() => post(path, { kind, said, note: this.sheet.note.value }));
    this.busy = false;
    if (done) location.assign(`/p/${this.task.project}/items`);
  }

  async act(name) {
    if (name === "guideline") return document.getElementById("guideline")?.showModal();
    if (name === "keys") return this.showKeys();
    if (name === "undo") return this.undo();
    if (this.talk) return this.talk.act(name);
    if (!this.sheet) return undefined;
    switch (name) {
      case "submit": return this.submit();
      case "gold": case "send_back": return this.decide(name);
      case "note": return this.sheet.showNote();
      case "raw": case "marked": return this.sheet.toggle(name);
      case "skip": return this.skip();
      case "flag": return this.flag();
      default: return undefined;
    }
  }

  async skip() {
    if (this.task.mode !== "judge" || this.busy) return;
    const options = this.task.skips.map((reason) => ({ value: reason, text: this.words[`skip_${reason}`] }));
    const chosen = await choose(this.words.skip_why, options, { note: this.words.note_hint, words: this.words });
    if (!chosen || !this.held) return;
    await this.deliver({ path: "/seats/skip", body: {
      project: this.task.project, item: this.held.item, token: this.held.token, idem: newKey(), reason: chosen.value, note: chosen.note } });
  }

  async flag() {
    if (this.task.mode !== "judge" || !this.held) return;
    const options = this.task.flags.map((reason) => ({ value: reason, text: this.words[`flag_${reason}`] }));
    const chosen = await choose(this.words.flag_what, options, { note: this.words.note_hint, words: this.words });
    if (!chosen || !this.held) return;
    const done = await this.patiently(() => post("/seats/flag", { item: this.held.item, reason: chosen.value, note: chosen.note }));
    if (done) this.say(this.words.flag_kept);
  }

  async undo() {
    if (this.task.mode !== "judge" || this.busy) return;
    this.busy = true;
    clearTimeout(this.saving);
    const idem = newKey();
    await this.patiently(async () => {
      this.show(await post("/seats/undo", { project: this.task.project, idem }));
      this.say(this.words.undone);
    });
    this.busy = false;
  }

  say(text, urgent = false) {
    this.notice.textContent = text;
    this.notice.classList.toggle("urgent", urgent);
  }

  refused(error) {
    this.busy = false;
    this.banner.hidden = true;
    if (error.code === "sign_in") return this.pause("signed_out");
    if (!this.talk && (error.code === "lease_lost" || error.code === "closed")) return this.lost();
    if (["guideline", "not_qualified", "paused", "daily_cap"].includes(error.code)) return this.pause(error.code);
    this.drafts.outgoing = null;
    if (this.sheet || this.talk) this.say(`${this.words.failed}: ${error.message}`, true);
    else this.pause("failed", error.message);
    return undefined;
  }

  // Somebody else has the item. What was written stays readable.
  lost() {
    const parcel = this.drafts.outgoing;
    const body = parcel ? JSON.stringify(parcel.body.said, null, 1) : this.sheet ? JSON.stringify(this.sheet.said, null, 1) : "";
    const texts = this.sheet ? this.sheet.questions.filter((one) => one.spec.kind === "text" && one.said).map((one) => one.said) : [];
    this.drafts.outgoing = null;
    this.held = null;
    this.sheet = null;
    this.card(this.words.lost, this.words.lost_text, this.words.next, () => this.claim(),
      make("textarea", { readonly: true, rows: 6, "aria-label": this.words.lost_text }, texts.join("\n\n") || body));
  }

  pause(state, message) {
    const { words } = this;
    const base = `/p/${this.task.project}`;
    this.sheet = this.talk = this.held = null;
    switch (state) {
      case "daily_cap": return this.card(words.cap, words.cap_text);
      case "guideline": return this.card(words.guideline_new, words.guideline_new_text, words.read, () => location.assign(`${base}/guideline`));
      case "not_qualified": return this.card(words.not_qualified, "", words.go_on, () => location.assign(base));
      case "paused": return this.card(words.paused_title, words.paused_text, words.look_again, () => this.claim());
      case "signed_out": return this.card(words.signed_out, words.signed_out_text, words.sign_in, () => location.reload());
      case "failed": return this.card(words.failed, message, words.again, () => this.claim());
      default: return this.card(words.empty, words.empty_text, words.look_again, () => this.claim());
    }
  }

  card(title, text, action, act, extra = null) {
    const go = action ? make("button", { type: "button", class: "main", on: { click: act } }, action) : null;
    this.body.replaceChildren(make("section", { class: "card door center" }, make("h1", {}, title), text ? make("p", { class: "soft" }, text) : null, extra, go));
    go?.focus();
  }

  showKeys() {
    const box = make("input", { type: "checkbox", on: { change: () => preferences.set("single_keys", box.checked) } });
    box.checked = preferences.get("single_keys", true);
    const close = make("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, this.words.close);
    const dialog = make("dialog", { class: "ask", "aria-label": this.words.keys }, make("h2", {}, this.words.keys), keyTable(this.words),
      make("label", { class: "check" }, box, ` ${this.words.single_keys}`), make("div", { class: "actions" }, close));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  key(event) {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    const writing = event.target.matches("textarea, input, select");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) {
      event.preventDefault();
      this.submit();
      return;
    }
    if (writing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      event.preventDefault();
      this.undo();
      return;
    }
    if (event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter") {
      // A button that does something of its own does that.
      if (event.target.matches("a, summary, button:not(.choice)")) return;
      event.preventDefault();
      if (this.talk) this.talk.shown();
      else if (!event.repeat) this.submit();
      return;
    }
    const single = event.key.length === 1 && !event.altKey;
    if (single && !preferences.get("single_keys", true)) return;
    if (event.repeat && single) return;
    const name = { s: "skip", f: "flag", u: "undo", n: "note", g: "guideline", "?": "keys", t: "again", w: "fresh" }[event.key];
    if (this.sheet && !this.busy && this.sheet.press(event)) event.preventDefault();
    else if (name && single) {
      event.preventDefault();
      this.act(name);
    }
  }
}

if (root) {
  const task = JSON.parse(root.dataset.task);
  begin(task.csrf);
  new Page(task).start();
}
