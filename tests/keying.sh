#!/usr/bin/env bash
# tests/keying.sh opens the page of tally-audit in headless Chromium, from disk, and keys in it as a person
# would: by the keyboard alone, with what is not clear and what is no number; what is saved is loaded again and
# certified.
# Prints "ok NAME", "not ok NAME" or "skip NAME: why" for tests/run.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$(cd "${BIN:-bin}" && pwd)

for program in chromium chromedriver python3; do
  command -v "$program" >/dev/null && continue
  echo "skip optional_keying_in_browser: there is no $program"
  exit 0
done

home=$(mktemp -d "${TMPDIR:-/tmp}/tally-keying-XXXXXX")
trap 'rm -rf "$home"' EXIT

# Three tallies; one has a hostile name, one no picture.
{
  "$bin/tally-synth" --template c1-2019 --clean --count 3 --seed 3 --out "$home/scans" --quiet &&
    mv "$home/scans/tally-0002.jpg" "$home/scans/<img src=x onerror=document.title='broken'>,\".jpg" &&
    sed "s/^tally-0002.jpg,/\"<img src=x onerror=document.title='broken'>,\"\".jpg\",/" \
      "$home/scans/truth.csv" >"$home/counts.csv" &&
    rm "$home/scans/tally-0003.jpg" &&
    "$bin/tally-audit" sample --counts "$home/counts.csv" --template c1-2019 --for shares --most 900 \
      --seed 1 --out "$home/audit" --quiet "$home/scans"
} >"$home/log" 2>&1 || {
  echo "not ok key_page_made"
  cat "$home/log" >&2
  exit 1
}
echo "ok key_page_made"

HOME_FOLDER=$home BIN_FOLDER=$bin PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 \
  timeout 240 python3 - <<'PYTHON'
import csv, os, subprocess, sys
from browser import *


def state():
    return run("return document.getElementById('state').textContent")


hostile = "<img src=x onerror=document.title='broken'>,\".jpg"
go(f"{home}/audit/key.html")
others = foreign_requests()
check("key_page_needs_no_network", not others, others)
check("key_page_is_whole", run("return document.title") == "Tallies to key" and
      run("return document.querySelectorAll('.form').length") == 3)
check("key_page_shows_pictures", run(
    "return Array.from(document.querySelectorAll('.form img')).filter(i=>i.naturalWidth>300).length") == 2)
check("key_page_starts_empty", run(
    "return Array.from(document.querySelectorAll('input[data-f]')).every(i=>!i.value)") and
    run("return document.getElementById('save').disabled") and
    state() == "0 of 3 tallies keyed", state())
wide = run("return document.documentElement.scrollWidth-document.documentElement.clientWidth")
check("key_page_fits_width", wide <= 0, wide)

# The truth, in the order of the page, by the keyboard alone.
order = run("return Array.from(document.querySelectorAll('.form'),f=>f.dataset.t)")
drawn = [r["tally"] for r in csv.DictReader(open(home + "/audit/sample.csv", newline=""))]
check("key_page_has_the_order_of_the_draws", order == drawn, (order, drawn))
truth = {(r["tally"], r["field"]): r["value"]
         for r in csv.DictReader(open(home + "/counts.csv", newline=""))}
fields = ["01", "02", "valid", "invalid", "total"]
run("document.querySelector('input[data-f]').focus()")
for tally in order[:2]:
    for field in fields:
        type_here(("00" if field == "02" and len(truth[tally, field]) < 2 else "") +
                  truth[tally, field] + ENTER)
check("key_page_enter_goes_on", run("return document.activeElement.closest('.form').dataset.t") ==
      order[2] and state() == "2 of 3 tallies keyed, not saved yet", state())
type_here("12x" + ENTER)
check("key_page_refuses_words", run("return document.activeElement.dataset.f") == "01" and
      "1 value is no number" in state(), state())
type_here(ALL + "1234" + ENTER)
check("key_page_refuses_long_numbers", run("return document.activeElement.dataset.f") == "01")
type_here(ALL + "-" + ENTER)
type_here("?" + DOWN)
type_here("7" + UP)
check("key_page_arrows_move", run("return document.activeElement.dataset.f") == "02")
check("key_page_asks_before_it_is_left",
      not run("return dispatchEvent(new Event('beforeunload',{cancelable:true}))"))
check("key_page_counts_what_is_begun", "1 begun" in state(), state())
click(".form:last-of-type button.illegible")
check("key_page_marks_the_rest_illegible", state().startswith("3 of 3 tallies keyed"), state())

click("#save")
wanted = [(t, f, truth[t, f]) for t in order[:2] for f in fields]
wanted += [(order[2], f, v) for f, v in zip(fields, ["", "?", "7", "?", "?"])]
rows = [(r["tally"], r["field"], r["value"]) for r in saved("keyed-1.csv") or []]
check("key_page_saves", rows == wanted, (rows, wanted))
check("key_page_is_left_without_question",
      run("return dispatchEvent(new Event('beforeunload',{cancelable:true}))"))

# Another time: what was saved, over a value that differs and beside a tally of another page.
with open(downloads + "/keyed-1.csv", "a") as file:
    file.write("another,01,5\n")
go(f"{home}/audit/key.html")
keys(".form input[data-f='total']", "998" + ENTER)
keys("#file", downloads + "/keyed-1.csv")
for _ in range(50):
    if "loaded" in state():
        break
    time.sleep(0.1)
check("key_page_loads", "14 values loaded, 1 others stand here already and were left, "
      "1 are about tallies that are not on this page" in state(), state())
got = run("return Array.from(document.querySelectorAll('input[data-f]'),i=>i.value)")
shown = [{"": "\u2013"}.get(v, v) for _, _, v in wanted]
shown[fields.index("total")] = "998"
check("key_page_shows_what_was_loaded", got == shown, (got, shown))
check("key_page_logs_no_error", not [e for e in log("browser") if e["level"] == "SEVERE"] and
      run("return document.title") == "Tallies to key")

with open(downloads + "/keyed-1.csv") as file:
    lines = file.read().splitlines()
with open(downloads + "/keyed-1.csv", "w") as file:
    file.write("\n".join(lines[:-1]) + "\n")
done = subprocess.run([os.environ["BIN_FOLDER"] + "/tally-audit", "certify", "--counts",
                       home + "/counts.csv", "--sample", home + "/audit", "--out", home + "/audit",
                       downloads + "/keyed-1.csv"], capture_output=True, text=True)
last = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
check("what_was_keyed_is_certified", last.get("keyed") == 3 and last.get("unclear") == 1,
      (done.stderr, last))
sys.exit(bool(failures))
PYTHON
