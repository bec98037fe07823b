// One item on the page: the conversation, the answers, the questions, and the way the keyboard goes through them.

import { choose, key, letter, make } from "./dom.js";
import { differences } from "./differences.js";
import { question } from "./questions.js";

export function conversation(words, messages) {
  const turns = messages.map((message) =>
    make("div", { class: `turn ${message.role}` }, make("span", { class: "who" }, words[`turn_${message.role}`]),
      make("div", { class: "prose", dir: "auto", html: message.html })));
  return make("section", { class: "conversation", "aria-label": words.prompt, tabindex: "0" }, ...turns);
}

export class Sheet {
  constructor(task, given, changed) {
    this.words = task.words;
    const newAnswer = Number.isInteger(given.chat?.last) && task.questions.length === 1;
    this.labels = newAnswer ? { [task.questions[0].key]: this.words.talk_compare } : task.labels;
    this.doubts = task.doubts;
    this.rules = task.rules;
    this.seats = given.responses.length;
    this.texts = given.responses.map((response) => response.raw);
    this.given = given;
    this.changed = changed;
    this.raw = false;
    this.marked = false;
    this.questions = task.questions.map((spec) => question(spec, this));
    this.rows = this.questions.flatMap((one) => one.rows.map((row, place) => ({ question: one, place, ...row })));
    this.at = 0;
    this.note = make("textarea", { rows: 2, maxlength: 4000, placeholder: this.words.note_hint, "aria-label": this.words.note, on: { input: changed } });
    this.noteBox = make("div", { class: "note", hidden: true }, this.note);
    this.answers = make("div", { class: `answers n${this.seats === 4 ? 4 : Math.min(this.seats, 3)}` });
    // A question or two stay in sight while the answers are read.
    const dock = this.rows.length <= 1 && this.questions[0].spec.kind === "compare" ? "dock" : "dock long";
    this.dock = make("div", { class: dock }, make("section", { class: "questions", "aria-label": this.words.questions }, ...this.questions.map((one) => one.element), this.noteBox));
    this.element = make("div", { class: "sheet" }, conversation(this.words, given.messages), this.answers, this.dock);
    this.element.addEventListener("focusin", (event) => this.follow(event.target));
    this.drawAnswers();
    this.mark();
  }

  drawAnswers() {
    const marked = this.marked && this.seats === 2 ? differences(...this.texts) : null;
    this.answers.replaceChildren(...this.given.responses.map((response, seat) => {
      let body;
      if (marked) body = make("div", { class: "raw", dir: "auto" }, ...marked[seat].map((piece) => (piece.own ? make("mark", {}, piece.text) : piece.text)));
      else if (this.raw) body = make("div", { class: "raw", dir: "auto" }, response.raw);
      else body = make("div", { class: "prose", dir: "auto", html: response.html });
      const last = this.given.chat?.last ?? null;
      const again = last === null ? null : this.words[seat === last ? "talk_last" : "talk_new"];
      const name = again || (this.seats > 1 ? `${this.words.answer} ${letter(seat)}` : this.words.answer);
      return make("article", { class: "answer", "aria-label": name },
        again ? make("b", { class: "tag" }, again) : this.seats > 1 ? make("b", { class: "seat" }, letter(seat)) : null, body);
    }));
  }

  // The answer as it is sent, by the questions' keys.
  get said() {
    const said = {};
    for (const one of this.questions) if (one.said !== undefined) said[one.spec.key] = one.said;
    return said;
  }

  get body() {
    return JSON.stringify({ said: this.said, note: this.note.value });
  }

  fill({ said = {}, note = "" }) {
    for (const one of this.questions) one.said = said[one.spec.key];
    this.note.value = note;
    this.noteBox.hidden = note === "";
    const next = this.rows.findIndex((row) => row.question.open);
    this.at = next < 0 ? 0 : next;
    this.mark();
  }

  get missing() {
    return this.questions.find((one) => one.open && (one.spec.required || one.begun));
  }

  // Whether the safer one is not the preferred one.
  get conflict() {
    const lean = (dimension) => {
      const one = this.questions.find((each) => each.spec.kind === "compare" && each.spec.dimension === dimension);
      return one && typeof one.said === "number" ? one.said - 4 : 0;
    };
    return lean("harmless") * lean("overall") < 0;
  }

  askRule() {
    return choose(this.words.conflict_what, this.rules.map((rule) => ({ value: rule, text: rule })), { words: this.words });
  }

  async askDoubt(one) {
    const options = this.doubts.map((reason) => ({ value: reason, text: this.words[`doubt_${reason}`] }));
    const chosen = await choose(this.words.cannot_tell, options, { words: this.words });
    if (!chosen) return;
    one.setDoubt(chosen.value);
    this.changed();
    this.leave(one);
  }

  // Rows

  follow(target) {
    const place = this.rows.findIndex((row) => row.element.contains(target));
    if (place >= 0 && place !== this.at) {
      this.at = place;
      this.mark();
    }
  }

  mark() {
    this.rows.forEach((row, place) => row.element.classList.toggle("current", place === this.at));
  }

  go(place) {
    if (place < 0 || place >= this.rows.length) return;
    this.at = place;
    this.mark();
    this.rows[place].focus();
    this.rows[place].element.scrollIntoView({ block: "nearest" });
  }

  focusQuestion(one) {
    this.go(this.rows.findIndex((row) => row.question === one && (!row.question.lines || row.question.lines[row.place].value === undefined)));
  }

  leave(one) {
    const after = this.rows.findLastIndex((row) => row.question === one) + 1;
    if (after < this.rows.length) this.go(after);
  }

  // A key that belongs to the questions; whether it was used.
  press(event) {
    const row = this.rows[this.at];
    if (event.altKey && ["ArrowUp", "ArrowDown"].includes(event.key)) {
      if (!row.question.move) return false;
      row.question.move(row.question.at, event.key === "ArrowUp" ? -1 : 1);
      return true;
    }
    if (event.altKey) return false;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      this.go(this.at + (event.key === "ArrowDown" ? 1 : -1));
      return true;
    }
    if (row.question.press(event.key, row.place)) {
      if (row.question.done && this.at + 1 < this.rows.length) this.go(this.at + 1);
      else row.focus();
      return true;
    }
    if ((event.key === "x" || event.key === "0") && this.doubts.length) {
      this.askDoubt(row.question);
      return true;
    }
    if (event.key === "r" || (event.key === "d" && this.seats === 2)) {
      this.toggle(event.key === "r" ? "raw" : "marked");
      return true;
    }
    return false;
  }

  toggle(name) {
    this[name] = !this[name];
    this.drawAnswers();
  }

  showNote() {
    this.noteBox.hidden = false;
    this.note.focus();
  }
}

// What the keys do, as the page shows it.
export function keyTable(words) {
  const lines = [
    [["1", "7"], words.key_steps], [["a", "h"], words.key_letters], [["="], words.tie], [["Alt", "↑↓"], words.key_move],
    [["j", "k"], words.key_good_bad], [["0"], words.key_zero], [["x"], words.key_doubt], [["↑", "↓"], words.key_rows],
    [["[", "\\", "]"], words.key_again], [["t"], words.talk_again], [["w"], words.talk_fresh], [["Enter"], words.submit], [["s"], words.skip], [["f"], words.flag], [["u"], words.undo], [["n"], words.note],
    [["g"], words.guideline], [["r"], words.raw], [["d"], words.differences], [["Esc"], words.key_leave],
  ];
  return make("dl", { class: "keys" }, ...lines.map(([keys, text]) =>
    make("div", {}, make("dt", {}, ...keys.flatMap((one, place) => (place ? [" ", key(one)] : [key(one)]))), make("dd", {}, text))));
}
