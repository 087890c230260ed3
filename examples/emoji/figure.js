// figure.js MODELS OUT.svg - the table of examples/emoji/run.sh on stdout, and its learning curves.
"use strict";
const fs = require("fs"), path = require("path");

const [models, out] = process.argv.slice(2);
const sizes = [20, 50, 100], seeds = [1, 2, 3];
const ways = [
  { name: "scratch", title: "from scratch", colour: "#888" },
  { name: "frozen-new", title: "pretrained, signs new to it; the last layer learns", colour: "#2a6fb0", dash: "5 3" },
  { name: "tuned-new", title: "pretrained, signs new to it; all layers learn", colour: "#c0392b", dash: "5 3" },
  { name: "frozen-known", title: "pretrained, signs known; the last layer learns", colour: "#2a6fb0" },
  { name: "tuned-known", title: "pretrained, signs known; all layers learn", colour: "#c0392b" },
];

// Validation accuracy after each epoch.
const log = (way, size, seed) =>
  fs.readFileSync(path.join(models, `${way}-${size}-${seed}.csv`), "utf8")
    .trim().split("\n").slice(1).map(line => Number(line.split(",")[5]));
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
const stroke = way => `stroke="${way.colour}"${way.dash ? ` stroke-dasharray="${way.dash}"` : ""}`;
const percent = value => (100 * value).toFixed(1);

console.log(`| accuracy on the test, % | ${sizes.map(s => `${s} each`).join(" | ")} |`);
console.log(`|---|${sizes.map(() => "---|").join("")}`);
for (const way of ways) {
  const cells = sizes.map(size => {
    const last = seeds.map(seed => log(way.name, size, seed).at(-1));
    return `**${percent(mean(last))}** (${last.map(percent).join(", ")})`;
  });
  console.log(`| ${way.title} | ${cells.join(" | ")} |`);
}

const width = 290, height = 210, left = 44, top = 46, gap = 26, high = 0.9;
const parts = [];
const text = (x, y, words, more = "") => parts.push(`<text x="${x}" y="${y}" ${more}>${words}</text>`);
sizes.forEach((size, i) => {
  const x0 = left + i * (width + gap), y0 = top;
  const y = accuracy => y0 + height * (1 - accuracy / high);
  text(x0 + width / 2, y0 - 8, `${size} pictures of each class`, 'text-anchor="middle" font-weight="bold"');
  for (let tick = 0; tick <= high + 1e-9; tick += 0.1) {
    parts.push(`<path d="M${x0} ${y(tick).toFixed(1)}h${width}" stroke="#ddd"/>`);
    if (i === 0) text(x0 - 6, (y(tick) + 4).toFixed(1), percent(tick).replace(".0", ""), 'text-anchor="end"');
  }
  const steps = log("scratch", size, 1).length;
  text(x0, y0 + height + 16, 0, 'text-anchor="middle"');
  text(x0 + width, y0 + height + 16, `${steps} epochs`, 'text-anchor="end"');
  for (const way of ways) {
    const curves = seeds.map(seed => log(way.name, size, seed));
    const points = curves[0].map((_, e) => [x0 + width * (e + 1) / steps, y(mean(curves.map(c => c[e])))]);
    const line = points.map(p => p.map(v => v.toFixed(1)).join(" ")).join("L");
    parts.push(`<path d="M${line}" fill="none" ${stroke(way)} stroke-width="1.8"/>`);
  }
});
ways.forEach((way, i) => {
  const x = left + [0, 160, 160, 530, 530][i], y = top + height + 40 + (i > 0 && i % 2 === 0 ? 18 : 0);
  parts.push(`<path d="M${x} ${y - 4}h24" ${stroke(way)} stroke-width="3"/>`);
  text(x + 32, y, way.title);
});
text(left, 16, "Accuracy on the test after each epoch, %, mean of three seeds");
const all = [left + 3 * width + 2 * gap + 10, top + height + 74];
fs.writeFileSync(out, `<svg xmlns="http://www.w3.org/2000/svg" width="${all[0]}" height="${all[1]}" ` +
  `viewBox="0 0 ${all.join(" ")}" font-family="sans-serif" font-size="12">\n` +
  `<rect width="100%" height="100%" fill="#fff"/>\n${parts.join("\n")}\n</svg>\n`);
