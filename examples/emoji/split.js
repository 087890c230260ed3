// split.js - lists of pictures for examples/emoji/run.sh, as CSV files.
//
//   node split.js signs FOLDER OUT      OUT/signs.csv (path): the target vendor's pictures
//   node split.js lists FOLDER OUT      reads OUT/duplicates.csv, what tally-dedup found among them, and
//                                       writes the lists below (path,label)
//
// FOLDER holds the unpacked packages of four vendors (apple, google, twitter, facebook). The split is by
// sign. A sign whose picture duplicates another's is left out, so that one cannot stand in for the other.
//   known.csv       to pretrain with: the other vendors' drawings of every sign; labels: Unicode's sub-groups
//   new.csv         the same without the signs of the test: these are then seen in no vendor's drawing
//   test.csv        the target vendor, 28 signs of each class
//   K-S.csv         the target vendor, K signs of each class that are not in the test, drawn by seed S;
//                   for one seed a smaller K is a part of a larger one
"use strict";
const fs = require("fs"), path = require("path");

const [what, folder, out] = process.argv.slice(2);
const target = "twitter", others = ["apple", "google", "facebook"];
const classes = {
  "Smileys & Emotion": "faces", "People & Body": "people", "Animals & Nature": "animals",
  "Food & Drink": "food", "Travel & Places": "travel", "Objects": "objects", "Symbols": "symbols",
  "Flags": "flags",
};
const tests = 28, most = 100, sizes = [20, 50, 100], seeds = [1, 2, 3];

// Fisher-Yates with a small generator (mulberry32): the same lists everywhere.
function shuffled(values, seed) {
  const list = values.slice();
  for (let i = list.length - 1; i > 0; i--) {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    const j = ((t ^ (t >>> 14)) >>> 0) % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

const picture = (vendor, sign) => path.resolve(folder, vendor, "package/img", vendor, "64", sign.image);
const write = (name, header, rows) =>
  fs.writeFileSync(path.join(out, name), [header, ...rows.map(row => row.join(","))].join("\n") + "\n");

const table = JSON.parse(fs.readFileSync(path.join(folder, target, "package/emoji.json")));
const signs = table
  .filter(s => classes[s.category] && [target, ...others].every(v => fs.existsSync(picture(v, s))))
  .sort((a, b) => (a.unified < b.unified ? -1 : 1));
fs.mkdirSync(out, { recursive: true });
if (what === "signs") {
  write("signs.csv", "path", signs.map(s => [picture(target, s)]));
  process.exit();
}

const rows = fs.readFileSync(path.join(out, "duplicates.csv"), "utf8").trim().split("\n").slice(1);
const duplicates = new Set(rows.map(row => row.split(",")[0]));
const kept = signs.filter(s => !duplicates.has(picture(target, s)));
console.log(`${signs.length} signs, of which ${signs.length - kept.length} look like another one`);

const test = [], known = [], unknown = [];
const training = seeds.flatMap(seed => sizes.map(size => ({ seed, size, rows: [] })));
for (const category of Object.keys(classes)) {
  const label = classes[category];
  const mixed = shuffled(kept.filter(s => s.category === category), 1);
  const pool = mixed.slice(tests, tests + most);
  if (pool.length < most) throw new Error(`${label}: only ${pool.length} signs to learn from`);
  mixed.forEach((sign, i) => {
    if (i < tests) test.push([picture(target, sign), label]);
    for (const vendor of others)
      for (const list of i < tests ? [known] : [known, unknown])
        list.push([picture(vendor, sign), sign.subcategory]);
  });
  for (const t of training)
    for (const sign of shuffled(pool, 100 + t.seed).slice(0, t.size))
      t.rows.push([picture(target, sign), label]);
}
write("test.csv", "path,label", test);
for (const [name, list] of [["known", known], ["new", unknown]]) {
  const groups = new Set(list.map(row => row[1])).size;
  write(`${name}.csv`, "path,label", list);
  write(`${name}.groups`, groups, []);
  console.log(`${name}: ${list.length} pictures of ${groups} sub-groups to pretrain with`);
}
for (const t of training) write(`${t.size}-${t.seed}.csv`, "path,label", t.rows);
console.log(`${test.length} pictures to test with`);
