/* templates.h - templates and other files that come with the programs. */
#ifndef TALLY_TEMPLATES_H
#define TALLY_TEMPLATES_H

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tally.h"
#include "file.h"
#include "input.h"
#include "path.h"
#include "picture.h"

/* A file that comes with the programs: beside them in the checkout, or where they are installed.
   NULL if there is none. */
static inline char *shared_file(const char *program, const char *folder, const char *name) {
  static const char *const places[] = {"../examples", "../share/tally", NULL};
  char self[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length > 0) self[length] = 0;
  char *home = folder_of(length > 0 ? self : program);
  for (int i = 0; places[i]; i++) {
    text_buffer path = {0};
    text_add(&path, "%s/%s/%s/%s", home, places[i], folder, name);
    if (is_file(path.data)) {
      free(home);
      return path.data;
    }
    free(path.data);
  }
  free(home);
  return NULL;
}

/* Whether a template is named by its path, not as one that came with the programs. */
static inline int is_template_path(const char *spec) {
  return is_file(spec) || strchr(spec, '/');
}

/* The text of a template, by its path or by its name if it came with the programs; *path is where it
   was. Both are the caller's. */
static inline char *template_text(const char *program, const char *spec, char **path,
                                  size_t *length) {
  text_buffer name = {0};
  text_add(&name, "%s.form", spec);
  *path = is_template_path(spec) ? copy_text(spec) : shared_file(program, "templates", name.data);
  free(name.data);
  if (!*path || !is_file(*path))
    fail("%s: there is no such file, and no template of that name came along", spec);
  input_note(*path);
  return read_file(*path, length);
}

/* The same, parsed. */
static inline tally_template *template_open(const char *program, const char *spec, char **text,
                                            size_t *length) {
  tally_template *form = allocate(1, sizeof *form);
  tally_error error;
  char *path;
  *text = template_text(program, spec, &path, length);
  if (tally_template_parse(*text, *length, form, &error) != TALLY_OK)
    fail("%s: line %d, column %d: %s", path, error.line, error.column, error.message);
  free(path);
  return form;
}

/* The reference print of a form, with its picture in PATH.png: NAME.print beside the template
   NAME.form, or, by the form's name, one that came with the programs. NULL if there is none. */
static inline char *print_path(const char *program, const char *spec, const tally_template *form) {
  text_buffer beside = {0}, name = {0};
  size_t length = strlen(spec);
  int has_ending = length > 5 && !strcmp(spec + length - 5, ".form");
  text_add(&beside, "%.*s.print", (int)(length - (has_ending ? 5 : 0)), spec);
  if (is_template_path(spec) && is_file(beside.data)) return beside.data;
  text_add(&name, "%s.print", form->name);
  char *path = *form->name ? shared_file(program, "templates", name.data) : NULL;
  free(beside.data);
  free(name.data);
  return path;
}

/* The same, read. It has to be of the template's form, by name. */
static inline tally_print *print_open(const char *program, const char *spec,
                                      const tally_template *form) {
  char *path = print_path(program, spec, form);
  if (!path) return NULL;
  tally_print *print = allocate(1, sizeof *print);
  tally_error error;
  size_t length;
  picture from;
  text_buffer png = {0};
  text_add(&png, "%s.png", path);
  input_note(path);
  input_note(png.data);
  const char *reason = picture_read(png.data, 1, DECODE_MAX_PIXELS, &from);
  if (reason) fail("%s, the picture of the reference print %s: %s", png.data, path, reason);
  char *text = read_file(path, &length);
  tally_image image = {from.pixels, from.width, from.height, 1};
  tally_result result = tally_print_make(text, length, &image, print, &error);
  if (result == TALLY_ERROR_TEMPLATE)
    fail("%s: line %d, column %d: %s", path, error.line, error.column, error.message);
  if (result != TALLY_OK) fail("%s: %s", path, tally_result_text(result));
  if (strcmp(print->name, form->name))
    fail("%s is the reference print of another form, %s; make one with tally-extract --print", path,
         print->name);
  free(from.pixels);
  free(text);
  free(png.data);
  free(path);
  return print;
}

static inline void print_close(tally_print *print) {
  tally_print_free(print);
  free(print);
}

#endif
