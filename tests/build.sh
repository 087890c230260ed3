#!/usr/bin/env bash
# make compiles each file once, later only what a change concerns, and what it installs runs. All of it
# in a copy of the sources whose path has a space, without optimisation, by a compiler that keeps a list
# of what it compiled.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CXXFLAGS LDFLAGS
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
copy="$folder/the copy"
mkdir "$copy"
cp -R Makefile convnet.h tally.h tools examples .ci "$copy"

# While the file `broken` is there, the compiler leaves half an object and fails.
for language in CC CXX; do
  compiler=${!language:-$([ $language = CC ] && echo cc || echo c++)}
  cat >"$folder/$language" <<SH
#!/bin/sh
echo "\$*" >>"$folder/log"
case "\$*" in
  *" -c t"*) [ ! -e "$folder/broken" ] || { for to; do :; done; echo half >"\$to"; exit 1; } ;;
esac
exec $compiler "\$@"
SH
  chmod +x "$folder/$language"
done

build() { # ARGUMENT...: make in the copy; the list starts anew
  : >"$folder/log"
  make -C "$copy" CC="$folder/CC" CXX="$folder/CXX" CFLAGS=-O0 "$@"
}

# Files that the last build compiled, and programs that it linked, in order, one a line.
compiled() { sed -n 's/.* -c \([^ ]*\.c[p]*\) -o .*/\1/p' "$folder/log" | sort; }
linked() { sed -n 's/.* -o \(bin[^ ]*\).*/\1/p' "$folder/log" | sort; }

# shellcheck disable=SC2048,SC2086  # patterns are to be expanded, in the copy
sources() { # PATTERN...: files of the copy, in order, one a line
  (cd "$copy" && printf '%s\n' $* | sort)
}
all_sources() { sources 'tools/*.c' 'tools/implementations/*.c' 'tools/decode/*.c'; }
tools_including() { # HEADER: tools that include it, by whatever ways
  (cd "$copy" && for tool in tools/*.c; do
    cc -MM -MG "$tool" | grep -qE "(^|[ /])$1( |\$)" && echo "$tool"
  done)
}

# is_only WHAT GOT WANTED: two lists that must be equal
is_only() {
  [ "$2" = "$3" ] && return
  printf '%s:\n%s\nwanted:\n%s\n' "$1" "$2" "$3"
  return 1
}

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

from_clean() {
  build -j4 && is_only "compiled" "$(compiled)" "$(all_sources)" &&
    is_only "linked" "$(linked)" "$(sources 'tools/*.c' | sed 's|tools/\(.*\)\.c|bin/\1|')"
}

nothing_to_do() {
  build -q && ! build -n | grep -- '-c ' && build && is_only "run" "$(compiled)$(linked)" ""
}

one_tool() {
  touch "$copy/tools/tally-evaluate.c"
  build && is_only "compiled" "$(compiled)" tools/tally-evaluate.c &&
    is_only "linked" "$(linked)" bin/tally-evaluate
}

# touched FILE SOURCE...: only those are compiled after a change of the file
touched() {
  touch "$copy/$1"
  shift
  build -j2 && is_only "compiled" "$(compiled)" "$(sources "$@")"
}

other_flags() {
  is_only "to compile" "$(build -n CFLAGS=-O1 | grep -c -- ' -c ')" "$(all_sources | wc -l)" && build -q
}

half_an_object() {
  local object=$copy/build/tools/implementations/stb.o
  touch "$copy/tools/implementations/stb.c" "$folder/broken"
  ! build || return 1
  rm "$folder/broken"
  [ ! -e "$object" ] || { echo "a failed compilation left $object"; return 1; }
  build
}

examples() {
  build examples && is_only "compiled" "$(compiled)" "$(sources 'examples/*.c' 'examples/*.cpp')" &&
    "$copy/bin/examples/user"
}

by_hand() { # NAME OPTION...: a tool by the line in tools/tool.h
  local name=$1 line
  shift
  line=$(sed -n '/^ *cc -O2 tools\/NAME.c/,/-lm$/p' tools/tool.h | sed 's/\\$//' | tr '\n' ' ')
  line=${line//NAME/$name}
  rm "$copy/bin/$name"
  # shellcheck disable=SC2086  # the line is a command with its arguments
  (cd "$copy" && ${line/-O2/-O0} "$@" && "bin/$name" --help | grep -q "$name --")
}

# The line in tally-read.c that makes what it needs beside tool.h's.
page_by_hand() {
  rm "$copy/build/page_files.h"
  (cd "$copy" && eval "$(grep 'tools/embed.sh .*>' tools/tally-read.c)") && by_hand tally-read -Ibuild
}

page_files() { # FILE...: each of them makes tally-read anew, and what it says is in the program
  local file
  for file; do
    echo "/* edited: $file */" >>"$copy/$file"
    build && is_only "compiled" "$(compiled)" tools/tally-read.c || return 1
    grep -q "edited: $file" "$copy/bin/tally-read" || { echo "$file is not in it"; return 1; }
  done
}

# Templates and the model are found beside the programs, wherever that is.
installed() {
  local root=$folder/root file
  build -s install DESTDIR="$root" PREFIX=/usr || return 1
  for file in include/convnet.h include/tally.h $(cd "$copy" && ls bin/tally-*); do
    [ -s "$root/usr/$file" ] || { echo "no $file"; return 1; }
  done
  cp -R examples/data/c1-2019 "$folder/scans" && rm -rf "$copy/examples" && cd "$folder" || return 1
  root/usr/bin/tally-read --template c1-2019 --out result scans | tail -n 1 | grep '"read": 3' &&
    [ -s result/report.html ]
}

clean() {
  build clean && [ ! -e "$copy/bin" ] && [ ! -e "$copy/build" ]
}

check "make -j4 compiles and links each file once" from_clean
check "make has nothing to do after make" nothing_to_do
check "an edited tool is compiled alone" one_tool
# shellcheck disable=SC2046  # words are wanted
check "tally.h concerns those that include it" touched tally.h tools/implementations/tally.c \
  $(tools_including tally.h)
# shellcheck disable=SC2046
check "convnet.h concerns those that include it" touched convnet.h tools/implementations/convnet.c \
  $(tools_including convnet.h)
check "other flags make everything anew" other_flags
check "a failed compilation leaves no half object" half_an_object
check "make examples" examples
check "an edited style or script of the page makes tally-read anew" page_files \
  tools/read/page.css tools/read/page.js
check "a tool builds by the line in tools/tool.h" by_hand tally-evaluate
check "tally-read builds by hand as it says" page_by_hand
check "make install, and what it installed runs" installed
check "make clean" clean
exit $failed
