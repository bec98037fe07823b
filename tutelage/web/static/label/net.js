// Talking to the server: one word that only our own pages know, and a clear difference between "no" and "not now".

export class Refused extends Error {
  constructor(status, body) {
    super(body.message || String(status));
    this.status = status;
    this.code = body.code || "fault";
  }
}

export class Offline extends Error {}

let word = "";

export function begin(csrf) {
  word = csrf;
}

async function send(path, headers, body) {
  try {
    return await fetch(path, { method: "POST", headers: { ...headers, "X-CSRF": word }, body });
  } catch {
    throw new Offline();
  }
}

async function answered(response) {
  let value;
  try {
    value = await response.json();
  } catch {
    throw response.ok ? new Offline() : new Refused(response.status, {});
  }
  if (!response.ok) throw new Refused(response.status, value);
  return value;
}

// Rights that change give a session a new token, and its pages a new word.
async function renewWord() {
  try {
    const response = await fetch("/word");
    if (!response.ok) return false;
    word = (await response.json()).csrf;
    return true;
  } catch {
    return false;
  }
}

async function attempt(path, headers, body) {
  const response = await send(path, headers, body);
  // Nothing was kept, or nobody knows: the same request may be sent again.
  if ([502, 503, 504].includes(response.status)) throw new Offline();
  return answered(response);
}

export async function post(path, value) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(value);
  try {
    return await attempt(path, headers, body);
  } catch (error) {
    if (error.code === "stale_page" && (await renewWord())) return attempt(path, headers, body);
    throw error;
  }
}

export function upload(path, file, ask = "") {
  return uploadTo(`${path}?name=${encodeURIComponent(file.name)}${ask && `&ask=${encodeURIComponent(ask)}`}`, file);
}

export function uploadTo(path, file) {
  return attempt(path, { "Content-Type": "application/octet-stream" }, file);
}

export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
