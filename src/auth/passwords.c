// The password file. See passwords.h.
#include "auth/passwords.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>

#include "auth/password_hash.h"
#include "auth/password_line.h"
#include "auth/scram.h"
#include "base/references.h"
#include "base/wipe.h"
#include "tls/file.h"

struct entry {
  struct span user, groups;  // in the file's text, while it is parsed
  size_t line;
  int64_t until_ms;
  struct stored_password stored;
};

struct user {
  struct span name;
  const char **groups;  // NULL-terminated, one allocation with their texts and the name; NULL: none
  void *block;
  struct entry *entries;
  size_t count;
};

struct passwords {
  struct references references;
  struct entry *entries;  // by user, and then as in the file
  size_t entry_count, entry_capacity;
  struct user *users;  // by name
  size_t user_count;
  struct stored_password usual;  // of the kind and cost that most lines have; no password fits
  uint32_t scram_iterations;     // that most verifiers have
};

static enum status no_memory(struct error *error)
{
  return error_set(error, ERR_NO_MEMORY, "memory is short");
}

// ---- Lifetime

struct passwords *passwords_ref(struct passwords *passwords)
{
  if (passwords) references_take(&passwords->references);
  return passwords;
}

void passwords_unref(struct passwords *passwords)
{
  if (!passwords || !references_drop(&passwords->references)) return;
  for (size_t i = 0; i < passwords->user_count; i++) free(passwords->users[i].block);
  free(passwords->users);
  if (passwords->entries) sodium_memzero(passwords->entries, passwords->entry_capacity * sizeof *passwords->entries);
  free(passwords->entries);
  sodium_memzero(passwords, sizeof *passwords);
  free(passwords);
}

size_t passwords_users(const struct passwords *passwords)
{
  return passwords->user_count;
}

// ---- Lines

static int compare_names(struct span a, struct span b)
{
  size_t common = a.size < b.size ? a.size : b.size;
  int order = common > 0 ? memcmp(a.at, b.at, common) : 0;
  if (order != 0) return order;
  return a.size < b.size ? -1 : a.size > b.size;
}

static int compare_entries(const void *left, const void *right)
{
  const struct entry *a = left, *b = right;
  int order = compare_names(a->user, b->user);
  if (order != 0) return order;
  return a->line < b->line ? -1 : a->line > b->line;
}

// realloc would leave hashes behind in the memory that it gives back.
static bool grow(struct passwords *passwords)
{
  if (passwords->entry_count < passwords->entry_capacity) return true;
  size_t capacity = passwords->entry_capacity ? passwords->entry_capacity * 2 : 16;
  struct entry *entries = malloc(capacity * sizeof *entries);
  if (!entries) return false;
  size_t size = passwords->entry_count * sizeof *entries;
  if (size > 0) {
    memcpy(entries, passwords->entries, size);
    sodium_memzero(passwords->entries, size);
  }
  free(passwords->entries);
  passwords->entries = entries;
  passwords->entry_capacity = capacity;
  return true;
}

static enum status parse_line(struct passwords *passwords, struct span text, size_t number, struct error *error)
{
  struct password_line line;
  enum status status = password_line_parse(text, &line, error);
  if (status != OK || line.user.size == 0) return status;
  if (!grow(passwords)) return no_memory(error);
  struct entry *entry = &passwords->entries[passwords->entry_count];
  *entry = (struct entry){.user = line.user, .groups = line.groups, .line = number, .until_ms = line.until_ms};
  status = stored_password_parse(line.hash, &entry->stored, error);
  if (status == OK) passwords->entry_count++;
  return status;
}

static enum status parse_lines(struct passwords *passwords, struct span text, const char *name, struct error *error)
{
  struct span line;
  for (size_t number = 1; password_next_line(&text, &line); number++) {
    enum status status = parse_line(passwords, line, number, error);
    if (status != OK) return error_prefix(error, "%s:%zu", name, number);
  }
  return OK;
}

// ---- Users

static bool has_group(const struct user *user, size_t count, struct span group)
{
  for (size_t i = 0; i < count; i++)
    if (span_equal(span_text(user->groups[i]), group)) return true;
  return false;
}

static char *keep_text(char **end, struct span text)
{
  char *at = *end;
  memcpy(at, text.at, text.size);
  at[text.size] = '\0';
  *end = at + text.size + 1;
  return at;
}

// Name and groups of the user whose lines these are; a group is named once.
static bool keep_names(struct user *user)
{
  struct span name = user->entries[0].user, groups, group;
  size_t count = 0, size = name.size + 1;
  for (size_t i = 0; i < user->count; i++)
    for (groups = user->entries[i].groups; password_next_group(&groups, &group); count++) size += group.size + 1;

  const char **pointers = malloc((count + 1) * sizeof *pointers + size);
  if (!pointers) return false;
  user->block = (void *)pointers;
  user->groups = pointers;
  char *end = (char *)(void *)(pointers + count + 1);
  user->name = span_of(keep_text(&end, name), name.size);
  size_t kept = 0;
  for (size_t i = 0; i < user->count; i++)
    for (groups = user->entries[i].groups; password_next_group(&groups, &group);)
      if (!has_group(user, kept, group)) pointers[kept++] = keep_text(&end, group);
  pointers[kept] = NULL;
  if (kept == 0) user->groups = NULL;
  return true;
}

static enum status gather_users(struct passwords *passwords, const char *name, struct error *error)
{
  struct entry *entries = passwords->entries;
  size_t count = passwords->entry_count, users = 0;
  if (count > 0) qsort(entries, count, sizeof *entries, compare_entries);
  for (size_t i = 0; i < count; i++) users += i == 0 || !span_equal(entries[i].user, entries[i - 1].user);
  passwords->users = calloc(users + 1, sizeof *passwords->users);
  if (!passwords->users) return no_memory(error);
  for (size_t i = 0; i < count;) {
    struct user *user = &passwords->users[passwords->user_count++];
    user->entries = &entries[i];
    while (i < count && span_equal(entries[i].user, user->entries[0].user)) user->count++, i++;
    if (user->count > PASSWORDS_PER_USER)
      return error_set(error, ERR_INVALID,
                       "%s:%zu: the user has more than %d lines, and each costs a hash; \"skerry passwd\" sets one", name,
                       user->entries[PASSWORDS_PER_USER].line, PASSWORDS_PER_USER);
    if (!keep_names(user)) return no_memory(error);
  }
  // They point into the file's text, which is the caller's.
  for (size_t i = 0; i < count; i++) entries[i].user = entries[i].groups = (struct span){0};
  return OK;
}

static const struct user *find_user(const struct passwords *passwords, struct span name)
{
  size_t low = 0, high = passwords->user_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = compare_names(name, passwords->users[middle].name);
    if (order == 0) return &passwords->users[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

bool passwords_know(const struct passwords *passwords, struct span name)
{
  return find_user(passwords, name);
}

const char *const *passwords_groups(const struct passwords *passwords, struct span name)
{
  const struct user *user = find_user(passwords, name);
  return user ? user->groups : NULL;
}

// ---- What is usual

static int compare_costs(const void *left, const void *right)
{
  const struct stored_password *const *a = left, *const *b = right;
  return stored_password_compare_cost(*a, *b);
}

// The first of the longest run of equal costs. The array is sorted here.
static const struct stored_password *most_usual(const struct stored_password **all, size_t count, size_t *out_length)
{
  const struct stored_password *usual = NULL;
  *out_length = 0;
  if (count > 0) qsort(all, count, sizeof *all, compare_costs);
  for (size_t first = 0, i = 0; i < count; i++) {
    if (stored_password_compare_cost(all[first], all[i]) != 0) first = i;
    if (i - first + 1 <= *out_length) continue;
    *out_length = i - first + 1;
    usual = all[first];
  }
  return usual;
}

// What stands in for a user that is not in the file.
static enum status find_usual(struct passwords *passwords, struct error *error)
{
  static const char fallback[] =
      "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
  size_t length, count = passwords->entry_count, scram = 0;
  const struct stored_password **all = malloc((count + 1) * sizeof *all);
  if (!all) return no_memory(error);
  for (size_t i = 0; i < count; i++) all[i] = &passwords->entries[i].stored;
  const struct stored_password *usual = most_usual(all, count, &length);
  enum status status = OK;
  if (usual)
    passwords->usual = *usual;
  else
    status = stored_password_parse(span_text(fallback), &passwords->usual, error);
  stored_password_randomise(&passwords->usual);

  for (size_t i = 0; i < count; i++)
    if (passwords->entries[i].stored.kind == STORED_SCRAM_SHA256) all[scram++] = &passwords->entries[i].stored;
  usual = most_usual(all, scram, &length);
  passwords->scram_iterations = usual ? usual->iterations : SCRAM_ITERATIONS;
  free(all);
  return status;
}

// ---- Loading

enum status passwords_parse(struct span text, const char *name, struct passwords **out, struct error *error)
{
  if (sodium_init() < 0) return error_set(error, ERR_IO, "the system gives no random numbers");
  struct passwords *passwords = calloc(1, sizeof *passwords);
  if (!passwords) return no_memory(error);
  references_init(&passwords->references);
  enum status status = parse_lines(passwords, text, name, error);
  if (status == OK) status = gather_users(passwords, name, error);
  if (status == OK) status = find_usual(passwords, error);
  if (status == OK)
    *out = passwords;
  else
    passwords_unref(passwords);
  return status;
}

enum status passwords_load(const char *path, struct passwords **out, struct error *error)
{
  uint8_t *bytes = NULL;
  size_t size = 0;
  enum status status = file_read(path, "a password file", PASSWORDS_MAX_FILE_BYTES, &bytes, &size, error);
  if (status == OK) status = passwords_parse(span_of(bytes, size), path, out, error);
  wipe_and_free(bytes, size);
  return status;
}

// ---- Verifying

enum password_answer passwords_verify(const struct passwords *passwords, struct span name, struct span password,
                                      struct wall now)
{
  const struct user *user = find_user(passwords, name);
  size_t tried = 0;
  // The latest line first: after a rotation it is the one that most use.
  for (size_t i = user ? user->count : 0; i-- > 0;) {
    const struct entry *entry = &user->entries[i];
    if (entry->until_ms < now.ms) continue;
    tried++;
    switch (stored_password_verify(&entry->stored, password)) {
      case STORED_SAME: return PASSWORD_RIGHT;
      case STORED_DIFFERENT: break;
      case STORED_NO_MEMORY: return PASSWORD_FAILED;
    }
  }
  if (tried == 0 && stored_password_verify(&passwords->usual, password) == STORED_NO_MEMORY) return PASSWORD_FAILED;
  return user ? PASSWORD_WRONG : PASSWORD_UNKNOWN_USER;
}

// ---- SCRAM

static bool derive(struct span secret, const char *purpose, struct span user, uint8_t out[SCRAM_KEY_SIZE])
{
  uint8_t key[SCRAM_KEY_SIZE];
  unsigned size = sizeof key;
  assert(secret.size <= INT32_MAX);
  bool good = HMAC(EVP_sha256(), secret.at, (int)secret.size, (const uint8_t *)purpose, strlen(purpose), key, &size) &&
              HMAC(EVP_sha256(), key, sizeof key, user.at, user.size, out, &size);
  sodium_memzero(key, sizeof key);
  return good;
}

// Looks like the others and is the same at each try, so that asking twice does not tell that the user does not exist.
static void make_up(const struct passwords *passwords, struct span user, struct span secret, struct scram_verifier *out)
{
  uint8_t salt[SCRAM_KEY_SIZE];
  *out = (struct scram_verifier){.iterations = passwords->scram_iterations, .salt_size = 16};
  if (!derive(secret, "skerry: salt of a user that does not exist", user, salt)) randombytes_buf(salt, sizeof salt);
  memcpy(out->salt, salt, out->salt_size);
  randombytes_buf(out->stored_key, sizeof out->stored_key);
  randombytes_buf(out->server_key, sizeof out->server_key);
}

static void take_verifier(const struct stored_password *stored, struct scram_verifier *out)
{
  *out = (struct scram_verifier){.iterations = stored->iterations, .salt_size = stored->salt_size};
  memcpy(out->salt, stored->salt, stored->salt_size);
  memcpy(out->stored_key, stored->key, sizeof out->stored_key);
  memcpy(out->server_key, stored->server_key, sizeof out->server_key);
}

static bool holds_for_scram(const struct entry *entry, struct wall now)
{
  return entry->stored.kind == STORED_SCRAM_SHA256 && entry->until_ms >= now.ms;
}

static bool same_salt(const struct stored_password *a, const struct stored_password *b)
{
  return a->iterations == b->iterations && span_equal(span_of(a->salt, a->salt_size), span_of(b->salt, b->salt_size));
}

size_t passwords_scram(const struct passwords *passwords, struct span name, struct span secret, struct wall now,
                       struct scram_verifier out[PASSWORDS_PER_USER])
{
  const struct user *user = find_user(passwords, name);
  const struct entry *latest = NULL;
  size_t count = 0;
  for (size_t i = 0; user && i < user->count; i++) {
    const struct entry *entry = &user->entries[i];
    if (holds_for_scram(entry, now) && (!latest || entry->until_ms >= latest->until_ms)) latest = entry;
  }
  make_up(passwords, name, secret, &out[0]);
  for (size_t i = 0; latest && i < user->count; i++) {
    const struct entry *entry = &user->entries[i];
    if (holds_for_scram(entry, now) && same_salt(&entry->stored, &latest->stored))
      take_verifier(&entry->stored, &out[count++]);
  }
  return count;
}
