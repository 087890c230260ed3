#!/usr/bin/env bash
# tests/run.sh PROGRAM... runs test programs and scripts one after another and adds up what they
# report: cmocka's lines, or one line a test in the form "ok NAME", "not ok NAME", "skip NAME: why".
# The last line is "N passed, N failed, N skipped"; the exit code is 0 if none failed.
#
# Before each stands what it checks, which is the first sentence of its source, and how long it took
# when it last passed (kept in build/test-times). A terminal also shows how far it has come.
#
# With CI set in the environment a skip counts as a failure, unless the test's name says that it needs
# something private (data that may not be published) or optional.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/log
times=build/test-times
touch "$times"

passing='^(\[       OK \]|ok ) ?.'
failing='^(\[  FAILED  \]|not ok ) ?.'
skipping='^(\[  SKIPPED \]|skip ) ?.'

count() { grep -cE "$1" "$out"; }

duration() { # SECONDS
  if [ "$1" -lt 100 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

# ---- how long things take ------------------------------------------------------------------------

last_time() { # NAME...: seconds they took together, or nothing if one of them is not known
  awk -v names="$*" '
    { seconds[$1] = $2 }
    END {
      wanted = split(names, name, " ")
      for (i = 1; i <= wanted; i++) {
        if (!(name[i] in seconds)) exit
        sum += seconds[name[i]]
      }
      print sum
    }' "$times"
}

keep_time() { # NAME SECONDS
  awk -v name="$1" '$1 != name' "$times" >"$times.new"
  echo "$1 $2" >>"$times.new"
  mv "$times.new" "$times"
}

# ---- what is going on ----------------------------------------------------------------------------

first_sentence() { # SOURCE: of its first comment
  awk '
    /^#!/ { next }
    {
      last = $0 !~ /[^ #*\/]/ || /\*\/ *$/
      gsub(/^(\/\*|#)? *|\*\/ *$/, "")
      text = text (text == "" ? "" : " ") $0
    }
    last || text ~ /\.( |$)/ { exit }
    END {
      sub(/^[a-z_]+\.(c|sh) - /, "", text)
      if (match(text, /\.( |$)/)) text = substr(text, 1, RSTART - 1)
      print text
    }' "$1"
}

show_progress() { # SECONDS it took the last time, or nothing
  local of=''
  [ -n "$1" ] && of=" of about $(duration "$1")"
  while sleep 1; do
    printf '\r        %d tests done in %s%s\033[K' "$(count "$passing|$failing|$skipping")" \
      "$(duration $((SECONDS - started)))" "$of"
  done
}

progress= # the process that shows it
hide_progress() {
  [ -z "$progress" ] && return
  kill "$progress"
  wait "$progress" 2>/dev/null
  progress=
  printf '\r\033[K'
}
trap hide_progress EXIT

announce() { # PROGRAM NAME SECONDS
  local source=$1 time=''
  [ -e "tests/$2.c" ] && source=tests/$2.c
  [ -n "$3" ] && time=", about $(duration "$3")"
  echo "[$number/$total] $2$time"
  first_sentence "$source" | fold -s -w 92 | sed 's/^/        /; s/ $//'
}

# ---- the run -------------------------------------------------------------------------------------

total=$# number=0 passed=0 failed=0 skipped=0 slowest=''
names=$(for test in "$@"; do basename "$test"; done)
# shellcheck disable=SC2086  # words are wanted
all=$(last_time $names)
if [ -n "$all" ]; then
  all="about $(duration "$all"), going by the last time"
else
  all="not all of them timed here yet; make test as a whole takes about a quarter of an hour"
fi
echo "Running $total test programs and scripts: $all. Their output is in build/log."

for test in "$@"; do
  number=$((number + 1))
  name=$(basename "$test")
  out=build/log/$name.out err=build/log/$name.err
  before=$(last_time "$name")
  announce "$test" "$name" "$before"
  started=$SECONDS
  : >"$out"
  if [ -t 1 ]; then
    show_progress "$before" &
    progress=$!
  fi
  "$test" >"$out" 2>"$err"
  status=$?
  hide_progress
  seconds=$((SECONDS - started))

  ok=$(count "$passing")
  bad=$(count "$failing")
  skips=$(grep -E "$skipping" "$out")
  skip=$(grep -c . <<<"$skips")
  if [ -n "${CI:-}" ]; then
    strict=$(grep . <<<"$skips" | grep -cvE 'private|optional')
    bad=$((bad + strict)) skip=$((skip - strict))
  fi
  # A program that died, or that ran nothing, has failed whatever it printed before.
  [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ $((ok + skip)) -eq 0 ]; } && bad=1
  echo "        $ok passed, $bad failed, $skip skipped in $(duration "$seconds")"
  [ -n "$skips" ] && sed 's/^/        /' <<<"$skips"
  if [ "$bad" -eq 0 ]; then
    keep_time "$name" "$seconds"
  else
    echo "        exit code $status; full output in $out and $err; the end of it:"
    grep -E "$failing" "$out" | head -n 20 | sed 's/^/        /'
    tail -n 30 "$err" | sed 's/^/        /'
  fi
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  slowest+="$seconds $name"$'\n'
done

echo "$(duration $SECONDS) in all; the slowest:"
printf '%s' "$slowest" | sort -rn | head -n 3 | while read -r seconds name; do
  echo "        $name $(duration "$seconds")"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
