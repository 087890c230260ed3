/* csv.c - the reader of CSV files on any bytes. Rows have as many fields as the header; a table that is
   written and read again is the same table. Runs: 30000. */
#include "tools.h"

#include "csv.h"
#include "csv_write.h"

/* The columns of a file whose every row can be read; else it does not return. */
static int check_rows(const char *path) {
  csv table = csv_open(path);
  const int columns = table.column_count;
  FUZZ_CHECK(columns > 0);
  do FUZZ_CHECK(table.field_count == columns && table.line > 0);
  while (csv_row(&table));
  csv_close(&table);
  return columns;
}

/* A file as csv_write makes it. */
static char *rewrite(const char *path) {
  char *text = NULL;
  size_t length;
  FILE *out = open_memstream(&text, &length);
  FUZZ_CHECK(out);
  csv table = csv_open(path);
  fputs("\xEF\xBB\xBF", out); /* so that one in the first field is kept */
  do {
    for (int i = 0; i < table.field_count; i++) {
      if (i) putc(',', out);
      csv_write(out, table.fields[i]);
    }
    putc('\n', out);
  } while (csv_row(&table));
  csv_close(&table);
  FUZZ_CHECK(!fclose(out));
  return text;
}

static void read_table(const uint8_t *data, size_t size) {
  const char *path = fuzz_file(data, size);
  const int columns = check_rows(path);
  char *once = rewrite(path);
  if (columns > 1) { /* of a single empty field nothing would be left */
    char *twice = rewrite(fuzz_file((const uint8_t *)once, strlen(once)));
    FUZZ_CHECK(!strcmp(once, twice));
    free(twice);
  }
  free(once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tool_run(read_table, data, size);
  return 0;
}
