/* What a person does with the page: values that differ from what was read, or that were confirmed,
   are kept by tally and field, and saved as a table that tally-read takes as --corrections.

   page.h writes what this relies on: a count's input has its field in data-f and what was read in
   data-read; whatever holds a tally's inputs has the tally's name in data-t and its
   picture's hash in data-h. A count's row has in data-c what the network sees in its cells, in data-o
   what they say by themselves, if that is not what was read; a form has in data-q the probabilities
   that its sums add up. */
'use strict';

const element = (id) => document.getElementById(id);
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

/* Of the form: fields [name, digits], sums [total, [[part, sign]], at most]; corrections [tally,
   field, value] that were in effect when the page was made. */
const meta = JSON.parse(element('meta').textContent);
const digits = new Map(meta.fields);

const isCount = (target) => target instanceof HTMLInputElement && 'f' in target.dataset;
const card = element('card');
const tallyOf = (node) => node.closest('[data-t]').dataset.t;

/* ---- corrections */

/* Tally -> field -> value. An empty value says that nothing is written there. */
const corrections = new Map();
let unsaved = false;

/* Undefined if there is none. */
const correctionOf = (tally, field) => corrections.get(tally)?.get(field);

function correct(tally, field, value) {
  if (correctionOf(tally, field) === value) return;
  if (!corrections.has(tally)) corrections.set(tally, new Map());
  corrections.get(tally).set(field, value);
  unsaved = true;
}

function takeBack(tally, field) {
  if (corrections.get(tally)?.delete(field)) unsaved = true;
}

function showState() {
  let count = 0;
  for (const fields of corrections.values()) count += fields.size;
  const values = count === 1 ? '1 value' : `${count} values`;
  const state = unsaved ? ', not saved yet' : '';
  element('tally').textContent = count
    ? `${values} corrected or confirmed${state}`
    : 'No corrections yet';
  for (const button of all('button.save')) button.disabled = !count;
}

/* ---- values */

function sumText(total, value, parts, atMost) {
  if (value === null) return `${total} has no value; its parts make ${parts}`;
  if (atMost && value >= parts) return `${total} is at least ${parts}`;
  if (value === parts) return `${total} adds up (${parts})`;
  return `${total} reads ${value}, its parts make ${parts}`;
}

/* The sums of a form, as they stand with the corrections. */
function showSums(form) {
  const values = new Map();
  for (const input of all('input[data-f]', form)) {
    const isNumber = /^[0-9]+$/.test(input.value);
    values.set(input.dataset.f, isNumber ? Number(input.value) : null);
  }
  meta.sums.forEach(([total, parts, atMost], number) => {
    const made = parts.reduce((sum, [part, sign]) => sum + sign * (values.get(part) || 0), 0);
    const text = sumText(total, values.get(total), made, atMost);
    for (const line of all(`.sum${number}`, form)) line.textContent = text;
  });
}

/* A value that can be written in a field; undefined if the text is none. A dash is an empty one. */
function valueOf(text, field) {
  if (/^[-\u2013]$/.test(text)) return '';
  if (!/^[0-9]*$/.test(text) || text.length > digits.get(field)) return undefined;
  return text.replace(/^0+(?=[0-9])/, '');
}

/* Whether a person has said what a count is. An empty input that was empty before says nothing,
   unless it was read as such. */
function isCorrection(input, value, isDash, confirmed) {
  const wasMissing = input.closest('tr, label').classList.contains('missing');
  if (!value && !isDash && !input.dataset.read && !wasMissing) return false;
  return confirmed || isDash || value !== input.dataset.read;
}

/* Takes what stands in an input; false if that is no value, which then corrects nothing. */
function take(input, confirmed) {
  const tally = tallyOf(input);
  const field = input.dataset.f;
  const text = input.value.trim();
  const value = valueOf(text, field);
  const isValue = value !== undefined;
  const isDash = isValue && text !== '' && value === '';

  if (isValue) input.value = isDash ? '\u2013' : value;
  input.setAttribute('aria-invalid', !isValue);
  input.title = isValue ? '' : `a whole number of at most ${digits.get(field)} digits, or nothing`;

  const corrected = isValue && isCorrection(input, value, isDash, confirmed);
  if (corrected) correct(tally, field, value);
  else takeBack(tally, field);
  input.closest('tr, label').classList.toggle('changed', corrected);
  showSums(input.closest('[data-t]'));
  showState();
  return isValue;
}

document.addEventListener('change', (event) => {
  if (isCount(event.target)) take(event.target, false);
});

/* ---- the keyboard */

const visibleInputs = () => all('input[data-f]').filter((input) => input.offsetParent);

function neighbour(input, step) {
  const inputs = visibleInputs();
  return inputs[inputs.indexOf(input) + step];
}

const isInDoubt = (input) => input.matches('tr:is(.look, .unread):not(.changed) input');

/* The next value to look at; where there is none, the next value. */
function nextInDoubt(input) {
  const inputs = visibleInputs();
  const later = inputs.slice(inputs.indexOf(input) + 1);
  return later.find(isInDoubt) || later[0];
}

function onCountKey(event) {
  const input = event.target;
  let to;
  if (event.key === 'Escape') {
    input.value = input.dataset.read;
    take(input, false);
    return;
  }
  if (event.key === 'Enter') to = take(input, true) ? nextInDoubt(input) : undefined;
  else if (event.key === 'ArrowDown') to = neighbour(input, 1);
  else if (event.key === 'ArrowUp') to = neighbour(input, -1);
  else return;
  event.preventDefault();
  to?.focus();
  to?.select();
}

/* Forms are scrolled to just below the bar; one that is so near its place counts as being there. */
const BAR_HEIGHT = 80;
const NEAR = 5;

function showForm(forwards) {
  const forms = all('.form:not(.hidden)');
  const below = (form) => form.getBoundingClientRect().top - BAR_HEIGHT;
  const form = forwards
    ? forms.find((other) => below(other) > NEAR)
    : forms.reverse().find((other) => below(other) < -NEAR);
  if (!form) return;
  const inputs = all('input[data-f]', form);
  form.scrollIntoView();
  (inputs.find(isInDoubt) || inputs[0])?.focus({preventScroll: true});
}

/* The default would type the letter into the value that is gone to. */
function onPageKey(event) {
  if (card.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key !== 'j' && event.key !== 'k') return;
  event.preventDefault();
  showForm(event.key === 'j');
}

document.addEventListener('keydown', (event) => {
  if (isCount(event.target)) onCountKey(event);
  else if (!(event.target instanceof HTMLInputElement)) onPageKey(event);
});

/* ---- what a count rests on, on one card, and pictures enlarged */

const CARD_SCALE = 3;

/* Classes of a cell behind the digits, in tally.h's order. */
const classNames = [
  'a cross', 'nothing', 'something illegible', 'a dash', 'something struck out', 'several digits',
  'a digit over another one',
];

const percent = (p) => (p > 0.999 && p < 1 ? 'more than 99.9 %' : `${(100 * p).toFixed(1)} %`);

/* "7 98 1 2" is a 7 with 98 %, or a 1 with 2 %. */
function cellText(code) {
  const words = [];
  const numbers = code.split(' ').map(Number);
  for (let k = 0; k < numbers.length; k += 2)
    words.push(`${classNames[numbers[k] - 10] ?? numbers[k]} (${numbers[k + 1]} %)`);
  return words.join(' or ');
}

/* What the sums of a count say about it. */
function sumLines(form, field) {
  const probabilities = form.querySelector('[data-q]').dataset.q.split(' ');
  const lines = [];
  meta.sums.forEach(([total, parts], number) => {
    if (total !== field && !parts.some(([part]) => part === field)) return;
    const text = form.querySelector(`.sum${number}`).textContent;
    lines.push(`${text}. The paper adds up here with a probability of ` +
      `${percent(Number(probabilities[number]))}.`);
  });
  return lines.length ? lines : ['No sum of the form speaks of this count.'];
}

function evidenceLines(row) {
  const read = row.querySelector('input').dataset.read;
  const own = row.dataset.o ?? read;
  const cells = row.dataset.c.split(',').map(cellText);
  return [
    `${read ? `Read as ${read}` : 'No number was read'}; ${row.lastElementChild.innerText}.`,
    `The cells by themselves say ${own || 'no number'}` +
      `${own === read ? ', as was read.' : '. The sums speak against that.'}`,
    `The network sees, from the left: ${cells.join('; ')}.`,
    ...sumLines(row.closest('.form'), row.dataset.f),
  ];
}

function textElement(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function enlarged(svg) {
  const large = svg.cloneNode(true);
  for (const side of ['width', 'height'])
    if (svg.hasAttribute(side)) large.setAttribute(side, CARD_SCALE * svg.getAttribute(side));
  return large;
}

function showCard(button) {
  const row = button.closest('tr[data-c]');
  const form = button.closest('.form');
  const close = textElement('button', 'close');
  const title = [form?.dataset.t, row?.dataset.f].filter(Boolean).join(', ');
  close.addEventListener('click', () => card.close());
  card.replaceChildren(close, textElement('h3', title));
  card.append(...all('svg', row ?? button).map(enlarged));
  if (row) {
    const list = document.createElement('ul');
    list.append(...evidenceLines(row).map((line) => textElement('li', line)));
    card.append(list);
  }
  card.showModal();
}

/* A click beside the card closes it, as Esc does. */
card.addEventListener('click', (event) => {
  if (event.target === card) card.close();
});

/* ---- saving */

function csvCell(value) {
  return /[",\r\n]/.test(value) ? `"${value.replace(/"/g, '""')}"` : value;
}

function download(name, rows) {
  const text = rows.map((row) => `${row.map(csvCell).join(',')}\n`).join('');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

function correctionRows() {
  const rows = [['tally', 'field', 'value', 'sha256']];
  const hashes = new Map(all('[data-h]').map((node) => [node.dataset.t, node.dataset.h]));
  for (const [tally, fields] of corrections)
    for (const [field, value] of fields) rows.push([tally, field, value, hashes.get(tally) ?? '']);
  return rows;
}

element('save').addEventListener('click', () => {
  download('corrections.csv', correctionRows());
  unsaved = false;
  showState();
});

/* Where tally-extract puts a cell's picture: form_list.h, cell_folder_name. */
function cellPath(tally, field, position) {
  const folder = tally.replace(/%/g, '%25').replace(/\//g, '%2F');
  return `cells/${folder}/${field}-${position}.png`;
}

/* Digits stand from the right. Further left only what was seen to be empty is certain; data-s has
   'e' for such cells. */
function labelRows() {
  const rows = [['path', 'label']];
  for (const row of all('tr[data-s]')) {
    const tally = tallyOf(row);
    const field = row.dataset.f;
    const cells = row.dataset.s;
    const value = correctionOf(tally, field);
    if (value === undefined) continue;
    for (let position = 0; position < cells.length; position++) {
      const digit = value[value.length - cells.length + position];
      const label = digit || (cells[position] === 'e' ? 'empty' : '');
      if (label) rows.push([cellPath(tally, field, position), label]);
    }
  }
  return rows;
}

element('labels').addEventListener('click', () => download('cell-labels.csv', labelRows()));

window.addEventListener('beforeunload', (event) => {
  if (unsaved) event.preventDefault();
});

/* ---- which forms are seen */

let kind = 'all';
let words = '';

function sift() {
  for (const form of all('.form, .rest tr[data-t]')) {
    const isKind = kind === 'all' || form.classList.contains(kind);
    const isNamed = form.dataset.t.toLowerCase().includes(words);
    form.classList.toggle('hidden', !isKind || !isNamed);
  }
}

for (const button of all('button[data-kind]')) {
  button.addEventListener('click', () => {
    kind = button.dataset.kind;
    for (const other of all('button[data-kind]'))
      other.setAttribute('aria-pressed', other === button);
    sift();
  });
}

element('find').addEventListener('input', (event) => {
  words = event.target.value.toLowerCase();
  sift();
});

/* ---- forms without pictures */

function countInput(field, read, value) {
  const input = document.createElement('input');
  input.dataset.f = field;
  input.dataset.read = read;
  input.inputMode = 'numeric';
  input.value = value;
  const label = document.createElement('label');
  label.append(`${field} `, input);
  return label;
}

/* They get their inputs when they are asked for: there may be very many. */
function openRow(button) {
  const row = button.closest('tr');
  const read = row.dataset.v.split(',');
  const box = document.createElement('div');
  box.className = 'edit';
  meta.fields.forEach(([field], number) => {
    const correction = correctionOf(row.dataset.t, field);
    box.append(countInput(field, read[number], correction ?? read[number]));
  });
  button.replaceWith(box);
  all('input', box)[0].focus();
}

/* A form that a link leads to is to be seen, whichever ones were chosen. */
function unhide(link) {
  element(link.hash.slice(1))?.classList.remove('hidden');
}

document.addEventListener('click', (event) => {
  if (!(event.target instanceof Element)) return;
  const pressed = event.target.closest('button.open, button.see, a[href^="#f"]');
  if (pressed instanceof HTMLAnchorElement) unhide(pressed);
  else if (pressed?.matches('.open')) openRow(pressed);
  else if (pressed) showCard(pressed);
});

/* ---- the beginning */

for (const button of all('button.see')) button.setAttribute('aria-label', 'enlarge');
for (const [tally, field, value] of meta.corrections) correct(tally, field, value);
unsaved = false;
showState();
