// One line of a password file. See password_line.h.
#include "auth/password_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { MS_PER_DAY = 86400000, DAYS_TO_1970 = 719468 };  // since 0000-03-01

// ---- Small pieces

static bool is_blank(uint8_t byte)
{
  return byte == ' ' || byte == '\t';
}

static struct span trim(struct span text)
{
  while (text.size > 0 && is_blank(text.at[0])) text = span_from(text, 1);
  while (text.size > 0 && is_blank(text.at[text.size - 1])) text.size--;
  return text;
}

// What is before `separator`; *rest is what is behind it, at NULL when there is no separator.
static struct span cut(struct span text, char separator, struct span *rest)
{
  const uint8_t *found = text.size > 0 ? memchr(text.at, separator, text.size) : NULL;
  if (!found) {
    *rest = (struct span){0};
    return text;
  }
  size_t size = (size_t)(found - text.at);
  *rest = span_from(text, size + 1);
  return span_of(text.at, size);
}

static const char byte_order_mark[] = "\xEF\xBB\xBF";

static bool starts_with(struct span text, const char *prefix)
{
  size_t size = strlen(prefix);
  return text.size >= size && memcmp(text.at, prefix, size) == 0;
}

bool password_next_line(struct span *text, struct span *out)
{
  if (text->size == 0) return false;
  struct span line = cut(*text, '\n', text);
  if (line.size > 0 && line.at[line.size - 1] == '\r') line.size--;
  *out = line;
  return true;
}

bool password_next_group(struct span *groups, struct span *out)
{
  if (!groups->at) return false;
  *out = cut(*groups, ',', groups);
  return true;
}

struct span password_hash_kind(struct span hash)
{
  struct span rest;
  if (hash.size == 0 || hash.at[0] != '$') return (struct span){0};
  struct span kind = cut(span_from(hash, 1), '$', &rest);
  return rest.at ? kind : (struct span){0};
}

// ---- Times

// Days since 1970-01-01 of a day in the Gregorian calendar. Years begin in March here, so that the leap day is the last of a
// year.
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
  int64_t years = month <= 2 ? year - 1 : year;
  int64_t months = (month + 9) % 12;
  return years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1 - DAYS_TO_1970;
}

static int64_t days_in(int64_t year, int64_t month)
{
  return month == 12 ? 31 : days_of(year, month + 1, 1) - days_of(year, month, 1);
}

// The number that these digits are.
static int64_t number(const uint8_t *at, size_t digits)
{
  int64_t value = 0;
  for (size_t i = 0; i < digits; i++) value = value * 10 + (at[i] - '0');
  return value;
}

bool password_until_parse(struct span text, int64_t *out_ms)
{
  static const char form[] = "0000-00-00T00:00:00Z";
  if (text.size != sizeof form - 1) return false;
  for (size_t i = 0; i < text.size; i++) {
    bool fits = form[i] == '0' ? text.at[i] >= '0' && text.at[i] <= '9' : text.at[i] == (uint8_t)form[i];
    if (!fits) return false;
  }
  int64_t year = number(text.at, 4), month = number(text.at + 5, 2), day = number(text.at + 8, 2);
  int64_t hour = number(text.at + 11, 2), minute = number(text.at + 14, 2), second = number(text.at + 17, 2);
  if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in(year, month)) return false;
  if (hour > 23 || minute > 59 || second > 59) return false;
  *out_ms = ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60000 + second * 1000;
  return true;
}

void password_until_format(int64_t ms, char out[PASSWORD_UNTIL_TEXT])
{
  int64_t latest = days_of(9999, 12, 31) * MS_PER_DAY + MS_PER_DAY - 1;
  if (ms < 0) ms = 0;
  if (ms > latest) ms = latest;
  int64_t days = ms / MS_PER_DAY, second = ms % MS_PER_DAY / 1000;
  int64_t year = 1970 + days / 366;  // at most a few too few
  while (days_of(year + 1, 1, 1) <= days) year++;
  int64_t month = 12;
  while (days_of(year, month, 1) > days) month--;
  // As unsigned of two digits, so that the compiler sees that they fit.
  unsigned day = (unsigned)(days - days_of(year, month, 1) + 1);
  snprintf(out, PASSWORD_UNTIL_TEXT, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)year % 10000, (unsigned)month % 100,
           day % 100, (unsigned)(second / 3600) % 100, (unsigned)(second / 60) % 60, (unsigned)second % 60);
}

// ---- Names

static enum status check_name(const char *what, struct span name, size_t maximum, const char *not_in, struct error *error)
{
  if (name.size == 0) return error_set(error, ERR_INVALID, "the %s is empty", what);
  if (name.size > maximum) return error_set(error, ERR_INVALID, "the %s has more than %zu bytes", what, maximum);
  if (trim(name).size != name.size) return error_set(error, ERR_INVALID, "the %s begins or ends with a blank", what);
  for (struct span rest = name; rest.size > 0;) {
    struct utf8_character character = utf8_next(rest);
    if (character.size == 0) return error_set(error, ERR_INVALID, "the %s is not UTF-8", what);
    if (utf8_is_control(character.code))
      return error_set(error, ERR_INVALID, "the %s has a control character in it (U+%04" PRIX32 ")", what, character.code);
    if (character.code < 0x80 && strchr(not_in, (int)character.code))
      return error_set(error, ERR_INVALID, "the %s has \"%c\" in it, which separates here", what, (char)character.code);
    rest = span_from(rest, character.size);
  }
  return OK;
}

enum status password_user_check(struct span user, struct error *error)
{
  enum status status = check_name("user name", user, PASSWORD_MAX_USER, ":", error);
  if (status != OK) return status;
  if (user.at[0] == '#')
    return error_set(error, ERR_INVALID, "the user name begins with \"#\", as a comment in the password file does");
  // Of a line that begins with two, one would be left when it is written, and be gone when that is read.
  if (starts_with(user, byte_order_mark))
    return error_set(error, ERR_INVALID, "the user name begins with a byte order mark (U+FEFF)");
  return OK;
}

enum status password_group_check(struct span group, struct error *error)
{
  return check_name("name of a group", group, PASSWORD_MAX_GROUP, ":,", error);
}

// ---- Lines

static enum status parse_until(struct span *rest, struct password_line *line, struct error *error)
{
  static const size_t size = PASSWORD_UNTIL_TEXT - 1;
  if (line->until_ms != INT64_MAX) return error_set(error, ERR_INVALID, "until= is there twice");
  struct span text = span_of(rest->at, rest->size < size ? rest->size : size);
  if (!password_until_parse(text, &line->until_ms) || (rest->size > size && rest->at[size] != ':'))
    return error_set(error, ERR_INVALID, "until= needs a time in UTC, written like until=2026-12-31T23:59:59Z");
  *rest = rest->size > size ? span_from(*rest, size + 1) : (struct span){0};
  return OK;
}

static enum status parse_groups(struct span *rest, struct password_line *line, struct error *error)
{
  if (line->groups.at) return error_set(error, ERR_INVALID, "groups= is there twice");
  line->groups = trim(cut(*rest, ':', rest));
  struct span groups = line->groups, group;
  while (password_next_group(&groups, &group)) {
    enum status status = password_group_check(group, error);
    if (status != OK) return error_prefix(error, "groups=");
  }
  return OK;
}

static enum status parse_attributes(struct span rest, struct password_line *line, struct error *error)
{
  while (rest.at) {
    enum status status;
    if (starts_with(rest, "until=")) {
      rest = span_from(rest, 6);
      status = parse_until(&rest, line, error);
    } else if (starts_with(rest, "groups=")) {
      rest = span_from(rest, 7);
      status = parse_groups(&rest, line, error);
    } else {
      status = error_set(error, ERR_INVALID,
                         "what follows the hash is neither \"until=2026-12-31T23:59:59Z\" nor \"groups=a,b\"");
    }
    if (status != OK) return status;
  }
  return OK;
}

enum status password_line_parse(struct span line, struct password_line *out, struct error *error)
{
  struct password_line parsed = {.until_ms = INT64_MAX};
  struct span rest;
  if (starts_with(line, byte_order_mark)) line = span_from(line, 3);  // what some editors put before the first line
  line = trim(line);
  if (line.size == 0 || line.at[0] == '#') {
    *out = parsed;
    return OK;
  }
  parsed.user = trim(cut(line, ':', &rest));
  if (!rest.at)
    return error_set(error, ERR_INVALID, "there is no \":\" in the line; write user:hash (\"skerry passwd\" does)");
  enum status status = password_user_check(parsed.user, error);
  if (status != OK) return status;
  parsed.hash = trim(cut(rest, ':', &rest));
  // What stands there instead may be a password: it must not get into a log.
  if (password_hash_kind(parsed.hash).size == 0)
    return error_set(error, ERR_INVALID,
                     "no hash follows the user name; if it is the password itself, replace it with \"skerry passwd\"");
  status = parse_attributes(rest, &parsed, error);
  if (status == OK) *out = parsed;
  return status;
}

static enum status append(struct buffer *out, struct span text)
{
  return buffer_append(out, text.at, text.size);
}

enum status password_line_append(const struct password_line *line, struct buffer *out)
{
  char until[PASSWORD_UNTIL_TEXT];
  enum status status = append(out, line->user);
  if (status == OK) status = append(out, span_text(":"));
  if (status == OK) status = append(out, line->hash);
  if (status == OK && line->until_ms != INT64_MAX) {
    password_until_format(line->until_ms, until);
    status = append(out, span_text(":until="));
    if (status == OK) status = append(out, span_text(until));
  }
  if (status == OK && line->groups.size > 0) {
    status = append(out, span_text(":groups="));
    if (status == OK) status = append(out, line->groups);
  }
  if (status == OK) status = append(out, span_text("\n"));
  return status;
}
