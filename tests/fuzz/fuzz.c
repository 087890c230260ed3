/* fuzz.c - see fuzz.h. */
#include "fuzz.h"

#undef malloc
#undef calloc
#undef realloc
#undef free
#undef exit

#include <errno.h>
#include <sanitizer/allocator_interface.h>
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- memory ---------------------------------------------------------------------------------- */

/* Stands in front of each block, poisoned, so that whoever touches it is reported. The sanitizer
   that looks for leaks does not read poisoned memory, and of the first link only the complement is
   kept: so a block counts as reachable only by the code that is tried out. */
typedef struct block_head {
  struct block_head *next, *previous;
  size_t size, unused; /* a multiple of 16 bytes in all, as malloc aligns */
} block_head;

size_t fuzz_memory_limit = (size_t)64 << 20;
static size_t memory_in_use;
static uintptr_t newest_hidden = ~(uintptr_t)0;

static block_head *newest(void) {
  return (block_head *)~newest_hidden;
}

static void set_newest(block_head *head) {
  newest_hidden = ~(uintptr_t)head;
}

static void show(const block_head *head) {
  if (head) ASAN_UNPOISON_MEMORY_REGION(head, sizeof *head);
}

static void hide(const block_head *head) {
  if (head) ASAN_POISON_MEMORY_REGION(head, sizeof *head);
}

void *fuzz_malloc(size_t size) {
  if (size > fuzz_memory_limit || memory_in_use > fuzz_memory_limit - size) return NULL;
  block_head *head = malloc(sizeof *head + size), *next = newest();
  if (!head) return NULL;
  *head = (block_head){next, NULL, size, 0};
  show(next);
  if (next) next->previous = head;
  hide(next);
  hide(head);
  set_newest(head);
  memory_in_use += size;
  return head + 1;
}

void fuzz_free(void *memory) {
  if (!memory || __sanitizer_get_ownership(memory)) {
    free(memory);
    return;
  }
  block_head *head = (block_head *)memory - 1;
  show(head);
  block_head *next = head->next, *previous = head->previous;
  show(next);
  show(previous);
  if (next) next->previous = previous;
  if (previous) previous->next = next;
  if (newest() == head) set_newest(next);
  hide(next);
  hide(previous);
  memory_in_use -= head->size;
  free(head);
}

void *fuzz_calloc(size_t count, size_t size) {
  if (size && count > SIZE_MAX / size) return NULL;
  void *memory = fuzz_malloc(count * size);
  if (memory) memset(memory, 0, count * size);
  return memory;
}

/* Always moves, so that whoever keeps the old address is reported. */
void *fuzz_realloc(void *memory, size_t size) {
  void *moved = fuzz_malloc(size);
  if (!memory || !moved) return moved;
  block_head *head = (block_head *)memory - 1;
  show(head);
  const size_t before = head->size;
  hide(head);
  memcpy(moved, memory, before < size ? before : size);
  fuzz_free(memory);
  return moved;
}

/* ---- runs that end as a process would -------------------------------------------------------- */

static jmp_buf way_out;
static int running;

void fuzz_exit(int code) {
  if (!running) exit(code);
  FUZZ_CHECK(code == 1);
  longjmp(way_out, 1);
}

int fuzz_run(void (*what)(const uint8_t *data, size_t size), const uint8_t *data, size_t size) {
  const block_head *const before = newest();
  running = 1;
  const int ended = setjmp(way_out);
  if (!ended) what(data, size);
  while (ended && newest() != before) fuzz_free(newest() + 1);
  running = 0;
  return ended;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* A file on no disk, under a name in a folder that has nothing else: so what the bytes name beside
   themselves is not there, whereas /dev/fd has devices. */
static const char *make_file(int number) {
  static const char path[] = "build/fuzz/alone/input";
  char target[32];
  const int file = (int)syscall(SYS_memfd_create, "input", 0);
  snprintf(target, sizeof target, "/dev/fd/%d", number);
  mkdir("build", 0777);
  mkdir("build/fuzz", 0777);
  mkdir("build/fuzz/alone", 0777);
  FUZZ_CHECK(dup2(file, number) == number && (!symlink(target, path) || errno == EEXIST));
  return path;
}

const char *fuzz_file(const uint8_t *data, size_t size) {
  static const char *path;
  const int number = 100; /* the same in every process, as the link is */
  if (!path) path = make_file(number);
  FUZZ_CHECK(ftruncate(number, 0) == 0 && pwrite(number, data, size, 0) == (ssize_t)size);
  return path;
}

char *fuzz_text(const uint8_t *data, size_t size) {
  char *text = fuzz_malloc(size + 1);
  FUZZ_CHECK(text);
  memcpy(text, data, size);
  text[size] = 0;
  return text;
}

unsigned fuzz_byte(fuzz_bytes *from) {
  if (!from->left) return 0;
  from->left--;
  return *from->at++;
}

int fuzz_between(fuzz_bytes *from, int low, int high) {
  const unsigned number = fuzz_byte(from) | fuzz_byte(from) << 8;
  return low + (int)(number % (unsigned)(high - low + 1));
}

/* ---- start ----------------------------------------------------------------------------------- */

static int messages = STDERR_FILENO;

void fuzz_broken(const char *file, int line, const char *condition) {
  dprintf(messages, "%s:%d: does not hold: %s\n", file, line, condition);
  abort();
}

/* libFuzzer calls it before it closes what the code under test prints on. */
int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerInitialize(int *count, char ***arguments) {
  (void)count;
  (void)arguments;
  messages = dup(STDERR_FILENO);
  return setenv("CONVNET_THREADS", "1", 1); /* the same input takes the same way */
}

/* A few bytes of a damaged AVIF file are lost in there, which nobody here can change. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libdav1d.so\n";
}
