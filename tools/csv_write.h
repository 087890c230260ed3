/* csv_write.h - cells of tables, quoted where they need it (RFC 4180). */
#ifndef TALLY_CSV_WRITE_H
#define TALLY_CSV_WRITE_H

#include <stdio.h>
#include <string.h>

/* What might be taken for a separator is quoted, too. */
static inline void csv_write(FILE *file, const char *field) {
  if (!strpbrk(field, ",;\t\"\r\n")) {
    fputs(field, file);
    return;
  }
  putc('"', file);
  for (; *field; field++) {
    if (*field == '"') putc('"', file);
    putc(*field, file);
  }
  putc('"', file);
}

#endif
