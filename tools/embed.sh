#!/bin/sh
# tools/embed.sh FILE... writes the files as C: page.css becomes the array of bytes page_css.
# Bytes and not texts, as C99 promises no more than 4,095 characters of a string literal.
set -eu
for file; do
  [ -s "$file" ] || { echo "tools/embed.sh: $file is empty or not there" >&2; exit 1; }
  printf 'static const unsigned char %s[] = {\n' "$(basename "$file" | sed 's/[^A-Za-z0-9]/_/g')"
  od -A n -v -t u1 "$file" | sed 's/[0-9][0-9]*/&,/g'
  echo '};'
done
