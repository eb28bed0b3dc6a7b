// Looks at each text of each picture on the page: is it within the smallest box that it begins in,
// does it lie over another one, and can it be told from what is under it?
const wrong = [];
let count = 0;

// What of a text's rectangle letters and digits cover: fonts leave room above and below them.
function ink(text) {
  const r = text.getBoundingClientRect();
  return { left: r.left, right: r.right, top: r.top + 0.2 * r.height, bottom: r.bottom - 0.12 * r.height };
}

// The relative luminance and the contrast of WCAG 2.
function luminance(color) {
  const [r, g, b] = color.match(/[\d.]+/g).map(Number).map(c => {
    const part = c / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

let least = 21;
for (const host of document.querySelectorAll('.host')) {
  const say = what => wrong.push(host.id + ': ' + what);
  const all = [...host.querySelectorAll('rect,text')];
  const boxes = all.map((e, order) => ({ e, order, r: e.getBoundingClientRect() })).filter(b => b.e.tagName === 'rect');
  const fill = e => getComputedStyle(e).fill;
  const filled = boxes.filter(b => fill(b.e).startsWith('rgb('));
  const texts = [];
  all.forEach((e, order) => {
    if (e.tagName !== 'text') return;
    count++;
    const what = e.textContent, t = ink(e);
    texts.push([what, t]);
    const x = (t.left + t.right) / 2, y = (t.top + t.bottom) / 2;
    const has = b => b.r.left <= x && x <= b.r.right && b.r.top <= y && y <= b.r.bottom;
    const around = boxes.filter(b => has(b) && b.r.height >= 8 && b.r.width >= 8)
      .sort((a, b) => a.r.width * a.r.height - b.r.width * b.r.height)[0];
    if (!around) say(what + ' is in no box');
    else {
      const r = around.r;
      if (t.left < r.left - .6 || t.right > r.right + .6) say(what + ' leaves its box at the side');
      if (t.top < r.top - .6 || t.bottom > r.bottom + .6) say(what + ' leaves its box above or below');
    }
    const under = filled.filter(b => b.order < order && has(b)).pop();
    const ratio = under ? contrast(fill(e), fill(under.e)) : 0;
    least = Math.min(least, ratio);
    if (ratio < 4.5) say(what + ' has a contrast of ' + ratio.toFixed(2));
  });
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
    const a = texts[i][1], b = texts[j][1];
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
      say(texts[i][0] + ' over ' + texts[j][0]);
  }
}
document.getElementById('result').textContent =
  'texts ' + count + ' wrong ' + wrong.length + ' least contrast ' + least.toFixed(2) + ' ' + wrong.slice(0, 20).join(' | ');
