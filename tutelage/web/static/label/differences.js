// Which words of two texts the other does not have: a longest common subsequence over words.

const MOST = 4000; // words; beyond this it is no help to look at

export function differences(left, right) {
  const a = left.match(/\s+|[\p{Script=Han}]|[^\s\p{Script=Han}]+/gu) || [];
  const b = right.match(/\s+|[\p{Script=Han}]|[^\s\p{Script=Han}]+/gu) || [];
  if (a.length > MOST || b.length > MOST) return null;
  const width = b.length + 1;
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i * width + j] = a[i] === b[j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  const marked = [[], []];
  const put = (side, text, own) => {
    const last = marked[side][marked[side].length - 1];
    if (last && last.own === own) last.text += text;
    else marked[side].push({ text, own });
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      put(0, a[i++], false);
      put(1, b[j++], false);
    } else if (j >= b.length || (i < a.length && length[(i + 1) * width + j] >= length[i * width + j + 1])) put(0, a[i++], true);
    else put(1, b[j++], true);
  }
  return marked;
}
