// Three forms of a pattern: the name of a fact ("cert.cn"); a text with such names in braces ("{cert.ou}-{cert.cn}"); a
// fact's name, a colon and a text with one "{}" in it, which stands for the user name ("cert.san_dns:{}.plant.example";
// "spiffe://plant/{}" is short for "cert.san_uri:spiffe://plant/{}").
#include "auth/certificate_name.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { NAME_MAX_BYTES = 1024 };  // of a user name made here

const char *const certificate_facts[CERTIFICATE_FACTS] = {
    "cert.cn", "cert.ou", "cert.o", "cert.san_dns", "cert.san_uri", "cert.san_email", "cert.serial", "cert.fingerprint"};

static const char name_list[] =
    "cert.cn, cert.ou, cert.o, cert.san_dns, cert.san_uri, cert.san_email, cert.serial or cert.fingerprint";

bool certificate_fact_known(struct span name)
{
  for (size_t i = 0; i < CERTIFICATE_FACTS; i++)
    if (span_equal(name, span_text(certificate_facts[i]))) return true;
  return false;
}

// ---- What kind of pattern it is

struct capture {
  struct span fact, before, after;  // of "{}"
};

// Whether the pattern has a "{}". `fact` is empty when it says of nothing.
static bool as_capture(const char *pattern, struct capture *out)
{
  const char *hole = strstr(pattern, "{}");
  if (!hole) return false;
  const char *colon = strchr(pattern, ':'), *start = pattern;
  struct span fact = {0};
  if (strncmp(pattern, "cert.", 5) == 0 && colon && colon < hole) {
    fact = span_of(pattern, (size_t)(colon - pattern));
    start = colon + 1;
  } else if (colon && colon < hole && strncmp(colon, "://", 3) == 0) {
    fact = span_text("cert.san_uri");
  }
  *out = (struct capture){
      .fact = fact, .before = span_of(start, (size_t)(hole - start)), .after = span_text(hole + strlen("{}"))};
  return true;
}

static enum status check_capture(const char *pattern, const struct capture *capture, struct error *error)
{
  if (capture->fact.size == 0)
    return error_set(error, ERR_INVALID,
                     "\"%s\" does not say what it is matched against: put its name and a colon in front, "
                     "\"cert.san_dns:%s\" for example",
                     pattern, pattern);
  if (!certificate_fact_known(capture->fact))
    return error_set(error, ERR_INVALID, "certificates have no \"%.*s\": use %s", (int)capture->fact.size,
                     (const char *)capture->fact.at, name_list);
  if (memchr(capture->before.at, '{', capture->before.size) || memchr(capture->before.at, '}', capture->before.size) ||
      memchr(capture->after.at, '{', capture->after.size) || memchr(capture->after.at, '}', capture->after.size))
    return error_set(error, ERR_INVALID, "\"%s\": one {} stands for the user name, and no other braces go with it", pattern);
  return OK;
}

// The next piece of a text with names in braces: literal text or a name. False at the end. A brace that is not closed gives
// a name that is not known.
struct piece {
  bool is_name;
  struct span text;
};

static bool next_piece(const char **at, struct piece *out)
{
  const char *from = *at;
  if (!*from) return false;
  if (*from == '{') {
    const char *end = strchr(from, '}');
    size_t size = end ? (size_t)(end - from) - 1 : strlen(from + 1);
    *out = (struct piece){.is_name = true, .text = span_of(from + 1, size)};
    *at = end ? end + 1 : from + 1 + size;
    return true;
  }
  size_t size = strcspn(from, "{");
  *out = (struct piece){.text = span_of(from, size)};
  *at = from + size;
  return true;
}

static enum status check_template(const char *pattern, struct error *error)
{
  bool any = false;
  const char *at = pattern;
  for (struct piece piece; next_piece(&at, &piece);) {
    if (!piece.is_name && memchr(piece.text.at, '}', piece.text.size))
      return error_set(error, ERR_INVALID, "\"%s\": a } without its {", pattern);
    if (!piece.is_name) continue;
    any = true;
    if (at[-1] != '}') return error_set(error, ERR_INVALID, "\"%s\": a { without its }", pattern);
    if (!certificate_fact_known(piece.text))
      return error_set(error, ERR_INVALID, "certificates have no \"%.*s\": use %s", (int)piece.text.size,
                       (const char *)piece.text.at, name_list);
  }
  if (!any)
    return error_set(error, ERR_INVALID,
                     "\"%s\" would give every certificate the same user name: use %s, or one of these in "
                     "braces in a text",
                     pattern, name_list);
  return OK;
}

enum status certificate_name_check(const char *pattern, struct error *error)
{
  struct capture capture;
  if (certificate_fact_known(span_text(pattern))) return OK;
  if (as_capture(pattern, &capture)) return check_capture(pattern, &capture, error);
  return check_template(pattern, error);
}

// ---- Making names

static bool find(const struct identity_fact *facts, size_t count, struct span name, struct span *out)
{
  for (size_t i = 0; i < count; i++) {
    if (!span_equal(facts[i].name, name)) continue;
    *out = facts[i].value;
    return true;
  }
  return false;
}

// The part of the first value that fits which the "{}" stands for.
static bool capture_name(const struct capture *capture, const struct identity_fact *facts, size_t count, struct span *out)
{
  size_t frame = capture->before.size + capture->after.size;
  for (size_t i = 0; i < count; i++) {
    struct span value = facts[i].value;
    if (!span_equal(facts[i].name, capture->fact) || value.size <= frame) continue;
    struct span before = span_of(value.at, capture->before.size);
    struct span after = span_from(value, value.size - capture->after.size);
    if (!span_equal(before, capture->before) || !span_equal(after, capture->after)) continue;
    *out = span_of(value.at + capture->before.size, value.size - frame);
    return true;
  }
  return false;
}

static const char *fill_template(const char *pattern, const struct identity_fact *facts, size_t count,
                                 char out[NAME_MAX_BYTES], size_t *out_size)
{
  size_t size = 0;
  const char *at = pattern;
  for (struct piece piece; next_piece(&at, &piece);) {
    struct span text = piece.text;
    if (piece.is_name && (!find(facts, count, piece.text, &text) || text.size == 0))
      return "the certificate does not have all that the user name is made of";
    if (text.size > NAME_MAX_BYTES - size) return "the certificate's name is too long";
    if (text.size) memcpy(out + size, text.at, text.size);
    size += text.size;
  }
  *out_size = size;
  return NULL;
}

// A name that looks like another one, or that MQTT has no text for, is nobody's.
static const char *object_to(struct span name)
{
  if (name.size == 0) return "the certificate's name is empty";
  if (name.size > NAME_MAX_BYTES) return "the certificate's name is too long";
  for (size_t i = 0; i < name.size;) {
    struct utf8_character character = utf8_next(span_from(name, i));
    if (character.size == 0) return "the certificate's name is not UTF-8";
    if (utf8_is_control(character.code)) return "the certificate's name has control characters in it";
    i += character.size;
  }
  return NULL;
}

static char *duplicate(struct span name, const char **out_why)
{
  *out_why = object_to(name);
  if (*out_why) return NULL;
  char *copy = malloc(name.size + 1);
  if (!copy) {
    *out_why = "no memory";
    return NULL;
  }
  memcpy(copy, name.at, name.size);
  copy[name.size] = '\0';
  return copy;
}

char *certificate_name(const char *pattern, const struct identity_fact *facts, size_t fact_count, const char **out_why)
{
  struct span name;
  struct capture capture;
  if (certificate_fact_known(span_text(pattern))) {
    if (find(facts, fact_count, span_text(pattern), &name)) return duplicate(name, out_why);
    *out_why = "the certificate has no such name";
    return NULL;
  }
  if (as_capture(pattern, &capture)) {
    if (capture_name(&capture, facts, fact_count, &name)) return duplicate(name, out_why);
    *out_why = "no name of the certificate fits the pattern";
    return NULL;
  }
  char text[NAME_MAX_BYTES];
  size_t size = 0;
  *out_why = fill_template(pattern, facts, fact_count, text, &size);
  return *out_why ? NULL : duplicate(span_of(text, size), out_why);
}
