#!/usr/bin/env bash
# tests/report.sh opens a report in headless Chromium, from disk, and works in it as a person would:
# nothing may be loaded from elsewhere, no error may be logged, a value can be corrected, confirmed,
# refused and saved, and what is saved is what tally-read and tally-extract take.
# Prints "ok NAME", "not ok NAME" or "skip NAME: why" for tests/run.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$(cd "${BIN:-bin}" && pwd)

for program in chromium chromedriver python3; do
  command -v "$program" >/dev/null && continue
  echo "skip optional_report_in_browser: there is no $program"
  exit 0
done

home=$(mktemp -d "${TMPDIR:-/tmp}/tally-report-XXXXXX")
trap 'rm -rf "$home"' EXIT

# A report with a hardly trained model: enough values in doubt to work on. One name is hostile, one form is
# unread, one has no pictures in the page.
form=examples/templates/c1-2019.form
{
  "$bin/tally-synth" --template $form --clean --count 20 --seed 3 --out "$home/learn" --quiet &&
    "$bin/tally-extract" --template $form --out "$home/cells" --labels "$home/learn/cells.csv" \
      --quiet "$home/learn" &&
    "$bin/tally-train" --data "$home/cells/labelled.csv" --arch lenet --epochs 8 --batch 10 \
      --lr 0.002 --quiet --out "$home/model.safetensors" &&
    mkdir "$home/scans" && mv "$home"/learn/tally-000[1-5].jpg "$home/scans" &&
    mv "$home/scans/tally-0002.jpg" "$home/scans/<img src=x onerror=document.title='broken'>.jpg" &&
    head -c 3000 "$home/scans/tally-0003.jpg" >"$home/scans/unread.jpg" &&
    "$bin/tally-read" --template $form --model "$home/model.safetensors" --out "$home/out" --quiet \
      --pictures 4 --official "$home/learn/truth.csv" "$home/scans"
} >"$home/log" 2>&1 || {
  echo "not ok report_made"
  cat "$home/log" >&2
  exit 1
}
echo "ok report_made"

HOME_FOLDER=$home BIN_FOLDER=$bin FORM=$form PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 \
  timeout 240 python3 - <<'PYTHON'
import csv, os, subprocess, sys
from browser import *

go(f"{home}/out/report.html")
check("report_loads", run("return document.querySelectorAll('article.form').length") == 5)
check("report_title", run("return document.title") == "Vote tallies")
others = foreign_requests()
check("report_needs_no_network", not others, others)
check("report_pictures", run("return document.querySelectorAll('svg image').length") == 8)
wide = run("return document.documentElement.scrollWidth-document.documentElement.clientWidth")
check("report_fits_width", wide <= 0, wide)
check("report_save_disabled", run("return document.getElementById('save').disabled"))

browser("Emulation.setEmulatedMedia", media="print")
check("report_prints_its_figures", run(
    "return Array.from(document.querySelectorAll('svg.figure *')).every(e=>"
    "getComputedStyle(e).display!=='none')"))
browser("Emulation.setEmulatedMedia", media="")

# j goes from form to form, each time to the first value in doubt: to the second, where it is made so.
run("document.querySelectorAll('.counts tr[data-f]').forEach(r=>{r.dataset.was=r.className;"
    "r.className=r.dataset.f==='02'?'look':'ok'})")
gone_to = []
for _ in range(4):
    keys("body", "j")
    gone_to += run("var i=document.activeElement;return i.closest('tr')?[i.dataset.f]:[]")
    run("document.activeElement.blur()")
check("report_j_goes_to_doubt", gone_to and set(gone_to) == {"02"}, gone_to)
run("document.querySelectorAll('tr[data-was]').forEach(r=>{r.className=r.dataset.was})")
changed = run("return Array.from(document.querySelectorAll('input[data-f]'))"
              ".filter(i=>i.value!==i.dataset.read).map(i=>i.value)")
check("report_j_types_nothing", not changed, changed)

# A picture becomes large by the keyboard, and says what its count rests on; Esc closes it, and j and k
# do nothing meanwhile.
run("document.querySelector('.counts tr[data-c] .see').focus()")
keys(".counts tr[data-c] .see", ENTER)
words = run("var c=document.getElementById('card');return c.open?c.innerText:''")
check("report_card_opens", "The cells by themselves say" in words and
      "The network sees, from the left:" in words and "The paper adds up here" in words, words)
check("report_card_pictures", run("return document.querySelectorAll('#card svg').length") == 2)
keys("#card button", "j")
check("report_card_keeps_keys", run("return document.activeElement.closest('#card')!==null"))
keys("#card button", ESCAPE)
check("report_card_closes", not run("return document.getElementById('card').open"))
click(".two button.see")
check("report_table_enlarges", run("return document.querySelectorAll('#card svg.table').length") == 1)
keys("#card button", ESCAPE)
links = run("return Array.from(document.querySelectorAll('a')).filter(a=>"
            "!document.getElementById(a.hash.slice(1))).map(a=>a.href)")
check("report_links_lead_somewhere", not links, links)

# A value typed over, one confirmed, one refused, one taken back, one in a form that was not read.
name = run("var a=Array.from(document.querySelectorAll('article.form:has(svg image)')).find(a=>"
           "a.querySelector(\"input[data-f='02']\").dataset.read);a.id='shown';return a.dataset.t")
shown = "#shown input[data-f='%s']"
can_leave = "return dispatchEvent(new Event('beforeunload',{cancelable:true}))"
keys(shown % "01", ESCAPE)
check("report_is_left_without_question", run(can_leave))
keys(shown % "01", ALL + "123" + ENTER)
check("report_enter_moves_on", run("return document.activeElement.dataset.f") not in (None, "01"))
keys(shown % "02", ENTER)
check("report_asks_before_it_is_left", not run(can_leave))
corrected = "return document.getElementById('tally').textContent"
keys(shown % "valid", ALL + "12" + ENTER)
before = run(corrected)
keys(shown % "valid", ALL + "12x" + ENTER)
check("report_refused_value_corrects_nothing",
      before.startswith("3 values") and run(corrected).startswith("2 values"), before)
check("report_refuses_words",
      run("return document.querySelector(arguments[0]).getAttribute('aria-invalid')",
          shown % "valid") == "true")
keys(shown % "valid", ESCAPE)
keys(shown % "total", ALL + "999" + ENTER)
check("report_sum_follows", "999" in run(
    "return document.querySelector('#shown .sum1').textContent"))
keys(shown % "total", ESCAPE)
# As if it had been unread: the sum follows a value that is typed and removed again.
run("var i=document.querySelector(arguments[0]);i.dataset.was=i.dataset.read;i.dataset.read='';"
    "i.closest('tr').classList.remove('missing')", shown % "total")
keys(shown % "total", ALL + "998" + ENTER)
keys(shown % "total", ALL + "\ue017" + ENTER)
words = run("return document.querySelector('#shown .sum1').textContent")
check("report_sum_follows_removal", "has no value" in words, words)
run("var i=document.querySelector(arguments[0]);i.dataset.read=i.dataset.was", shown % "total")
keys(shown % "total", ESCAPE)
unread = "article[data-t='unread.jpg'] input[data-f='%s']"
keys(unread % "01", "7" + ENTER)
keys(unread % "02", ENTER)
keys(unread % "invalid", "-" + ENTER)
hostile = "<img src=x onerror=document.title='broken'>.jpg"
run("var i=Array.from(document.querySelectorAll('[data-t]')).find(e=>e.dataset.t===arguments[0]);"
    "i.id='hostile'", hostile)
if run("return document.querySelector('#hostile input')===null"):
    click("#hostile button.open")
keys("#hostile input[data-f='02']", ALL + "88" + ENTER)
second = run("return document.querySelector(arguments[0]).dataset.read", shown % "02")
click("#save")
rows = saved("corrections.csv")
wanted = sorted([(name, "01", "123"), (name, "02", second),
                 ("unread.jpg", "01", "7"), ("unread.jpg", "invalid", ""), (hostile, "02", "88")])
got = sorted((r["tally"], r["field"], r["value"]) for r in rows or [])
check("report_saves_corrections", got == wanted, (got, wanted))
click("#labels")
labels = {r["path"]: r["label"] for r in saved("cell-labels.csv") or []}
check("report_saves_cell_labels", labels.get(f"cells/{name}/01-1.png") == "2", labels)

click("button[data-kind='unread']")
check("report_filters", run("return document.querySelectorAll('article.form:not(.hidden)').length") == 1)
check("report_logs_no_error", not [e for e in log("browser") if e["level"] == "SEVERE"])

read = [os.environ["BIN_FOLDER"] + "/tally-read", "--template", os.environ["FORM"], "--model",
        home + "/model.safetensors", "--out", home + "/out", "--quiet", "--corrections",
        downloads + "/corrections.csv", home + "/scans"]
done = subprocess.run(read, capture_output=True, text=True)
counts = {(r["tally"], r["field"]): r for r in csv.DictReader(open(home + "/out/counts.csv"))}
taken = [(counts[t, f]["value"], counts[t, f]["status"], counts[t, f]["corrected"]) for t, f, _ in wanted]
check("report_corrections_are_taken", done.returncode == 0 and
      taken == [(v, "ok" if v else "missing", "1") for _, _, v in wanted], (done.stderr, taken))
go(f"{home}/out/report.html")
words = run(corrected)
check("report_keeps_corrections", words.startswith("5 values"), words)
sys.exit(bool(failures))
PYTHON
