// A password file. What is refused says where; of what is accepted each hash is written as it was read, each user is found,
// and `skerry passwd` can change it so that the other users' lines stay and the result is accepted again.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "auth/password_hash.h"
#include "auth/password_line.h"
#include "auth/passwords.h"
#include "cli/passwd_edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHEAP_KIB = 64, CHEAP_ITERATIONS = 4 };

static const char new_hash[] =
    "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY";
static const struct wall now = {.ms = 1800000000000};

static void check(bool condition)
{
  if (!condition) abort();
}

static void check_hash(struct span hash)
{
  struct stored_password stored, again;
  check(stored_password_parse(hash, &stored, NULL) == OK);
  char *text = stored_password_format(&stored);
  check(text != NULL);
  check(span_equal(span_text(text), hash));
  check(stored_password_parse(span_text(text), &again, NULL) == OK);
  check(stored_password_compare_cost(&stored, &again) == 0);
  free(text);
  stored_password_randomise(&again);
  if (stored.memory_kib <= CHEAP_KIB && stored.iterations <= CHEAP_ITERATIONS)
    check(stored_password_verify(&again, span_text("x")) == STORED_DIFFERENT);
}

static void check_line(const struct passwords *passwords, const struct password_line *line)
{
  struct scram_verifier verifiers[PASSWORDS_PER_USER];
  struct span groups = line->groups, group;
  check_hash(line->hash);
  const char *const *found = passwords_groups(passwords, line->user);
  check((line->groups.size == 0) || found != NULL);
  while (password_next_group(&groups, &group)) {
    size_t i = 0;
    while (found[i] && !span_equal(span_text(found[i]), group)) i++;
    check(found[i] != NULL);
  }
  size_t count = passwords_scram(passwords, line->user, span_text("secret"), now, verifiers);
  check(count <= PASSWORDS_PER_USER);
  for (size_t i = 0; i < (count > 0 ? count : 1); i++) {
    check(verifiers[i].iterations == verifiers[0].iterations);
    check(
        span_equal(span_of(verifiers[i].salt, verifiers[i].salt_size), span_of(verifiers[0].salt, verifiers[0].salt_size)));
  }
}

static void check_same(const struct password_line *a, const struct password_line *b)
{
  check(span_equal(a->user, b->user));
  check(span_equal(a->hash, b->hash));
  check(a->until_ms == b->until_ms);
  check(span_equal(a->groups, b->groups));
}

// What is written is read as what it was.
static void check_written(const struct password_line *line)
{
  struct password_line again;
  struct span text, rest;
  struct buffer out = {0};
  check(password_line_append(line, &out) == OK);
  rest = buffer_peek(&out);
  check(password_next_line(&rest, &text));
  check(rest.size == 0);
  check(password_line_parse(text, &again, NULL) == OK);
  check_same(line, &again);
  buffer_deinit(&out);
}

static bool is_other(struct span line, struct span user)
{
  struct password_line parsed;
  check(password_line_parse(line, &parsed, NULL) == OK);
  return parsed.user.size == 0 || !span_equal(parsed.user, user);
}

// Lines of others are the same in both, in the same order.
static void check_others(struct span before, struct span after, struct span user)
{
  struct span a, b;
  for (;;) {
    bool more_a, more_b;
    while ((more_a = password_next_line(&before, &a)) && !is_other(a, user)) continue;
    while ((more_b = password_next_line(&after, &b)) && !is_other(b, user)) continue;
    check(more_a == more_b);
    if (!more_a) return;
    check(span_equal(a, b));
  }
}

static bool same_groups(const char *const *a, const char *const *b)
{
  size_t i = 0;
  for (; a && b && a[i] && b[i]; i++)
    if (strcmp(a[i], b[i]) != 0) return false;
  return !(a && a[i]) && !(b && b[i]);
}

// Nobody else is there, or in another group, than before.
static void check_users(const struct passwords *before, const struct passwords *after, struct span text, struct span user,
                        enum passwd_action action)
{
  bool is_there = action != PASSWD_DELETE && (action != PASSWD_REGROUP || passwords_know(before, user));
  check(action == PASSWD_ROTATE || passwords_know(after, user) == is_there);
  check(passwords_users(after) - passwords_know(after, user) == passwords_users(before) - passwords_know(before, user));
  for (struct span line; password_next_line(&text, &line);) {
    struct password_line parsed;
    check(password_line_parse(line, &parsed, NULL) == OK);
    if (parsed.user.size == 0) continue;
    bool changed = span_equal(parsed.user, user) && (action == PASSWD_DELETE || action == PASSWD_REGROUP);
    check(changed || passwords_know(after, parsed.user));
    check(changed || same_groups(passwords_groups(before, parsed.user), passwords_groups(after, parsed.user)));
  }
}

static void check_edit(const struct passwords *before, struct span text, struct span user, enum passwd_action action)
{
  const struct passwd_change change = {.action = action,
                                       .user = user,
                                       .hash = span_text(new_hash),
                                       .until_ms = INT64_MAX,
                                       .has_groups = action == PASSWD_REGROUP,
                                       .groups = span_text("a,b"),
                                       .now_ms = now.ms,
                                       .keep_until_ms = now.ms + 1000};
  struct buffer out = {0};
  struct passwords *passwords = NULL;
  check(passwd_edit(text, &change, &out) == OK);
  enum status status = passwords_parse(buffer_peek(&out), "edited", &passwords, NULL);
  size_t lines = passwd_look(buffer_peek(&out), user, now.ms).count;
  check(status == OK || (action == PASSWD_ROTATE && lines > PASSWORDS_PER_USER));
  if (action == PASSWD_SET) check(lines == 1);
  if (action == PASSWD_DELETE) check(lines == 0);
  check_others(text, buffer_peek(&out), user);
  if (status == OK) check_users(before, passwords, text, user, action);
  passwords_unref(passwords);
  buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct span text = span_of(data, size), first = {0}, line;
  struct passwords *passwords = NULL;
  struct error error = {0};
  if (passwords_parse(text, "fuzz", &passwords, &error) != OK) {
    check(strncmp(error.text, "fuzz:", 5) == 0);
    return 0;
  }
  for (struct span rest = text; password_next_line(&rest, &line);) {
    struct password_line parsed;
    check(password_line_parse(line, &parsed, NULL) == OK);
    if (parsed.user.size == 0) continue;
    check_line(passwords, &parsed);
    check_written(&parsed);
    if (!first.at) first = parsed.user;
  }
  check((passwords_users(passwords) > 0) == (first.at != NULL));
  for (int action = PASSWD_SET; action <= PASSWD_REGROUP; action++)
    check_edit(passwords, text, first.at ? first : span_text("ann"), (enum passwd_action)action);
  struct buffer table = {0};
  check(passwd_list(text, now.ms, &table) == OK);
  buffer_deinit(&table);
  passwords_unref(passwords);
  return 0;
}
