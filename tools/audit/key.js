/* What a person does with the page for keying: counts are typed as they are written, and saved as a
   table that tally-audit certify takes. The page knows nothing of what was read.

   key_page.h writes what this relies on: whatever holds a tally's inputs has the tally's name in data-t, a
   count's input has its field in data-f. */
'use strict';

const element = (id) => document.getElementById(id);
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

/* file: the name to save by; digits: of a field, the most that a count has. */
const meta = JSON.parse(element('meta').textContent);
const forms = all('.form');
const inputs = all('input[data-f]');

let unsaved = false;
let news = ''; /* of what was loaded */

/* ---- values */

const NOTHING = '\u2013';

/* What the table says of a text: a number, an empty value if nothing is written, ? if it cannot be
   read. Undefined if it is none of these, or empty itself: not keyed yet. */
function valueOf(input) {
  const text = input.value.trim();
  if (text === '-' || text === NOTHING) return '';
  if (text === '?') return text;
  if (!/^[0-9]+$/.test(text) || text.length > meta.digits[input.dataset.f]) return undefined;
  return text.replace(/^0+(?=[0-9])/, '');
}

const isBad = (input) => input.value.trim() !== '' && valueOf(input) === undefined;
const isKeyed = (input) => valueOf(input) !== undefined;

function take(input) {
  const bad = isBad(input);
  const digits = meta.digits[input.dataset.f];
  input.setAttribute('aria-invalid', bad);
  input.title = bad ? `a whole number of at most ${digits} digits, - or ?` : '';
  if (valueOf(input) === '') input.value = NOTHING;
  return !bad;
}

function showState() {
  let done = 0;
  let begun = 0;
  for (const form of forms) {
    const counts = all('input[data-f]', form);
    const keyed = counts.filter(isKeyed).length;
    form.classList.toggle('done', keyed === counts.length);
    done += keyed === counts.length;
    begun += keyed > 0 && keyed < counts.length;
  }
  const bad = inputs.filter(isBad).length;
  const words = [`${done} of ${forms.length} tallies keyed`];
  if (begun) words.push(`${begun} begun`);
  if (bad) words.push(bad === 1 ? '1 value is no number' : `${bad} values are no numbers`);
  if (unsaved) words.push('not saved yet');
  element('state').textContent = words.join(', ') + news;
  element('save').disabled = !inputs.some(isKeyed);
}

const isCount = (target) => target instanceof HTMLInputElement && 'f' in target.dataset;

document.addEventListener('change', (event) => {
  if (!isCount(event.target)) return;
  take(event.target);
  unsaved = true;
  news = '';
  showState();
});

/* ---- the keyboard */

function goTo(input) {
  if (!input) return;
  input.focus({preventScroll: true});
  input.select();
  input.closest('.form').scrollIntoView({block: 'nearest'});
  input.scrollIntoView({block: 'nearest'});
}

/* The first input of a tally brings its picture into sight. */
function step(input, by) {
  const next = inputs[inputs.indexOf(input) + by];
  goTo(next);
  if (next && next.closest('.form') !== input.closest('.form'))
    next.closest('.form').scrollIntoView();
}

document.addEventListener('keydown', (event) => {
  const input = event.target;
  if (!isCount(input)) return;
  const steps = {Enter: 1, ArrowDown: 1, ArrowUp: -1};
  if (!(event.key in steps)) return;
  event.preventDefault();
  if (event.key !== 'Enter' || take(input)) step(input, steps[event.key]);
  else showState();
});

/* Nothing of a tally can be read: what is not keyed yet is marked so. */
document.addEventListener('click', (event) => {
  if (!(event.target instanceof Element) || !event.target.matches('button.illegible')) return;
  const form = event.target.closest('.form');
  for (const input of all('input[data-f]', form)) if (!isKeyed(input)) input.value = '?';
  for (const input of all('input[data-f]', form)) take(input);
  unsaved = true;
  showState();
  goTo(all('input[data-f]', forms[forms.indexOf(form) + 1] || form)[0]);
});

/* ---- saving */

function csvCell(value) {
  return /[",;\t\r\n]/.test(value) ? `"${value.replace(/"/g, '""')}"` : value;
}

function rows() {
  const table = [['tally', 'field', 'value']];
  for (const input of inputs)
    if (isKeyed(input))
      table.push([input.closest('[data-t]').dataset.t, input.dataset.f, valueOf(input)]);
  return table;
}

element('save').addEventListener('click', () => {
  const text = rows().map((row) => `${row.map(csvCell).join(',')}\n`).join('');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = meta.file;
  document.body.append(link);
  link.click();
  link.remove();
  unsaved = false;
  showState();
});

window.addEventListener('beforeunload', (event) => {
  if (unsaved) event.preventDefault();
});

/* ---- going on with what was saved */

/* Rows of a table that this page has saved, its first one too. */
function parse(text) {
  const table = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|$)/g)) {
    table[table.length - 1].push(quoted === undefined ? plain : quoted.replace(/""/g, '"'));
    if (end !== ',') table.push([]);
  }
  return table.filter((row) => row.length === 3);
}

const keyOf = (tally, field) => JSON.stringify([tally, field]);

/* What stands in the page already is left as it is. */
function load(text) {
  const places = new Map();
  for (const input of inputs)
    places.set(keyOf(input.closest('[data-t]').dataset.t, input.dataset.f), input);
  let taken = 0;
  let foreign = 0;
  let other = 0;
  for (const [tally, field, value] of parse(text).slice(1)) {
    const input = places.get(keyOf(tally, field));
    if (!input) foreign++;
    else if (isKeyed(input) && valueOf(input) !== value) other++;
    else {
      input.value = value === '' ? NOTHING : value;
      take(input);
      taken++;
    }
  }
  news = `; ${taken} values loaded`;
  if (other) news += `, ${other} others stand here already and were left`;
  if (foreign) news += `, ${foreign} are about tallies that are not on this page`;
  showState();
}

element('file').addEventListener('change', async (event) => {
  const [file] = event.target.files;
  if (file) load(await file.text());
  event.target.value = '';
});

showState();
