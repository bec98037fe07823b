// The questions of a page. Each has rows that the keyboard goes through; nothing is chosen beforehand.

import { key, letter, make } from "./dom.js";

// A row of buttons of which one is chosen, or none.
class Choices {
  constructor(label, options, changed) {
    this.value = undefined;
    this.changed = changed;
    this.options = options;
    this.buttons = options.map((option, place) =>
      make("button", {
        type: "button", role: "radio", class: `choice ${option.kind || ""}`, "aria-checked": "false",
        tabindex: place === 0 ? "0" : "-1", title: option.title, on: { click: () => this.choose(option.value) },
      }, ...(option.key ? [key(option.key)] : []), make("span", {}, option.text)),
    );
    this.element = make("div", { class: "row-choices", role: "radiogroup", "aria-label": label }, ...this.buttons);
  }

  choose(value, silent = false) {
    this.value = value;
    const place = this.options.findIndex((option) => option.value === value);
    this.buttons.forEach((button, at) => {
      button.setAttribute("aria-checked", at === place ? "true" : "false");
      button.tabIndex = at === Math.max(place, 0) ? 0 : -1;
    });
    if (!silent) this.changed();
  }

  focus() {
    (this.buttons.find((button) => button.tabIndex === 0) || this.buttons[0]).focus({ preventScroll: true });
  }
}

class Question {
  constructor(spec, page) {
    this.spec = spec;
    this.page = page;
    this.words = page.words;
    this.label = page.labels[spec.key] || spec.key;
    this.doubt = null;
    this.rows = [];
    this.doubtLine = make("span", { class: "doubt", hidden: true });
    this.doubtButton = page.doubts.length
      ? make("button", { type: "button", class: "quiet doubt-button", tabindex: "-1", on: { click: () => page.askDoubt(this) } },
        this.words.cannot_tell, " ", key("x"))
      : null;
    this.element = make("fieldset", { class: `question ${spec.kind}` },
      make("legend", {}, this.label, spec.required ? null : make("span", { class: "soft" }, " ○")), this.doubtLine);
  }

  finish() {
    if (this.doubtButton) this.element.append(this.doubtButton);
  }

  touched() {
    this.setDoubt(null);
    this.page.changed();
  }

  setDoubt(reason) {
    this.doubt = reason;
    this.doubtLine.hidden = reason === null;
    this.doubtLine.textContent = reason === null ? "" : `${this.words.cannot_tell}: ${this.words[`doubt_${reason}`]}`;
    this.element.classList.toggle("doubted", reason !== null);
    if (reason !== null) this.clear();
  }

  get said() {
    return this.doubt === null ? this.value : { cannot_tell: this.doubt };
  }

  set said(said) {
    this.clear();
    this.setDoubt(null);
    if (said === undefined || said === null) return;
    if (typeof said === "object" && !Array.isArray(said)) this.setDoubt(said.cannot_tell);
    else this.value = said;
  }

  get open() {
    return this.said === undefined;
  }

  rowAt(element) {
    return this.rows.findIndex((row) => row.element === element || row.element.contains(element));
  }
}

class Compare extends Question {
  constructor(spec, page) {
    super(spec, page);
    // A new answer in place of the last one is better, worse or as good; two answers differ in seven steps.
    const last = page.given.chat?.last ?? null;
    const steps = last !== null
      ? [[last ? 6 : 2, "[", "worse"], [4, "\\", "same"], [last ? 2 : 6, "]", "better"]].map(([value, press, name]) => ({ value, key: press, text: this.words[`talk_${name}`], kind: "wide" }))
      : [1, 2, 3, 4, 5, 6, 7].map((step) => ({ value: step, key: String(step), text: this.words[`step_${step}`], kind: `step s${step}` }));
    const bad = { value: "both_bad", key: "0", text: this.words.both_bad, kind: "apart" };
    this.choices = new Choices(this.label, [...steps, bad], () => this.touched());
    this.element.classList.toggle("again", last !== null);
    this.rows = [{ element: this.choices.element, focus: () => this.choices.focus() }];
    this.element.append(this.choices.element);
    this.finish();
  }

  get value() { return this.choices.value; }
  set value(value) { this.choices.choose(value, true); }
  clear() { this.choices.choose(undefined, true); }

  press(pressed) {
    const option = this.choices.options.find((one) => one.key === pressed);
    if (!option) return false;
    this.choices.choose(option.value);
    return true;
  }

  get done() { return true; }
}

// Scores and good-or-bad: one row for the whole, or one for each answer.
class Marks extends Question {
  constructor(spec, page, options) {
    super(spec, page);
    this.options = options;
    const seats = spec.per_response ? [...Array(page.seats).keys()] : [null];
    this.lines = seats.map((seat) => new Choices(
      seat === null ? this.label : `${this.label}, ${this.words.answer} ${letter(seat)}`, options, () => this.touched()));
    this.rows = this.lines.map((line, place) => {
      const element = make("div", { class: "mark-row" },
        seats[place] === null ? null : make("b", { class: "seat" }, letter(seats[place])), line.element);
      this.element.append(element);
      return { element, focus: () => line.focus() };
    });
    this.finish();
  }

  get value() {
    const values = this.lines.map((line) => line.value);
    if (values.some((value) => value === undefined)) return undefined;
    return this.spec.per_response ? values : values[0];
  }

  set value(value) {
    const values = this.spec.per_response ? value : [value];
    this.lines.forEach((line, place) => line.choose(values[place], true));
  }

  clear() { this.lines.forEach((line) => line.choose(undefined, true)); }

  get begun() { return this.lines.some((line) => line.value !== undefined); }

  press(pressed, row) {
    const option = this.options.find((one) => (one.press || one.key) === pressed);
    if (!option) return false;
    this.lines[row].choose(option.value);
    return true;
  }

  get done() { return true; }
}

class Scale extends Marks {
  constructor(spec, page) {
    const options = [];
    for (let value = spec.low; value <= spec.high; value++) {
      options.push({ value, text: String(value), press: value >= 0 && value <= 9 ? String(value) : null, kind: "score" });
    }
    super(spec, page, options);
  }
}

class Binary extends Marks {
  constructor(spec, page) {
    super(spec, page, [
      { value: true, text: page.words.good, key: "j", kind: "good" },
      { value: false, text: page.words.bad, key: "k", kind: "bad" },
    ]);
  }
}

// A ranking in which nothing has a place until it is given one.
class Rank extends Question {
  constructor(spec, page) {
    super(spec, page);
    this.groups = [];
    this.allBad = false;
    this.joining = false;
    this.at = 0; // the answer that Alt+Up and Alt+Down move
    this.list = make("ol", { class: "ranking", "aria-live": "polite" });
    this.pool = make("div", { class: "pool" });
    this.badButton = make("button", { type: "button", class: "choice apart", "aria-pressed": "false", on: { click: () => this.press("0") } },
      key("0"), make("span", {}, this.words.all_bad));
    const box = make("div", { class: "rank-box", tabindex: "-1" },
      make("p", { class: "soft" }, this.words.rank_hint), this.list, this.pool, this.badButton);
    this.element.append(box);
    this.rows = [{ element: box, focus: () => box.focus({ preventScroll: true }) }];
    this.finish();
    this.draw();
  }

  get value() {
    if (this.allBad) return "all_bad";
    if (this.groups.flat().length < this.page.seats) return undefined;
    const places = [];
    this.groups.forEach((group, place) => group.forEach((seat) => { places[seat] = place + 1; }));
    return places;
  }

  set value(value) {
    if (value === "all_bad") this.allBad = true;
    else {
      this.groups = [];
      value.forEach((place, seat) => (this.groups[place - 1] ||= []).push(seat));
    }
    this.draw();
  }

  clear() {
    this.groups = [];
    this.allBad = this.joining = false;
    this.draw();
  }

  get begun() { return this.groups.length > 0; }

  add(seat) {
    if (this.groups.flat().includes(seat) || seat >= this.page.seats) return;
    this.allBad = false;
    if (this.joining && this.groups.length) this.groups[this.groups.length - 1].push(seat);
    else this.groups.push([seat]);
    this.joining = false;
    this.at = seat;
    this.draw();
    this.touched();
  }

  takeBack() {
    const last = this.groups[this.groups.length - 1];
    if (!last) return;
    last.pop();
    if (!last.length) this.groups.pop();
    this.draw();
    this.touched();
  }

  move(seat, by) {
    const from = this.groups.findIndex((group) => group.includes(seat));
    if (from < 0) return;
    const group = this.groups[from];
    if (group.length > 1) {
      // Out of a tie: just before or after it.
      group.splice(group.indexOf(seat), 1);
      this.groups.splice(by < 0 ? from : from + 1, 0, [seat]);
    } else {
      const to = from + by;
      if (to < 0 || to >= this.groups.length) return;
      this.groups.splice(from, 1);
      this.groups.splice(to, 0, group);
    }
    this.at = seat;
    this.draw();
    this.touched();
  }

  tie(seat) {
    const from = this.groups.findIndex((group) => group.includes(seat));
    if (from <= 0 || this.groups[from].length > 1) return;
    this.groups[from - 1].push(...this.groups[from]);
    this.groups.splice(from, 1);
    this.draw();
    this.touched();
  }

  press(pressed) {
    if (/^[a-z]$/.test(pressed) && pressed.charCodeAt(0) - 97 < this.page.seats) {
      const seat = pressed.charCodeAt(0) - 97;
      if (this.groups.flat().includes(seat)) return false;
      this.add(seat);
    } else if (pressed === "=") this.joining = this.groups.length > 0;
    else if (pressed === "Backspace") this.takeBack();
    else if (pressed === "0") {
      this.groups = [];
      this.allBad = true;
      this.draw();
      this.touched();
    } else return false;
    return true;
  }

  get done() { return !this.open; }

  draw() {
    const button = (text, label, act) => make("button", { type: "button", class: "quiet", "aria-label": label, title: label, on: { click: act } }, text);
    this.list.replaceChildren(...this.groups.map((group) => make("li", {}, ...group.map((seat) =>
      make("span", { class: "ranked" }, make("b", { class: "seat" }, letter(seat)),
        button("↑", `${letter(seat)}: ${this.words.up}`, () => this.move(seat, -1)),
        button("↓", `${letter(seat)}: ${this.words.down}`, () => this.move(seat, 1)),
        button("=", `${letter(seat)}: ${this.words.tie}`, () => this.tie(seat)))))));
    const free = [...Array(this.page.seats).keys()].filter((seat) => !this.groups.flat().includes(seat));
    this.pool.replaceChildren(...free.map((seat) =>
      make("button", { type: "button", class: "choice", on: { click: () => this.add(seat) } }, key(letter(seat).toLowerCase()), make("span", {}, `${this.words.answer} ${letter(seat)}`))));
    this.badButton.setAttribute("aria-pressed", String(this.allBad));
  }
}

class Writing extends Question {
  constructor(spec, page) {
    super(spec, page);
    this.field = make("textarea", { rows: 7, maxlength: 100000, dir: "auto", "aria-label": this.label, placeholder: this.words.write_here,
      on: { input: () => this.touched() } });
    const begin = page.texts.map((text, seat) =>
      make("button", { type: "button", class: "quiet", on: { click: () => { this.field.value = text; this.touched(); this.field.focus(); } } },
        `${this.words.start_from} ${letter(seat)}`));
    this.element.append(this.field, make("div", { class: "begin-from" }, ...begin));
    this.rows = [{ element: this.field, focus: () => this.field.focus({ preventScroll: true }) }];
    this.finish();
  }

  get value() { return this.field.value.trim() === "" ? undefined : this.field.value; }
  set value(value) { this.field.value = value; }
  clear() { this.field.value = ""; }
  press() { return false; }
  get done() { return false; }
}

const KINDS = { compare: Compare, rank: Rank, scale: Scale, binary: Binary, text: Writing };

export function question(spec, page) {
  return new KINDS[spec.kind](spec, page);
}
