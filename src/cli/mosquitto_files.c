#include "cli/mosquitto_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/acl_file.h"
#include "auth/password_line.h"
#include "auth/passwords.h"

enum { MAX_INCLUDED = 1000, MAX_NAMED_FILE = 64 << 20, PSK_DIGITS_MIN = 32, PSK_DIGITS_MAX = 128, PSK_NAME_MAX = 128 };

// ---- Reading

// The whole file. ERR_LIMIT: it is larger than that.
static enum status read_all(const char *path, size_t limit, struct buffer *out, struct error *error)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return error_set(error, status_from_errno(errno), "cannot be read: %s", strerror(errno));
  enum status status = OK;
  for (;;) {
    uint8_t *at = buffer_reserve(out, 1 << 16);
    ssize_t got = at ? read(fd, at, 1 << 16) : -1;
    if (!at) status = error_set(error, ERR_NO_MEMORY, "memory is short");
    if (at && got < 0 && errno == EINTR) continue;
    if (at && got < 0) status = error_set(error, status_from_errno(errno), "cannot be read: %s", strerror(errno));
    if (got <= 0) break;
    buffer_commit(out, (size_t)got);
    if (buffer_size(out) <= limit) continue;
    status = error_set(error, ERR_LIMIT, "is larger than %zu bytes", limit);
    break;
  }
  close(fd);
  return status;
}

static bool read_conf(struct mosquitto_conf *conf, const char *path, const struct mosquitto_line *line, struct buffer *out)
{
  struct error error;
  if (read_all(path, MOSQUITTO_MAX_FILE, out, &error) == OK) return true;
  if (line)
    mosquitto_find(conf, MOSQUITTO_ERROR, line, "%s: %s", path, error.text);
  else
    mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s: %s", path, error.text);
  return false;
}

static void read_included(struct mosquitto_conf *conf, const char *path, const struct mosquitto_line *line)
{
  struct buffer text = {0};
  const char *name = mosquitto_conf_file(conf, path);
  if (name && read_conf(conf, path, line, &text)) {
    struct span rest = buffer_peek(&text);
    unsigned number = 0;
    mosquitto_conf_read(conf, name, &rest, &number, NULL);
  }
  buffer_deinit(&text);
}

static int is_conf(const struct dirent *entry)
{
  size_t size = strlen(entry->d_name);
  return size > 5 && strcmp(entry->d_name + size - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
  return mosquitto_compare_names((*a)->d_name, (*b)->d_name);
}

static void include(struct mosquitto_conf *conf, struct mosquitto_line line, const struct mosquitto_place *place)
{
  char *directory = mosquitto_path(place, line.value);
  struct dirent **entries = NULL;
  int count = directory ? scandir(directory, &entries, is_conf, by_name) : -1;
  if (!directory)
    conf->short_of_memory = true;
  else if (count < 0)
    mosquitto_find(conf, MOSQUITTO_ERROR, &line, "%s: cannot be read: %s", directory, strerror(errno));
  else if (count > MAX_INCLUDED)
    mosquitto_find(conf, MOSQUITTO_ERROR, &line, "%s: has more than %d files", directory, MAX_INCLUDED);
  for (int i = 0; i < count; i++) {
    char *path = NULL;
    size_t size = strlen(directory);
    const char *slash = size > 0 && directory[size - 1] == '/' ? "" : "/";
    if (asprintf(&path, "%s%s%s", directory, slash, entries[i]->d_name) < 0) {
      conf->short_of_memory = true;
    } else {
      if (count <= MAX_INCLUDED) read_included(conf, path, &line);
      free(path);
    }
    free(entries[i]);
  }
  free(entries);
  free(directory);
}

void mosquitto_read_files(struct mosquitto_conf *conf, const char *path, const struct mosquitto_place *place)
{
  struct buffer text = {0};
  const char *name = mosquitto_conf_file(conf, path);
  if (name && read_conf(conf, path, NULL, &text)) {
    struct span rest = buffer_peek(&text);
    unsigned number = 0;
    size_t at;
    do {
      mosquitto_conf_read(conf, name, &rest, &number, &at);
      // A copy: lines move when more come.
      if (at != SIZE_MAX && conf->lines[at].value[0]) include(conf, conf->lines[at], place);
    } while (at != SIZE_MAX && !conf->short_of_memory);
  }
  buffer_deinit(&text);
}

// ---- Checking

// Mosquitto leaves plain text to mosquitto_passwd -U. What else is wrong says passwords_parse.
static bool check_plain_text(struct mosquitto_conf *conf, const struct mosquitto_file *file, struct span text)
{
  struct span line;
  bool good = true;
  for (size_t number = 1; password_next_line(&text, &line); number++) {
    const uint8_t *colon = line.size > 0 && line.at[0] != '#' ? memchr(line.at, ':', line.size) : NULL;
    struct span hash = colon ? span_from(line, (size_t)(colon - line.at) + 1) : (struct span){0};
    if (!colon || (hash.size > 0 && hash.at[0] == '$')) continue;
    good = false;
    mosquitto_find(
        conf, MOSQUITTO_ERROR, NULL,
        "%s:%zu: the password of %.*s is plain text; hash the file with \"mosquitto_passwd -U\", or set it with \"skerry "
        "passwd\"",
        file->path, number, (int)(colon - line.at < 64 ? colon - line.at : 64), (const char *)line.at);
  }
  return good;
}

struct user_line {
  struct span user;
  size_t number;
};

static int compare_user_lines(const void *left, const void *right)
{
  const struct user_line *a = left, *b = right;
  size_t common = a->user.size < b->user.size ? a->user.size : b->user.size;
  int order = memcmp(a->user.at, b->user.at, common);
  if (order != 0) return order;
  if (a->user.size != b->user.size) return a->user.size < b->user.size ? -1 : 1;
  return a->number < b->number ? -1 : 1;
}

// Of several lines for one user Mosquitto takes one; here the password of each is right. `text` is a password file that is
// in order.
static void check_users_once(struct mosquitto_conf *conf, const struct mosquitto_file *file, struct span text)
{
  struct password_line parsed;
  struct span line;
  size_t lines = 0, count = 0;
  for (struct span rest = text; password_next_line(&rest, &line);) lines++;
  struct user_line *users = calloc(lines + 1, sizeof *users);
  if (!users) {
    conf->short_of_memory = true;
    return;
  }
  for (size_t number = 1; password_next_line(&text, &line); number++)
    if (password_line_parse(line, &parsed, NULL) == OK && parsed.user.size > 0)
      users[count++] = (struct user_line){.user = parsed.user, .number = number};
  qsort(users, count, sizeof *users, compare_user_lines);
  for (size_t i = 1; i < count; i++)
    if (span_equal(users[i - 1].user, users[i].user))
      mosquitto_find(
          conf, MOSQUITTO_ERROR, NULL,
          "%s:%zu: %.*s is in line %zu too; Mosquitto takes one of their passwords, and here both would be right: "
          "remove one",
          file->path, users[i].number, (int)(users[i].user.size < 64 ? users[i].user.size : 64),
          (const char *)users[i].user.at, users[i - 1].number);
  free(users);
}

static void check_passwords(struct mosquitto_conf *conf, const struct mosquitto_plan *plan,
                            const struct mosquitto_file *file, struct span text)
{
  (void)plan;
  struct passwords *passwords = NULL;
  struct error error;
  if (!check_plain_text(conf, file, text)) return;
  if (passwords_parse(text, file->path, &passwords, &error) == OK)
    check_users_once(conf, file, text);
  else
    mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s", error.text);
  passwords_unref(passwords);
}

// A listener where nobody shows who he is, so that the user names in CONNECT are only said.
static bool has_unchecked_names(const struct mosquitto_plan *plan)
{
  for (size_t i = 0; i < plan->door_count; i++)
    if (plan->doors[i].auth == MOSQUITTO_AUTH_NONE) return true;
  return false;
}

static bool is_about_users(struct span text)
{
  struct span line;
  while (password_next_line(&text, &line)) {
    while (line.size > 0 && line.at[0] == ' ') line = span_from(line, 1);
    bool user = line.size > 5 && memcmp(line.at, "user ", 5) == 0;
    bool pattern = line.size > 8 && memcmp(line.at, "pattern ", 8) == 0;
    if (user || (pattern && memmem(line.at, line.size, "%u", 2))) return true;
  }
  return false;
}

static void check_acl(struct mosquitto_conf *conf, const struct mosquitto_plan *plan, const struct mosquitto_file *file,
                      struct span text)
{
  struct acl *acl = NULL;
  char **problems;
  size_t count;
  enum status status = acl_file_parse(text, file->path, &acl, &problems, &count);
  for (size_t i = 0; i < count; i++) {
    mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s", problems[i]);
    free(problems[i]);
  }
  free(problems);
  if (has_unchecked_names(plan) && is_about_users(text))
    mosquitto_find(
        conf, MOSQUITTO_LOST, file->line,
        "has rules for users, and there is a listener without password_file or certificates; a user name that nobody "
        "has checked is not believed here, so that these rules are not for clients of that listener");
  if (status == OK)
    acl_unref(acl);
  else if (count == 0)
    mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s: %s", file->path, status_name(status));
}

// The lines as tls/psk.h wants them; the key is never shown.
static void check_psk(struct mosquitto_conf *conf, const struct mosquitto_plan *plan, const struct mosquitto_file *file,
                      struct span text)
{
  (void)plan;
  struct span line;
  for (size_t number = 1; password_next_line(&text, &line); number++) {
    while (line.size > 0 && strchr(" \t", line.at[line.size - 1])) line.size--;
    if (line.size == 0 || line.at[0] == '#') continue;
    const uint8_t *colon = memrchr(line.at, ':', line.size);
    struct span key = colon ? span_from(line, (size_t)(colon - line.at) + 1) : (struct span){0};
    bool two_colons = colon && memchr(line.at, ':', line.size) != colon;
    size_t digits = 0;
    while (digits < key.size && key.at[digits] && strchr("0123456789abcdefABCDEF", key.at[digits])) digits++;
    const char *wrong = !colon || colon == line.at       ? "is not \"identity:key\""
                        : two_colons                     ? "has two colons, and for Mosquitto the identity ends at the first"
                        : colon - line.at > PSK_NAME_MAX ? "has an identity of more than 128 bytes"
                        : digits < key.size || digits % 2 ? "has a key that is not of pairs of hexadecimal digits"
                        : digits < PSK_DIGITS_MIN
                            ? "has a key of less than 16 bytes, which can be guessed; make a longer one"
                        : digits > PSK_DIGITS_MAX ? "has a key of more than 64 bytes"
                                                  : NULL;
    if (wrong) mosquitto_find(conf, MOSQUITTO_ERROR, NULL, "%s:%zu: %s", file->path, number, wrong);
  }
}

void mosquitto_check_files(struct mosquitto_conf *conf, const struct mosquitto_plan *plan)
{
  static void (*const checks[])(struct mosquitto_conf * conf, const struct mosquitto_plan *plan,
                                const struct mosquitto_file *file,
                                struct span text) = {check_passwords, check_acl, check_psk};
  for (size_t i = 0; i < plan->file_count; i++) {
    const struct mosquitto_file *file = &plan->files[i];
    struct buffer text = {0};
    struct error error;
    if (read_all(file->path, MAX_NAMED_FILE, &text, &error) == OK)
      checks[file->kind](conf, plan, file, buffer_peek(&text));
    else
      mosquitto_find(conf, MOSQUITTO_ERROR, file->line, "%s: %s", file->path, error.text);
    buffer_wipe(&text);
  }
}

// ---- Writing

static enum status write_all(int fd, struct span text)
{
  while (text.size > 0) {
    ssize_t done = write(fd, text.at, text.size);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return ERR_IO;
    text = span_from(text, (size_t)done);
  }
  return fsync(fd) < 0 && errno != EINVAL ? ERR_IO : OK;
}

// Whose a file becomes, and who may read it.
struct access {
  bool change_owner;
  uid_t uid;
  gid_t gid;
  mode_t mode;
};

static enum status make_file(int directory, const char *name, struct span text, const struct access *access,
                             struct error *error)
{
  int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST)
    return error_set(error, ERR_EXISTS, "%s: exists already, and is not overwritten; remove it, or name another place",
                     name);
  if (fd < 0) return error_set(error, status_from_errno(errno), "%s: cannot be made: %s", name, strerror(errno));
  enum status status = OK;
  if (access->change_owner && fchown(fd, access->uid, access->gid) < 0) status = ERR_IO;
  if (status == OK && fchmod(fd, access->mode) < 0) status = ERR_IO;
  if (status == OK) status = write_all(fd, text);
  int number = errno;
  if (close(fd) < 0 && status == OK) {
    status = ERR_IO;
    number = errno;
  }
  if (status == OK) return OK;
  unlinkat(directory, name, 0);
  return error_set(error, status_from_errno(number), "%s: cannot be written: %s", name, strerror(number));
}

// There are no secrets in a configuration of ours, only the names of files that have some.
static const struct access configuration_access = {.mode = 0644};

enum status mosquitto_write_file(const char *path, struct span text, struct error *error)
{
  return make_file(AT_FDCWD, path, text, &configuration_access, error);
}

// The broker reads its files as the user that it becomes; otherwise who may read the original may read the copy, but
// secrets not everybody.
static struct access access_of(const struct mosquitto_plan *plan, const struct mosquitto_file *file, const struct stat *like)
{
  const struct mosquitto_setting *given = &plan->settings->user;
  const char *name = given->line ? given->line->value : plan->place->default_user;
  const struct passwd *user = name && geteuid() == 0 ? getpwnam(name) : NULL;
  mode_t shared = file->kind == MOSQUITTO_ACL ? 0664 : 0660;
  struct access access = {.change_owner = geteuid() == 0, .uid = like->st_uid, .gid = like->st_gid};
  access.mode = (like->st_mode & shared) | 0600;
  if (!user || user->pw_uid == 0) return access;
  access.uid = user->pw_uid;
  access.gid = user->pw_gid;
  return access;
}

static enum status copy_file(int directory, const struct mosquitto_plan *plan, const struct mosquitto_file *file,
                             struct error *error)
{
  struct buffer text = {0};
  struct stat info;
  enum status status = read_all(file->path, MAX_NAMED_FILE, &text, error);
  if (status == OK && stat(file->path, &info) < 0)
    status = error_set(error, status_from_errno(errno), "%s", strerror(errno));
  if (status != OK) {
    error_prefix(error, "%s", file->path);
  } else {
    const struct access access = access_of(plan, file, &info);
    status = make_file(directory, file->written, buffer_peek(&text), &access, error);
  }
  buffer_wipe(&text);
  return status;
}

enum status mosquitto_write_directory(const char *directory, const struct mosquitto_plan *plan, struct span text,
                                      struct error *error)
{
  bool made = mkdir(directory, 0755) == 0;
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return error_set(error, status_from_errno(errno), "%s: %s", directory, strerror(errno));
  size_t copied = 0;
  enum status status = OK;
  while (status == OK && copied < plan->file_count) {
    status = copy_file(fd, plan, &plan->files[copied], error);
    if (status == OK) copied++;
  }
  if (status == OK) status = make_file(fd, "skerry.yaml", text, &configuration_access, error);
  if (status != OK) {
    for (size_t i = 0; i < copied; i++) unlinkat(fd, plan->files[i].written, 0);
    if (made) (void)rmdir(directory);
    error_prefix(error, "%s", directory);
  }
  close(fd);
  return status;
}
