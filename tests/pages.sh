#!/usr/bin/env bash
# tests/pages.sh holds the style and the script of tally-read's page against what browsers understand,
# and the script that puts them into the program against every byte.
# Prints "ok NAME", "not ok NAME" or "skip NAME: why" for tests/run.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d "${TMPDIR:-/tmp}/tally-pages-XXXXXX")
trap 'rm -rf "$folder"' EXIT
style=tools/read/page.css script=tools/read/page.js

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

style_is_used() { # FILE
  local class classes missing=0
  classes=$(sed 's|/\*.*\*/||; s/^ .*: .*;//' "$1" | grep -oE '\.[a-z][-a-z0-9]*' | sort -u)
  for class in $classes; do
    grep -qwE -- "${class#.}" tools/read/*.h "$script" && continue
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
  chromium --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir="$folder/profile" \
    --dump-dom "file://$folder/page.html" >"$folder/dom" 2>"$folder/log" || { cat "$folder/log"; return 1; }
  sed -n '/<pre id="faults">/,/<\/pre>/p' "$folder/dom" | sed '1d; $d' >"$folder/faults"
  cat "$folder/faults"
  [ "$(cat "$folder/faults")" = "looked at" ]
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
    finds $style 's/^\.pill {/.pil {/' style_is_used $style &&
    finds $script '1s|^|/* </script> */|' stays_inside $script
}

finds_faults_of_style() {
  finds $style 's/^  padding: /  pading: /' browser_understands $style $script &&
    finds $style 's/^\.tile b {/.tile b) {/' browser_understands $style $script &&
    finds $style 's/var(--card)/var(--crd)/' browser_understands $style $script &&
    finds $style 's/--paper: #fff;/--paper: #fffff;/' browser_understands $style $script
}

finds_faults_of_script() {
  finds $script 's/^function download(/function download((/' browser_understands $style $script
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
check page_style_is_used style_is_used $style
check page_stays_inside_its_elements stays_inside $style $script
check page_faults_of_text_are_found finds_faults_of_text
check embed_keeps_every_byte embeds_every_byte
check embed_says_what_is_missing embed_says_what_is_missing
if command -v node >/dev/null; then
  check page_script_parses node --check $script
fi
if command -v chromium >/dev/null; then
  check page_is_understood browser_understands $style $script
  check page_faults_of_style_are_found finds_faults_of_style
  check page_faults_of_script_are_found finds_faults_of_script
else
  echo "skip optional_page_is_understood: there is no chromium"
fi
exit $failed
