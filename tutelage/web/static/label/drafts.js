// What has been begun, and what has been said but not yet acknowledged: kept on this machine until it is.

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // A full or forbidden store: the server still has the draft.
  }
}

export class Drafts {
  constructor(account) {
    this.account = account;
  }

  local(item) {
    return read(`draft:${this.account}:${item}`);
  }

  keep(item, body, rev) {
    write(`draft:${this.account}:${item}`, { body, rev });
  }

  drop(item) {
    write(`draft:${this.account}:${item}`, null);
  }

  // One thing at a time is on its way to the server; it has a key of its own, so it arrives once.
  get outgoing() {
    return read(`outgoing:${this.account}`);
  }

  set outgoing(value) {
    write(`outgoing:${this.account}`, value);
  }
}

export const preferences = {
  get(name, otherwise) {
    const value = read(`preference:${name}`);
    return value === null ? otherwise : value;
  },
  set(name, value) {
    write(`preference:${name}`, value);
  },
};
