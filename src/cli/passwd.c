// `skerry passwd`: adds, deletes, lists, verifies and rotates the passwords of a password file.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth/password_line.h"
#include "auth/passwords.h"
#include "auth/saslprep.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/passwd_edit.h"
#include "cli/passwd_file.h"
#include "cli/passwd_prompt.h"
#include "cli/signals.h"

enum { DAY_MS = 86400000, DEFAULT_KEEP_MS = 30L * DAY_MS, LONGEST_KEEP_MS = 3650L * DAY_MS };

struct passwd_options {
  bool remove, list, verify, rotate, regroup, scram;
  uint64_t keep_ms;  // 0: not given
  int64_t until_ms;
  bool has_groups;
  struct buffer groups;  // "a,b"
};

// One run: what was asked for, and what it is about.
struct passwd {
  struct passwd_options *options;
  const char *path;
  struct span user;
  int64_t now_ms;
  int signals;
};

#define FIELD(name) offsetof(struct passwd_options, name)
#define complain(...) option_complain("passwd", __VA_ARGS__)

// ---- Options

static enum status add_groups(void *target, struct option_words *words, struct error *error)
{
  struct passwd_options *options = target;
  const char *word = option_word(words);
  options->has_groups = true;
  if (!*word) return OK;  // in no group
  struct span names = span_text(word), name;
  enum status status = OK;
  while (status == OK && password_next_group(&names, &name)) {
    status = password_group_check(name, error);
    if (status == OK && buffer_size(&options->groups) > 0) status = buffer_append(&options->groups, ",", 1);
    if (status == OK) status = buffer_append(&options->groups, name.at, name.size);
  }
  return status;
}

static enum status set_until(void *target, struct option_words *words, struct error *error)
{
  struct passwd_options *options = target;
  const char *word = option_word(words);
  if (password_until_parse(span_text(word), &options->until_ms)) return OK;
  return error_set(error, ERR_INVALID, "needs a time in UTC, written like 2026-12-31T23:59:59Z");
}

static const struct option rows[] = {
    {0, "rotate", NULL,
     "Add a new password and let those before end after --keep: until then both are right, so that clients can be changed "
     "one "
     "after the other.",
     OPTION_FLAG, FIELD(rotate), 0, 0, NULL},
    {0, "keep", "TIME", "With --rotate: how long the old password stays right, 12h or 30d. Default: 30d.", OPTION_DURATION,
     FIELD(keep_ms), 1000, LONGEST_KEEP_MS, NULL},
    {0, "scram", NULL,
     "Keep a SCRAM-SHA-256 verifier instead of an argon2id hash: for clients with MQTT 5 that log in without sending the "
     "password. Plain passwords are checked against it as well.",
     OPTION_FLAG, FIELD(scram), 0, 0, NULL},
    {0, "group", "NAME", "Put the user into this group, or groups a,b; may be repeated. \"\" is no group.", OPTION_APPLY, 0,
     0, 0, add_groups},
    {0, "until", "TIME", "When the new password ends: 2026-12-31T23:59:59Z.", OPTION_APPLY, 0, 0, 0, set_until},
    {0, "regroup", NULL, "Change the groups only, to those of --group; no password is asked for.", OPTION_FLAG,
     FIELD(regroup), 0, 0, NULL},
    {0, "verify", NULL, "Ask for the password and say whether it is right.", OPTION_FLAG, FIELD(verify), 0, 0, NULL},
    {0, "delete", NULL, "Remove the user.", OPTION_FLAG, FIELD(remove), 0, 0, NULL},
    {0, "list", NULL, "Show the users, the kinds of their passwords, when these end, and groups.", OPTION_FLAG, FIELD(list),
     0, 0, NULL},
};

static const char notes[] =
    "Without one of --rotate, --regroup, --verify, --delete and --list, the user is added, or given another password in "
    "the\n"
    "place of all that it has. A file that does not exist is made. Lines of mosquitto_passwd stay as they are and stay "
    "right.\n"
    "\n"
    "The password is asked for twice on a terminal; otherwise it is the first line of standard input.\n"
    "A running broker takes the change with \"skerry ctl reload\", or by itself when it sees the file change.\n"
    "\n"
    "  skerry passwd /etc/skerry/passwd.txt ann --group operators\n"
    "  skerry passwd --rotate --keep 30d /etc/skerry/passwd.txt press-4 < new-password\n"
    "  skerry passwd --list /etc/skerry/passwd.txt";

static const char usage[] = "[--scram] [--group NAME]... [--until TIME] FILE USER\n"
                            "--rotate [--keep TIME] [--scram] [--until TIME] FILE USER\n"
                            "--regroup [--group NAME]... FILE USER\n"
                            "--verify FILE USER\n"
                            "--delete FILE USER\n"
                            "--list FILE";

// Options that say nothing together. NULL: all is well.
static const char *contradiction(const struct passwd_options *options)
{
  int actions = options->remove + options->list + options->verify + options->rotate + options->regroup;
  bool makes = actions == 0 || options->rotate;
  if (actions > 1) return "one of --rotate, --regroup, --verify, --delete and --list at a time";
  if (options->keep_ms > 0 && !options->rotate) return "--keep goes with --rotate";
  if (options->scram && !makes) return "--scram goes with a new password";
  if (options->until_ms != INT64_MAX && !makes) return "--until goes with a new password";
  if (options->has_groups && !makes && !options->regroup) return "--group goes with a new password, or with --regroup";
  if (options->regroup && !options->has_groups) return "--regroup needs --group NAME; --group \"\" for none";
  return NULL;
}

// ---- Steps

// What a failure exits with: what is wrong in a file or a name is for people to put right.
static int report(const struct error *error)
{
  complain("%s", error->text);
  return error->status == ERR_INVALID ? COMMAND_USAGE : COMMAND_FAILED;
}

static int no_such_user(const struct passwd *passwd)
{
  complain("%s: there is no user \"%.*s\"; \"skerry passwd --list\" shows who there is", passwd->path,
           (int)passwd->user.size, (const char *)passwd->user.at);
  return COMMAND_FAILED;
}

// A file that the broker would refuse is not touched.
static enum status check_text(const struct passwd *passwd, struct span text, struct passwords **out, struct error *error)
{
  struct passwords *passwords = NULL;
  enum status status = passwords_parse(text, passwd->path, &passwords, error);
  if (status != OK) return status;
  if (out)
    *out = passwords;
  else
    passwords_unref(passwords);
  return OK;
}

static enum status open_checked(const struct passwd *passwd, struct passwd_file *file, struct error *error)
{
  enum status status = passwd_file_open(file, passwd->path, error);
  if (status == OK) status = check_text(passwd, buffer_peek(&file->text), NULL, error);
  return status;
}

// Before anybody types in vain: the file is there and in order, and has the user if it has to.
static int check_before(const struct passwd *passwd, bool needs_user)
{
  struct passwd_file file = {0};
  struct error error = {0};
  int code = -1;
  if (open_checked(passwd, &file, &error) != OK)
    code = report(&error);
  else if (needs_user && passwd_look(buffer_peek(&file.text), passwd->user, passwd->now_ms).count == 0)
    code = no_such_user(passwd);
  passwd_file_close(&file);
  return code;
}

static int prompt(const struct passwd *passwd, const char *first, const char *again, struct passwd_entry *out)
{
  struct error error = {0};
  if (passwd_prompt(first, again, passwd->signals, out, &error) == OK) return -1;
  complain("%s", error.text);
  return COMMAND_FAILED;
}

// SCRAM compares prepared names: another one would never be found.
static bool scram_takes(struct span user)
{
  uint8_t *prepared = malloc(user.size);
  size_t size = 0;
  bool same = prepared && saslprep(user, prepared, &size) && span_equal(user, span_of(prepared, size));
  free(prepared);
  return same;
}

// ---- Commands

static int list(const struct passwd *passwd)
{
  struct passwd_file file = {0};
  struct buffer table = {0};
  struct error error = {0};
  enum status status = open_checked(passwd, &file, &error);
  if (status == OK && !file.exists) status = error_set(&error, ERR_NOT_FOUND, "%s: does not exist", passwd->path);
  if (status == OK && passwd_list(buffer_peek(&file.text), passwd->now_ms, &table) != OK)
    status = error_set(&error, ERR_NO_MEMORY, "memory is short");
  struct span text = buffer_peek(&table);
  if (status == OK && (fwrite(text.at, 1, text.size, stdout) != text.size || fflush(stdout) != 0))
    status = error_set(&error, ERR_IO, "standard output cannot be written: %s", strerror(errno));
  buffer_deinit(&table);
  passwd_file_close(&file);
  return status == OK ? COMMAND_OK : report(&error);
}

static int say_answer(const struct passwd *passwd, enum password_answer answer)
{
  switch (answer) {
    case PASSWORD_RIGHT: printf("%s: the password is right\n", passwd->path); return COMMAND_OK;
    case PASSWORD_WRONG: complain("%s: the password is wrong", passwd->path); return COMMAND_FAILED;
    case PASSWORD_UNKNOWN_USER: return no_such_user(passwd);
    case PASSWORD_FAILED: complain("memory is short"); return COMMAND_FAILED;
  }
  assert(false && "no such answer");
  return COMMAND_FAILED;
}

static int verify(const struct passwd *passwd)
{
  struct passwords *passwords = NULL;
  struct passwd_entry entry;
  struct error error = {0};
  if (passwords_load(passwd->path, &passwords, &error) != OK) return report(&error);
  int code = prompt(passwd, "Password: ", NULL, &entry);
  if (code < 0)
    code = say_answer(passwd,
                      passwords_verify(passwords, passwd->user, passwd_entry_span(&entry), (struct wall){passwd->now_ms}));
  passwd_entry_wipe(&entry);
  passwords_unref(passwords);
  return code;
}

// Makes the new text, looks at it as the broker will, and writes it.
static enum status apply(const struct passwd *passwd, const struct passwd_file *file, const struct passwd_change *change,
                         struct error *error)
{
  struct buffer text = {0};
  enum status status = passwd_edit(buffer_peek(&file->text), change, &text);
  if (status != OK) status = error_set(error, status, "memory is short");
  if (status == OK) status = check_text(passwd, buffer_peek(&text), NULL, error);
  if (status == OK) status = passwd_file_write(file, buffer_peek(&text), error);
  buffer_wipe(&text);
  return status;
}

static void say_changed(const struct passwd *passwd, const struct passwd_file *file, const struct passwd_change *change,
                        size_t lines_before)
{
  int size = (int)passwd->user.size;
  const char *user = (const char *)passwd->user.at;
  char end[PASSWORD_UNTIL_TEXT];
  password_until_format(change->keep_until_ms, end);
  printf("%s: ", passwd->path);
  switch (change->action) {
    case PASSWD_SET:
      printf("%s%.*s %s", file->exists ? "" : "made; ", size, user, lines_before > 0 ? "has a new password" : "added");
      break;
    case PASSWD_ROTATE: printf("%.*s has a new password; the old one is right until %s", size, user, end); break;
    case PASSWD_DELETE: printf("%.*s deleted", size, user); break;
    case PASSWD_REGROUP: printf("%.*s has other groups", size, user); break;
  }
  bool scram = span_equal(password_hash_kind(change->hash), span_text("scram-sha-256"));
  printf("%s\n", !scram ? "" : passwd->options->scram ? " (SCRAM-SHA-256)" : " (SCRAM-SHA-256, as before)");
}

// Hashes a new password. Who has a SCRAM verifier keeps one, or its clients could not log in any more.
static enum status make_hash(const struct passwd *passwd, const struct passwd_lines *lines, const struct passwd_entry *entry,
                             char **out, struct error *error)
{
  bool scram = passwd->options->scram || lines->scram.size > 0;
  if (scram && !scram_takes(passwd->user))
    return error_set(error, ERR_INVALID, "the user name has characters in it that SCRAM does not allow, or maps to others");
  // Two verifiers can be right at a time only with one salt.
  struct span like = passwd->options->rotate ? lines->scram : (struct span){0};
  return password_hash(scram ? PASSWORD_SCRAM : PASSWORD_ARGON2ID, passwd_entry_span(entry), like, out, error);
}

// `entry` is NULL when the change needs no password.
static int change_file(const struct passwd *passwd, struct passwd_change *change, const struct passwd_entry *entry)
{
  struct passwd_file file = {0};
  struct error error = {0};
  char *hash = NULL;
  enum status status = open_checked(passwd, &file, &error);
  struct passwd_lines lines = {0};
  int code = COMMAND_OK;
  if (status == OK) lines = passwd_look(buffer_peek(&file.text), passwd->user, passwd->now_ms);
  if (status == OK && lines.count == 0 && change->action != PASSWD_SET) {
    code = no_such_user(passwd);
  } else {
    if (status == OK && entry) status = make_hash(passwd, &lines, entry, &hash, &error);
    if (status == OK && hash) change->hash = span_text(hash);
    if (status == OK) status = apply(passwd, &file, change, &error);
    if (status != OK)
      code = report(&error);
    else
      say_changed(passwd, &file, change, lines.count);
  }
  passwd_file_close(&file);
  free(hash);
  return code;
}

static int change(const struct passwd *passwd, enum passwd_action action)
{
  const struct passwd_options *options = passwd->options;
  bool asks = action == PASSWD_SET || action == PASSWD_ROTATE;
  struct passwd_change change = {
      .action = action,
      .user = passwd->user,
      .until_ms = options->until_ms,
      .has_groups = options->has_groups,
      .groups = buffer_peek(&options->groups),
      .now_ms = passwd->now_ms,
      .keep_until_ms = passwd->now_ms + (int64_t)(options->keep_ms > 0 ? options->keep_ms : DEFAULT_KEEP_MS),
  };
  struct passwd_entry entry = {0};
  int code = -1;
  if (asks) code = check_before(passwd, action == PASSWD_ROTATE);
  if (code < 0 && asks) code = prompt(passwd, "New password: ", "Once more: ", &entry);
  if (code < 0) code = change_file(passwd, &change, asks ? &entry : NULL);
  passwd_entry_wipe(&entry);
  return code;
}

static int run(const struct passwd *passwd)
{
  const struct passwd_options *options = passwd->options;
  if (options->list) return list(passwd);
  if (options->verify) return verify(passwd);
  if (options->remove) return change(passwd, PASSWD_DELETE);
  if (options->regroup) return change(passwd, PASSWD_REGROUP);
  return change(passwd, options->rotate ? PASSWD_ROTATE : PASSWD_SET);
}

static int64_t wall_ms(void)
{
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// The words behind the options; -1 when the command can go on.
static int take_words(struct passwd *passwd, int words, char **argv)
{
  const char *wrong = contradiction(passwd->options);
  int needed = passwd->options->list ? 1 : 2;
  struct error error = {0};
  if (wrong) {
    complain("%s", wrong);
  } else if (words < needed) {
    complain("%s", words == 0 ? "no file given; write \"skerry passwd passwd.txt ann\""
                              : "no user given; write \"skerry passwd FILE USER\", or --list FILE");
  } else if (words > needed) {
    complain("\"%s\" is one word too many%s", argv[needed + 1],
             needed == 2 ? "; a password is never given on the command line, where others can see it" : "");
  } else {
    passwd->path = argv[1];
    if (needed == 1) return -1;
    passwd->user = span_text(argv[2]);
    if (password_user_check(passwd->user, &error) == OK) return -1;
    complain("%s", error.text);
  }
  return COMMAND_USAGE;
}

int passwd_command(int argc, char **argv)
{
  struct passwd_options options = {.until_ms = INT64_MAX};
  const struct option_section section = OPTION_SECTION("Options", rows, &options);
  const struct option_command command = {
      .name = "passwd",
      .summary = "Adds, deletes, lists, verifies and rotates the passwords in the broker's password file.",
      .usage = usage,
      .notes = notes,
      .sections = &section,
      .section_count = 1,
      .positional_maximum = 3,
  };
  int words = 0;
  struct passwd passwd = {.options = &options, .now_ms = wall_ms(), .signals = -1};
  int code = options_begin(&command, argc, argv, &words);
  if (code < 0) code = take_words(&passwd, words, argv);
  if (code < 0) {
    // Nothing is left half done, and the terminal not without its echo.
    passwd.signals = signals_open(false);
    code = run(&passwd);
    if (passwd.signals >= 0) close(passwd.signals);
  }
  buffer_deinit(&options.groups);
  return code;
}
