#!/usr/bin/env bash
# tests/pages.sh holds the styles and the scripts of tally-read's page and of tally-audit's against what
# browsers understand, and the script that puts them into the programs against every byte.
# Prints "ok NAME", "not ok NAME" or "skip NAME: why" for tests/run.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d "${TMPDIR:-/tmp}/tally-pages-XXXXXX")
trap 'rm -rf "$folder"' EXIT
style=tools/read/page.css script=tools/read/page.js
key_style=tools/audit/key.css key_script=tools/audit/key.js

failed=0
check() { # NAME COMMAND...: one test; its output goes to stderr, where the log keeps it
  local name=$1
  shift
  if "$@" >"$folder/output" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    failed=1
    { echo "$name:"; cat "$folder/output"; } >&2
  fi
}

# ---- read as text ----------------------------------------------------------------------------------

# One selector, one declaration or one brace a line, indented by the braces around it.
style_is_tidy() { # FILE
  awk '
    function fault(what) { print FILENAME ":" FNR ": " what ": " $0; faults++ }
    /^ *\/\*/ { comment = 1 }
    comment || /^$/ { if (/\*\/$/) comment = 0; next }
    /^ *}$/ { depth-- }
    { match($0, /^ */); if (RLENGTH != 2 * depth) fault("wrong indentation") }
    length > 100 { fault("more than 100 columns") }
    / {$/ { depth++; next }
    /^ *}$/ || /,$/ || (depth && /^ *[-a-z]+: [^;{}]+;$/) { next }
    { fault("neither a selector, a declaration nor a brace") }
    END {
      if (depth) { print FILENAME ": braces do not balance"; faults++ }
      exit faults > 0
    }' "$1"
}

style_is_used() { # STYLE SCRIPT, beside the headers that write the page
  local class classes missing=0
  classes=$(sed 's|/\*.*\*/||; s/^ .*: .*;//' "$1" | grep -oE '\.[a-z][-a-z0-9]*' | sort -u)
  for class in $classes; do
    grep -qwE -- "${class#.}" "$(dirname "$2")"/*.h "$2" && continue
    echo "$1: nothing has the class $class"
    missing=1
  done
  return $missing
}

# Both stand inside an HTML element, which nothing in them may end.
stays_inside() { # FILE...
  ! grep -nE '</|<!--' "$@"
}

# ---- read by a browser -----------------------------------------------------------------------------

# Rules and declarations that the browser does not know, which it would pass over in silence; where
# colours are named, what is no colour; what is no JavaScript.
browser_understands() { # STYLE SCRIPT
  {
    echo '<!DOCTYPE html><meta charset="utf-8"><style>'
    cat "$1"
    echo '</style><script type="text/plain" id="script">'
    cat "$2"
    cat <<'HTML'
</script><pre id="faults"></pre><script>
const faults = [];
const text = document.querySelector('style').textContent.replace(/\/\*[^]*?\*\//g, '');
const count = (rules) => Array.from(rules, (rule) => 1 + count(rule.cssRules || []))
  .reduce((sum, number) => sum + number, 0);
const written = text.split('{').length - 1, known = count(document.styleSheets[0].cssRules);
if (written !== known) faults.push(`${written} rules are written, ${known} are known`);
const root = getComputedStyle(document.documentElement);
for (const [line, name, value] of text.matchAll(/^ *([-a-z]+): (.+);$/gm)) {
  const full = value.replace(/ !important$/, '').replace(/var\((.+?)\)/g, (_, variable) =>
    root.getPropertyValue(variable) || 'unknown-variable');
  if (!CSS.supports(name.startsWith('--') ? 'color' : name, full)) faults.push('unknown:' + line);
}
try {
  new Function(document.getElementById('script').textContent);
} catch (error) {
  faults.push(`script: ${error}`);
}
document.getElementById('faults').textContent = ['', ...faults, 'looked at', ''].join('\n');
</script>
HTML
  } >"$folder/page.html"
  browse
}

# browse: what the page $folder/page.html has written into its element "faults" once its scripts ran
browse() {
  chromium --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir="$folder/profile" \
    --dump-dom "file://$folder/page.html" >"$folder/dom" 2>"$folder/log" || { cat "$folder/log"; return 1; }
  sed -n '/<pre id="faults">/,/<\/pre>/p' "$folder/dom" | sed '1d; $d' >"$folder/faults"
  cat "$folder/faults"
  [ "$(cat "$folder/faults")" = "looked at" ]
}

# A form with sums that take away and that limit, as page_form.h writes it: the sums follow what is typed,
# the card says what a count rests on, and a link brings back a form that was hidden.
script_works() { # SCRIPT
  {
    cat <<'HTML'
<!DOCTYPE html><meta charset="utf-8"><span id="tally"></span><button class="save" id="save"></button>
<button class="save" id="labels"></button><input id="find"><dialog id="card"></dialog>
<a href="#f0" id="link">a.jpg</a>
<article class="form look" data-t="a.jpg" data-h="00" id="f0"><h3>a.jpg</h3>
<p data-q="0.9996 0.0400"><span class="sum0"></span> <span class="sum1"></span></p><table>
<tr class="ok" data-f="a" data-s="ii" data-c="4 99,12 60 7 30"><th>a</th>
<td><button class="see"><svg width="40" height="20"></svg></button></td>
<td><input data-f="a" data-read="47" value="47"></td><td class="text">accepted</td></tr>
<tr class="look" data-f="b" data-s="ii" data-c="11 100,5 99" data-o="6"><th>b</th>
<td><button class="see"><svg width="40" height="20"></svg></button></td>
<td><input data-f="b" data-read="5" value="5"></td><td class="text">in doubt</td></tr>
<tr class="ok" data-f="t" data-s="ii" data-c="4 99,2 99"><th>t</th><td></td>
<td><input data-f="t" data-read="42" value="42"></td><td class="text">accepted</td></tr></table></article>
<script type="application/json" id="meta">{"fields":[["a",2],["b",2],["t",2]],"sums":[["t",[["a",1],
["b",-1]],0],["a",[["t",1],["b",1]],1]],"corrections":[]}</script><pre id="faults"></pre><script>
HTML
    cat "$1"
    cat <<'HTML'
</script><script>
const faults = [];
const same = (what, found, wanted) => {
  if (found !== wanted) faults.push(`${what}: "${found}" instead of "${wanted}"`);
};
const has = (what, found, wanted) => {
  if (!found.includes(wanted)) faults.push(`${what}: "${found}" does not say "${wanted}"`);
};
const sum = (number) => document.querySelector('.sum' + number).textContent;
const type = (field, value) => {
  const input = document.querySelector(`input[data-f="${field}"]`);
  input.value = value;
  input.dispatchEvent(new Event('change', {bubbles: true}));
};
try {
  type('b', '5');
  same('taken away', sum(0), 't adds up (42)');
  same('limit reached', sum(1), 'a is at least 47');
  type('b', '6');
  same('taken away too much', sum(0), 't reads 42, its parts make 41');
  same('limit exceeded', sum(1), 'a reads 47, its parts make 48');
  type('b', '3');
  same('limit kept', sum(1), 'a is at least 45');
  type('t', '');
  same('no total', sum(0), 't has no value; its parts make 44');
  type('t', '42');
  type('b', '5');
  const see = document.querySelectorAll('.see');
  see[0].click();
  const card = document.getElementById('card');
  same('card', card.open, true);
  same('its title', card.querySelector('h3').textContent, 'a.jpg, a');
  same('its picture', card.querySelector('svg').getAttribute('width'), '120');
  has('its cells', card.textContent, '4 (99 %); something illegible (60 %) or 7 (30 %)');
  has('the sum', card.textContent, 't adds up (42). The paper adds up here with a probability of more than 99.9 %');
  has('the limit', card.textContent, 'a probability of 4.0 %');
  card.querySelector('button').click();
  same('card closed', card.open, false);
  see[1].click();
  has('other cells', card.textContent, 'The cells by themselves say 6. The sums speak against that.');
  has('an empty cell', card.textContent, 'nothing (100 %); 5 (99 %)');
  card.close();
  document.getElementById('f0').classList.add('hidden');
  document.getElementById('link').click();
  same('a form that is led to', document.getElementById('f0').classList.contains('hidden'), false);
} catch (error) {
  faults.push(`error: ${error}`);
}
document.getElementById('faults').textContent = ['', ...faults, 'looked at', ''].join('\n');
</script>
HTML
  } >"$folder/page.html"
  browse
}

# ---- each look finds what it is for ----------------------------------------------------------------

# finds FILE EXPRESSION COMMAND...: the command fails on a copy of the file that sed has changed; the
# copy's name stands for FILE in the command
finds() {
  local file=$1 copy
  copy=$folder/$(basename "$file")
  sed "$2" "$file" >"$copy"
  shift 2
  ! cmp -s "$file" "$copy" || { echo "nothing was changed in $file"; return 1; }
  ! "${@//$file/$copy}" || { echo "passed"; return 1; }
}

finds_faults_of_text() {
  finds $style '0,/^}$/s/^}$//' style_is_tidy $style &&
    finds $style 's/^  margin: 0;$/  margin 0;/' style_is_tidy $style &&
    finds $style 's/^\.pill {/.pil {/' style_is_used $style $script &&
    finds $script '1s|^|/* </script> */|' stays_inside $script
}

finds_faults_of_style() {
  finds $style 's/^  padding: /  pading: /' browser_understands $style $script &&
    finds $style 's/^\.tile b {/.tile b) {/' browser_understands $style $script &&
    finds $style 's/var(--card)/var(--crd)/' browser_understands $style $script &&
    finds $style 's/--paper: #fff;/--paper: #fffff;/' browser_understands $style $script
}

finds_faults_of_script() {
  finds $script 's/^function download(/function download((/' browser_understands $style $script &&
    finds $script 's/sign \* (values/(values/' script_works $script &&
    finds $script 's/atMost && value >= parts/false/' script_works $script &&
    finds $script 's/row.dataset.o ??/row.dataset.p ??/' script_works $script &&
    finds $script 's/card.showModal();//' script_works $script
}

# ---- put into C ------------------------------------------------------------------------------------

# shellcheck disable=SC2059  # the octal numbers are the format
embeds_every_byte() {
  local compiler=${CC:-cc} i
  for i in $(seq 0 255); do printf "\\$(printf '%03o' "$i")"; done >"$folder/all-bytes.bin"
  tools/embed.sh $style "$folder/all-bytes.bin" >"$folder/files.h" || return 1
  cat >"$folder/write.c" <<'C'
#include <stdio.h>
#include "files.h"
int main(void) {
  return fwrite(page_css, 1, sizeof page_css, stdout) != sizeof page_css ||
         fwrite(all_bytes_bin, 1, sizeof all_bytes_bin, stdout) != sizeof all_bytes_bin;
}
C
  $compiler -std=c99 -Wall -Wextra -Wpedantic -Werror "$folder/write.c" -o "$folder/write" &&
    "$folder/write" >"$folder/written" && cat $style "$folder/all-bytes.bin" | cmp - "$folder/written"
}

embed_says_what_is_missing() {
  : >"$folder/empty.css"
  ! tools/embed.sh $style "$folder/empty.css" >/dev/null 2>"$folder/said" &&
    grep -q 'empty.css is empty or not there' "$folder/said"
}

# ----------------------------------------------------------------------------------------------------

check page_style_is_tidy style_is_tidy $style
check key_style_is_tidy style_is_tidy $key_style
check page_style_is_used style_is_used $style $script
check key_style_is_used style_is_used $key_style $key_script
check pages_stay_inside_their_elements stays_inside $style $script $key_style $key_script
check page_faults_of_text_are_found finds_faults_of_text
check embed_keeps_every_byte embeds_every_byte
check embed_says_what_is_missing embed_says_what_is_missing
if command -v node >/dev/null; then
  check page_script_parses node --check $script
  check key_script_parses node --check $key_script
fi
if command -v chromium >/dev/null; then
  check page_is_understood browser_understands $style $script
  check key_page_is_understood browser_understands $key_style $key_script
  check page_script_works script_works $script
  check page_faults_of_style_are_found finds_faults_of_style
  check page_faults_of_script_are_found finds_faults_of_script
else
  echo "skip optional_page_is_understood: there is no chromium"
fi
exit $failed
