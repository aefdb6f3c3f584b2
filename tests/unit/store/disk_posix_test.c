// The disk port on the real file system, in a directory of its own.
#include "store/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log_history.h"

static void remove_tree(const char *path)
{
  DIR *stream = opendir(path);
  if (!stream) return;
  for (const struct dirent *entry; (entry = readdir(stream));) {
    if (entry->d_name[0] == '.') continue;
    if (unlinkat(dirfd(stream), entry->d_name, 0) != 0) unlinkat(dirfd(stream), entry->d_name, AT_REMOVEDIR);
  }
  closedir(stream);
  rmdir(path);
}

static int make_directory(void **state)
{
  const char *base = getenv("TMPDIR");
  char *path;
  if (asprintf(&path, "%s/skerry-disk-XXXXXX", base ? base : "/tmp") < 0) return -1;
  *state = path;
  return mkdtemp(path) ? 0 : -1;
}

static int remove_directory(void **state)
{
  remove_tree(*state);
  free(*state);
  return 0;
}

static struct disk *open_disk(const char *path)
{
  struct disk *disk = NULL;
  struct error error;
  enum status status = disk_posix_open(path, false, true, &disk, &error);
  if (status) print_message("%s\n", error.text);
  assert_int_equal(status, OK);
  return disk;
}

static void collect_names(void *context, const char *name)
{
  char *names = context;
  strcat(names, name);
  strcat(names, " ");
}

static void writes_and_reads_files(void **state)
{
  struct disk *disk = open_disk(*state);
  const struct disk_operations *does = disk->operations;
  struct disk_file *file;
  assert_int_equal(does->open(disk, "a", DISK_READ, &file), ERR_NOT_FOUND);
  assert_int_equal(does->open(disk, "a", DISK_WRITE, &file), ERR_NOT_FOUND);
  assert_int_equal(does->open(disk, "a", DISK_CREATE, &file), OK);
  assert_int_equal(does->allocate(disk, file, 100000), OK);
  uint64_t size = 0;
  assert_int_equal(does->size(disk, file, &size), OK);
  assert_int_equal(size, 100000);
  assert_int_equal(does->write(disk, file, 50000, span_text("something")), OK);
  assert_int_equal(does->sync(disk, file), OK);
  assert_int_equal(disk->bytes_written, 9);
  assert_int_equal(disk->syncs, 1);
  uint8_t bytes[20];
  size_t got;
  assert_int_equal(does->read(disk, file, 49998, bytes, 13, &got), OK);
  assert_int_equal(got, 13);
  assert_memory_equal(bytes, "\0\0something\0\0", 13);
  // Less only at the end.
  assert_int_equal(does->read(disk, file, 99995, bytes, 20, &got), OK);
  assert_int_equal(got, 5);
  assert_int_equal(does->read(disk, file, 200000, bytes, 20, &got), OK);
  assert_int_equal(got, 0);
  assert_int_equal(does->allocate(disk, file, 10), OK);  // never smaller
  assert_int_equal(does->size(disk, file, &size), OK);
  assert_int_equal(size, 100000);
  assert_int_equal(does->truncate(disk, file, 50004), OK);
  assert_int_equal(does->read(disk, file, 50000, bytes, 20, &got), OK);
  assert_int_equal(got, 4);
  does->close(disk, file);
  assert_int_equal(does->open(disk, "a", DISK_CREATE, &file), OK);
  assert_int_equal(does->size(disk, file, &size), OK);
  assert_int_equal(size, 0);
  does->close(disk, file);
  disk_destroy(disk);
}

static void names_change(void **state)
{
  struct disk *disk = open_disk(*state);
  const struct disk_operations *does = disk->operations;
  struct disk_file *file;
  assert_int_equal(does->open(disk, "one", DISK_CREATE, &file), OK);
  assert_int_equal(does->write(disk, file, 0, span_text("1")), OK);
  does->close(disk, file);
  assert_int_equal(does->open(disk, "two", DISK_CREATE, &file), OK);
  does->close(disk, file);
  assert_int_equal(does->rename(disk, "one", "two"), OK);
  assert_int_equal(does->sync_directory(disk), OK);
  assert_int_equal(does->rename(disk, "one", "two"), ERR_NOT_FOUND);
  assert_int_equal(does->unlink(disk, "one"), ERR_NOT_FOUND);
  char names[256] = "";
  assert_int_equal(does->list(disk, collect_names, names), OK);
  assert_true(strcmp(names, "lock two ") == 0 || strcmp(names, "two lock ") == 0);
  assert_int_equal(does->unlink(disk, "two"), OK);
  uint64_t available = 0, total = 0;
  assert_int_equal(does->space(disk, &available, &total), OK);
  assert_true(total > 0 && available <= total);
  disk_destroy(disk);
}

static void does_not_follow_links_out(void **state)
{
  struct disk *disk = open_disk(*state);
  char path[256];
  snprintf(path, sizeof path, "%s/link", (const char *)*state);
  assert_int_equal(symlink("/dev/null", path), 0);
  struct disk_file *file;
  assert_int_not_equal(disk->operations->open(disk, "link", DISK_WRITE, &file), OK);
  assert_int_not_equal(disk->operations->open(disk, "link", DISK_CREATE, &file), OK);
  disk_destroy(disk);
}

// ---- Opening

static enum status try_open(const char *path, bool create, bool lock, struct error *error)
{
  struct disk *disk = NULL;
  error->text[0] = '\0';
  enum status status = disk_posix_open(path, create, lock, &disk, error);
  if (status) assert_null(disk);
  disk_destroy(disk);
  return status;
}

static void makes_the_directory_if_asked(void **state)
{
  char path[256], below[280];
  struct error error;
  snprintf(path, sizeof path, "%s/new", (const char *)*state);
  snprintf(below, sizeof below, "%s/deeper", path);
  assert_int_equal(try_open(path, false, true, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "there is no such directory"));
  assert_int_equal(try_open(below, true, true, &error), ERR_NOT_FOUND);
  assert_non_null(strstr(error.text, "the directory above it does not exist"));
  assert_int_equal(try_open(path, true, true, &error), OK);
  assert_int_equal(try_open(path, true, true, &error), OK);
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0700);
  remove_tree(path);
}

static void refuses_what_is_not_a_directory(void **state)
{
  char path[256];
  struct error error;
  snprintf(path, sizeof path, "%s/file", (const char *)*state);
  int descriptor = open(path, O_CREAT | O_WRONLY, 0600);
  assert_true(descriptor >= 0);
  close(descriptor);
  assert_int_equal(try_open(path, false, true, &error), ERR_INVALID);
  assert_non_null(strstr(error.text, "not a directory"));
  assert_int_equal(try_open(path, true, true, &error), ERR_INVALID);
}

static void a_second_broker_is_refused(void **state)
{
  struct disk *first = open_disk(*state);
  struct error error;
  assert_int_equal(try_open(*state, false, true, &error), ERR_EXISTS);
  assert_non_null(strstr(error.text, "another broker"));
  char process[32];
  snprintf(process, sizeof process, "(process %ld)", (long)getpid());
  assert_non_null(strstr(error.text, process));
  // Readers need no lock.
  assert_int_equal(try_open(*state, false, false, &error), OK);
  disk_destroy(first);
  assert_int_equal(try_open(*state, false, true, &error), OK);
}

static void the_lock_ends_with_its_process(void **state)
{
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct disk *disk;
    struct error error;
    bool locked = disk_posix_open(*state, false, true, &disk, &error) == OK;
    if (write(ready[1], locked ? "y" : "n", 1) != 1) _exit(1);
    alarm(20);
    for (;;) pause();
  }
  char answer = 0;
  assert_int_equal(read(ready[0], &answer, 1), 1);
  assert_int_equal(answer, 'y');
  struct error error;
  assert_int_equal(try_open(*state, false, true, &error), ERR_EXISTS);
  char process[32];
  snprintf(process, sizeof process, "(process %ld)", (long)child);
  assert_non_null(strstr(error.text, process));
  assert_int_equal(kill(child, SIGKILL), 0);
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_int_equal(try_open(*state, false, true, &error), OK);
  close(ready[0]);
  close(ready[1]);
}

static void says_when_it_may_not_read_or_write(void **state)
{
  uid_t user = geteuid();
  if (user == 0) assert_int_equal(seteuid(65534), 0);  // root may everything
  struct error read_error, write_error;
  if (user != 0) assert_int_equal(chmod(*state, 0000), 0);
  enum status reading = try_open(*state, false, true, &read_error);
  assert_int_equal(seteuid(user), 0);
  assert_int_equal(chmod(*state, 0555), 0);
  if (user == 0) assert_int_equal(seteuid(65534), 0);
  enum status writing = try_open(*state, false, true, &write_error);
  assert_int_equal(seteuid(user), 0);
  assert_int_equal(chmod(*state, 0700), 0);
  assert_int_equal(reading, ERR_DENIED);
  assert_non_null(strstr(read_error.text, "cannot read it"));
  assert_int_equal(writing, ERR_DENIED);
  assert_non_null(strstr(write_error.text, "cannot write to it"));
}

static void a_file_that_may_not_grow_is_a_full_disk(void **state)
{
  struct disk *disk = open_disk(*state);
  struct disk_file *file;
  assert_int_equal(disk->operations->open(disk, "a", DISK_CREATE, &file), OK);
  struct rlimit before, limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  limit = before;
  limit.rlim_cur = 4096;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  enum status allocated = disk->operations->allocate(disk, file, 1 << 20);
  enum status written = disk->operations->write(disk, file, 8192, span_text("x"));
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  assert_int_equal(allocated, ERR_FULL);
  assert_int_equal(written, ERR_FULL);
  disk->operations->close(disk, file);
  disk_destroy(disk);
}

// ---- The log on it

static unsigned open_descriptors(void)
{
  unsigned count = 0;
  DIR *stream = opendir("/proc/self/fd");
  assert_non_null(stream);
  while (readdir(stream)) count++;
  closedir(stream);
  return count;
}

static void a_log_keeps_few_files_open(void **state)
{
  struct history history;
  history_init_on(&history, 1, open_disk(*state));
  unsigned before = open_descriptors();
  history_open(&history);
  uint64_t positions[1001] = {0};
  history.positions = positions;
  history_rounds(&history, 100, 10);
  assert_true(journal_log_segments(history.log) > 20);
  struct record_header header;
  struct span body;
  for (uint64_t i = 0; i < 3000; i++)
    assert_int_equal(journal_log_read(history.log, positions[1 + i * 377 % 1000], &header, &body), OK);
  assert_true(open_descriptors() <= before + 10);
  history_close(&history);
  assert_int_equal(open_descriptors(), before);
  history_open(&history);
  assert_int_equal(history.seen.count, 1000);
  assert_int_equal(history.seen.gaps + history.seen.damages + history.seen.torn, 0);
  history_close(&history);
  assert_int_equal(open_descriptors(), before);
  history_deinit(&history);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)
  const struct CMUnitTest tests[] = {
      TEST(writes_and_reads_files),
      TEST(names_change),
      TEST(does_not_follow_links_out),
      TEST(makes_the_directory_if_asked),
      TEST(refuses_what_is_not_a_directory),
      TEST(a_second_broker_is_refused),
      TEST(the_lock_ends_with_its_process),
      TEST(says_when_it_may_not_read_or_write),
      TEST(a_file_that_may_not_grow_is_a_full_disk),
      TEST(a_log_keeps_few_files_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
