// Values of keys as text, both ways: parsing with messages that say what would be right, and writing.
#include "broker/config_schema.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { SHOWN_VALUE = 40, EXPECTED_SIZE = 160 };

// ---- Fields

static void *field_of(const struct config_key *key, void *object)
{
  return (char *)object + key->offset;
}

static const void *peek_field(const struct config_key *key, const void *object)
{
  return (const char *)object + key->offset;
}

static char *const *peek_string(const struct config_key *key, const void *object)
{
  return (char *const *)peek_field(key, object);
}

static bool is_text(const struct config_key *key)
{
  return key->type == CONFIG_STRING || key->type == CONFIG_PATH;
}

static bool is_address(const struct config_key *key)
{
  return key->type == CONFIG_URL || key->type == CONFIG_HOST_PORT;
}

static uint64_t load_number(const struct config_key *key, const void *object)
{
  const void *field = peek_field(key, object);
  switch (key->width) {
    case 1: return *(const uint8_t *)field;
    case 2: return *(const uint16_t *)field;
    case 4: return *(const uint32_t *)field;
    default: assert(key->width == 8); return *(const uint64_t *)field;
  }
}

static void store_number(const struct config_key *key, void *object, uint64_t value)
{
  void *field = field_of(key, object);
  switch (key->width) {
    case 1: *(uint8_t *)field = (uint8_t)value; break;
    case 2: *(uint16_t *)field = (uint16_t)value; break;
    case 4: *(uint32_t *)field = (uint32_t)value; break;
    default: assert(key->width == 8); *(uint64_t *)field = value;
  }
  assert(load_number(key, object) == value);
}

// ---- Writing

void config_format_size(uint64_t bytes, char *out, size_t size)
{
  static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
  unsigned unit = 0;
  while (bytes && bytes % 1024 == 0 && unit < 4) {
    bytes /= 1024;
    unit++;
  }
  snprintf(out, size, "%" PRIu64 "%s", bytes, units[unit]);
}

struct duration_unit {
  const char *name;
  uint64_t ms;
};

static const struct duration_unit duration_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
enum { DURATION_UNITS = sizeof duration_units / sizeof duration_units[0] };

static void format_duration(uint64_t ms, char *out, size_t size)
{
  if (ms == 0) {
    snprintf(out, size, "0s");
    return;
  }
  size_t n = 0;
  for (unsigned i = 0; i < DURATION_UNITS && n < size; i++) {
    uint64_t count = ms / duration_units[i].ms;
    ms %= duration_units[i].ms;
    if (count) n += (size_t)snprintf(out + n, size - n, "%" PRIu64 "%s", count, duration_units[i].name);
  }
}

static void format_number(const struct config_key *key, uint64_t value, char *out, size_t size)
{
  if (key->type == CONFIG_SIZE)
    config_format_size(value, out, size);
  else if (key->type == CONFIG_DURATION)
    format_duration(value * key->unit_ms, out, size);
  else if (key->type == CONFIG_MODE)
    snprintf(out, size, "0%03" PRIo64, value);
  else
    snprintf(out, size, "%" PRIu64, value);
}

static void format_words(const struct config_key *key, const struct config_words *words, char *out, size_t size)
{
  size_t n = 0;
  out[0] = '\0';
  for (uint8_t i = 0; i < words->count && n < size; i++)
    n += (size_t)snprintf(out + n, size - n, "%s%s%s", i ? ", " : "[", key->choices[words->items[i]],
                          i + 1 == words->count ? "]" : "");
}

static void format_certificates(const struct config_certificates *certificates, char *out, size_t size)
{
  size_t n = 0;
  out[0] = '\0';
  for (size_t i = 0; i < certificates->count && n < size; i++)
    n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", certificates->items[i].cert);
}

void config_value_format(const struct config_key *key, const void *object, char *out, size_t size)
{
  switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH: {
      const char *text = *peek_string(key, object);
      snprintf(out, size, "%s", text ? text : "");
      return;
    }
    case CONFIG_WORDS: format_words(key, peek_field(key, object), out, size); return;
    case CONFIG_CERTIFICATES: format_certificates(peek_field(key, object), out, size); return;
    case CONFIG_ACL: {
      const struct config_acl *acl = peek_field(key, object);
      snprintf(out, size, "%s", acl->path ? acl->path : acl->rules ? "(a list of rules)" : "");
      return;
    }
    case CONFIG_URL:
    case CONFIG_HOST_PORT: {
      const struct listen_address *address = peek_field(key, object);
      snprintf(out, size, "%s", address->text ? address->text : "");
      return;
    }
    case CONFIG_BOOL: snprintf(out, size, "%s", *(const bool *)peek_field(key, object) ? "true" : "false"); return;
    case CONFIG_CHOICE: snprintf(out, size, "%s", key->choices[load_number(key, object)]); return;
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_MODE: break;
  }
  uint64_t value = load_number(key, object);
  if (key->special_word && value == key->special_value)
    snprintf(out, size, "%s", key->special_word);
  else
    format_number(key, value, out, size);
}

static bool same_text(const char *a, const char *b)
{
  return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_certificates(const struct config_certificates *a, const struct config_certificates *b)
{
  if (a->count != b->count) return false;
  for (size_t i = 0; i < a->count; i++)
    if (!same_text(a->items[i].cert, b->items[i].cert) || !same_text(a->items[i].key, b->items[i].key) ||
        !same_text(a->items[i].ocsp, b->items[i].ocsp))
      return false;
  return true;
}

// Blanks and blank lines around a list are no part of it: those change with what else is in the file.
static bool same_rules(const char *a, const char *b)
{
  if (!a || !b) return a == b;
  a += strspn(a, " \n");
  b += strspn(b, " \n");
  size_t size = strlen(a);
  size_t other = strlen(b);
  while (size && (a[size - 1] == ' ' || a[size - 1] == '\n')) size--;
  while (other && (b[other - 1] == ' ' || b[other - 1] == '\n')) other--;
  return size == other && memcmp(a, b, size) == 0;
}

static bool same_words(const struct config_words *a, const struct config_words *b)
{
  return a->count == b->count && memcmp(a->items, b->items, a->count) == 0;
}

static bool same_acl(const struct config_acl *a, const struct config_acl *b)
{
  return same_text(a->path, b->path) && same_rules(a->rules, b->rules);
}

bool config_value_equal(const struct config_key *key, const void *a, const void *b)
{
  if (key->type == CONFIG_WORDS) return same_words(peek_field(key, a), peek_field(key, b));
  if (key->type == CONFIG_CERTIFICATES) return same_certificates(peek_field(key, a), peek_field(key, b));
  if (key->type == CONFIG_ACL) return same_acl(peek_field(key, a), peek_field(key, b));
  if (is_text(key)) return same_text(*peek_string(key, a), *peek_string(key, b));
  if (is_address(key)) {
    const struct listen_address *one = peek_field(key, a);
    const struct listen_address *two = peek_field(key, b);
    return same_text(one->text, two->text);
  }
  if (key->type == CONFIG_BOOL) return *(const bool *)peek_field(key, a) == *(const bool *)peek_field(key, b);
  return load_number(key, a) == load_number(key, b);
}

static void deinit_certificates(struct config_certificates *certificates)
{
  for (size_t i = 0; i < certificates->count; i++) {
    free(certificates->items[i].cert);
    free(certificates->items[i].key);
    free(certificates->items[i].ocsp);
  }
  free(certificates->items);
  *certificates = (struct config_certificates){0};
}

void config_value_deinit(const struct config_key *key, void *object)
{
  if (key->type == CONFIG_CERTIFICATES) {
    deinit_certificates(field_of(key, object));
  } else if (key->type == CONFIG_ACL) {
    struct config_acl *acl = field_of(key, object);
    free(acl->path);
    free(acl->rules);
    *acl = (struct config_acl){0};
  } else if (is_text(key)) {
    char **text = field_of(key, object);
    free(*text);
    *text = NULL;
  } else if (is_address(key)) {
    listen_address_deinit(field_of(key, object));
  }
}

// ---- What would be right

static const char *example_of(const struct config_key *key)
{
  return key->example ? key->example : key->default_text;
}

static size_t list_choices(const struct config_key *key, char *out, size_t size)
{
  size_t n = 0;
  for (unsigned i = 0; key->choices[i] && n < size; i++)
    n += (size_t)snprintf(out + n, size - n, "%s%s", i == 0 ? "" : key->choices[i + 1] ? ", " : " or ", key->choices[i]);
  return n;
}

void config_value_expected(const struct config_key *key, char *out, size_t size)
{
  char from[CONFIG_NUMBER_SIZE];
  char to[CONFIG_NUMBER_SIZE];
  format_number(key, key->minimum, from, sizeof from);
  format_number(key, key->maximum, to, sizeof to);
  int n = 0;
  switch (key->type) {
    case CONFIG_STRING: n = snprintf(out, size, "a text of at most %" PRIu64 " bytes", key->maximum); break;
    case CONFIG_BOOL: n = snprintf(out, size, "true or false"); break;
    case CONFIG_INTEGER: n = snprintf(out, size, "a whole number from %s to %s", from, to); break;
    case CONFIG_SIZE: n = snprintf(out, size, "a size from %s to %s", from, to); break;
    case CONFIG_DURATION: n = snprintf(out, size, "a duration from %s to %s", from, to); break;
    case CONFIG_CHOICE: n = (int)list_choices(key, out, size); break;
    case CONFIG_MODE: n = snprintf(out, size, "octal permissions from %s to %s", from, to); break;
    case CONFIG_URL: n = snprintf(out, size, "a URL"); break;
    case CONFIG_HOST_PORT: n = snprintf(out, size, "host:port"); break;
    case CONFIG_PATH: n = snprintf(out, size, "the path of a file"); break;
    case CONFIG_WORDS:
      n = snprintf(out, size, "a list of ");
      n += (int)list_choices(key, out + n, size - (size_t)n);
      break;
    case CONFIG_CERTIFICATES: n = snprintf(out, size, "a list of {cert: FILE, key: FILE, ocsp: FILE}"); break;
    case CONFIG_ACL: n = snprintf(out, size, "a list of rules, or the path of a file"); break;
  }
  if (key->special_word && n > 0 && (size_t)n < size) snprintf(out + n, size - (size_t)n, ", or \"%s\"", key->special_word);
}

// The value as it is shown in a message: short, and without anything that a terminal would obey.
static void show_value(const char *text, char out[SHOWN_VALUE + 4])
{
  struct span rest = span_text(text);
  size_t n = 0;
  while (rest.size) {
    struct utf8_character character = utf8_next(rest);
    size_t size = character.size ? character.size : 1;
    if (n + size > SHOWN_VALUE) {
      memcpy(out + n, "...", 3);
      n += 3;
      break;
    }
    if (character.size == 0 || utf8_is_control(character.code)) {
      out[n++] = '?';
    } else {
      memcpy(out + n, rest.at, size);
      n += size;
    }
    rest = span_from(rest, size);
  }
  out[n] = '\0';
}

// "what is wrong; write what would be right, such as 1MiB".
static enum status refuse(const struct config_key *key, const char *text, const char *wrong, struct error *error)
{
  char shown[SHOWN_VALUE + 4];
  char expected[EXPECTED_SIZE];
  show_value(text, shown);
  config_value_expected(key, expected, sizeof expected);
  const char *example = example_of(key);
  bool exemplify = example && key->type != CONFIG_BOOL && key->type != CONFIG_CHOICE;
  return error_set(error, ERR_INVALID, "\"%s\" %s; write %s%s%s", shown, wrong, expected, exemplify ? ", such as " : "",
                   exemplify ? example : "");
}

// ---- Parsing

// Decimal digits at the front; returns how many characters, 0 when there are none. Saturates.
static size_t take_digits(const char *text, uint64_t *out)
{
  uint64_t value = 0;
  size_t n = 0;
  for (; text[n] >= '0' && text[n] <= '9'; n++) {
    uint64_t digit = (uint64_t)(text[n] - '0');
    value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
  }
  *out = value;
  return n;
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
  return b && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

// These return NULL or what is wrong with the text.

static const char *parse_integer(const char *text, uint64_t *out)
{
  size_t n = take_digits(text, out);
  return n == 0 || text[n] ? "is not a whole number" : NULL;
}

static const char *parse_size(const char *text, uint64_t *out)
{
  static const struct {
    const char *name;
    uint64_t bytes;
  } units[] = {{"", 1}, {"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", UINT64_C(1) << 40}};
  uint64_t count;
  size_t n = take_digits(text, &count);
  if (n == 0) return "is not a size";
  while (text[n] == ' ') n++;
  if (text[n] == '.') return "is not a whole number of units";
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (strcmp(text + n, units[i].name) != 0) continue;
    *out = multiply(count, units[i].bytes);
    return NULL;
  }
  return "has an unknown unit (known are B, KiB, MiB, GiB and TiB)";
}

static const struct duration_unit *find_duration_unit(const char *text, size_t *out_size)
{
  size_t size = 0;
  while (text[size] >= 'a' && text[size] <= 'z') size++;
  *out_size = size;
  for (unsigned i = 0; i < DURATION_UNITS; i++)
    if (strlen(duration_units[i].name) == size && memcmp(duration_units[i].name, text, size) == 0) return &duration_units[i];
  return NULL;
}

// "90s", "1h30m": larger units first, each once.
static const char *parse_duration(const char *text, uint64_t *out_ms)
{
  uint64_t total = 0;
  const struct duration_unit *last = NULL;
  if (strcmp(text, "0") == 0) {
    *out_ms = 0;
    return NULL;
  }
  do {
    uint64_t count;
    size_t n = take_digits(text, &count);
    if (n == 0) return "is not a duration";
    text += n;
    if (*text == '\0') return "has no unit";
    if (*text == '.') return "is not a whole number of units";
    const struct duration_unit *unit = find_duration_unit(text, &n);
    if (!unit) return "has an unknown unit (known are ms, s, m, h and d)";
    if (last && unit <= last) return "has its units in the wrong order";
    uint64_t part = multiply(count, unit->ms);
    total = part > UINT64_MAX - total ? UINT64_MAX : total + part;
    last = unit;
    text += n;
  } while (*text);
  *out_ms = total;
  return NULL;
}

static const char *parse_mode(const char *text, uint64_t *out)
{
  if (text[0] == '0' && text[1] == 'o') text += 2;
  uint64_t value = 0;
  size_t n = 0;
  for (; text[n] >= '0' && text[n] <= '7' && n < 8; n++) value = value << 3 | (uint64_t)(text[n] - '0');
  *out = value;
  return n == 0 || text[n] ? "is not octal" : NULL;
}

static enum status parse_number(const struct config_key *key, const char *text, void *object, struct error *error)
{
  uint64_t value = 0;
  const char *wrong = NULL;
  if (key->special_word && strcmp(text, key->special_word) == 0) {
    store_number(key, object, key->special_value);
    return OK;
  }
  if (key->type == CONFIG_SIZE)
    wrong = parse_size(text, &value);
  else if (key->type == CONFIG_DURATION)
    wrong = parse_duration(text, &value);
  else if (key->type == CONFIG_MODE)
    wrong = parse_mode(text, &value);
  else
    wrong = parse_integer(text, &value);
  if (!wrong && key->unit_ms > 1) {
    if (value % key->unit_ms && value != UINT64_MAX) wrong = "is not a whole number of seconds";
    value /= key->unit_ms;
  }
  bool special = key->special_word && key->special_value == 0 && value == 0;
  if (!wrong && !special && value < key->minimum) wrong = "is too small";
  if (!wrong && !special && value > key->maximum) wrong = "is too large";
  if (wrong) return refuse(key, text, wrong, error);
  store_number(key, object, value);
  return OK;
}

static enum status parse_string(const struct config_key *key, const char *text, void *object, struct error *error)
{
  size_t size = strlen(text);
  if (size < key->minimum) return refuse(key, text, "is empty", error);
  if (size > key->maximum) return refuse(key, text, "is too long", error);
  for (struct span rest = span_text(text); rest.size;) {
    struct utf8_character character = utf8_next(rest);
    if (character.size == 0) return refuse(key, text, "is not UTF-8", error);
    if (utf8_is_control(character.code)) return refuse(key, text, "holds a control character", error);
    rest = span_from(rest, character.size);
  }
  if (key->forbidden && strpbrk(text, key->forbidden)) {
    char wrong[64];
    snprintf(wrong, sizeof wrong, "holds one of the characters %s", key->forbidden);
    return refuse(key, text, wrong, error);
  }
  char *copy = strdup(text);
  if (!copy) return error_set(error, ERR_NO_MEMORY, "out of memory");
  char **field = field_of(key, object);
  free(*field);
  *field = copy;
  return OK;
}

static enum status parse_address(const struct config_key *key, const char *text, void *object, struct error *error)
{
  struct listen_address address = {0};
  enum status status =
      key->type == CONFIG_URL ? listen_url_parse(text, &address, error) : listen_host_port_parse(text, &address, error);
  if (status) return status;
  struct listen_address *field = field_of(key, object);
  listen_address_deinit(field);
  *field = address;
  return OK;
}

static bool find_choice(const struct config_key *key, const char *word, size_t size, uint8_t *out)
{
  for (uint8_t i = 0; key->choices[i]; i++) {
    if (strlen(key->choices[i]) != size || memcmp(key->choices[i], word, size) != 0) continue;
    *out = i;
    return true;
  }
  return false;
}

// "[cert, password]", "cert,password" or "cert": as --set gives it.
static enum status parse_words(const struct config_key *key, const char *text, void *object, struct error *error)
{
  static const char skipped[] = "[], ";
  struct config_words words = {0};
  for (const char *at = text + strspn(text, skipped); *at; at += strspn(at, skipped)) {
    size_t size = strcspn(at, skipped);
    uint8_t choice;
    if (!find_choice(key, at, size, &choice)) return refuse(key, text, "holds an unknown word", error);
    if (memchr(words.items, choice, words.count)) return refuse(key, text, "holds a word twice", error);
    words.items[words.count++] = choice;
    at += size;
  }
  *(struct config_words *)field_of(key, object) = words;
  return OK;
}

static enum status parse_acl(const struct config_key *key, const char *text, void *object, struct error *error)
{
  struct config_acl *acl = field_of(key, object);
  const struct config_key path = {
      .type = CONFIG_STRING, .minimum = key->minimum, .maximum = key->maximum, .example = key->example};
  char *copy = NULL;
  enum status status = parse_string(&path, text, &copy, error);
  if (status) return status;
  config_value_deinit(key, object);
  acl->path = copy;
  return OK;
}

enum status config_add_certificate(struct config_certificates *certificates, const struct config_certificate *item,
                                   struct error *error)
{
  if (certificates->count == CONFIG_MAX_CERTIFICATES)
    return error_set(error, ERR_INVALID, "one too many; at most %d are possible", CONFIG_MAX_CERTIFICATES);
  struct config_certificate *grown = reallocarray(certificates->items, certificates->count + 1, sizeof *grown);
  if (!grown) return error_set(error, ERR_NO_MEMORY, "out of memory");
  certificates->items = grown;
  grown[certificates->count++] = *item;
  return OK;
}

enum status config_value_parse(const struct config_key *key, const char *text, void *object, struct error *error)
{
  switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH: return parse_string(key, text, object, error);
    case CONFIG_WORDS: return parse_words(key, text, object, error);
    case CONFIG_ACL: return parse_acl(key, text, object, error);
    case CONFIG_CERTIFICATES:
      return refuse(key, text, "is no list of certificates; it can be written in the file only", error);
    case CONFIG_URL:
    case CONFIG_HOST_PORT: return parse_address(key, text, object, error);
    case CONFIG_BOOL:
      if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) return refuse(key, text, "is not a truth value", error);
      *(bool *)field_of(key, object) = text[0] == 't';
      return OK;
    case CONFIG_CHOICE:
      for (unsigned i = 0; key->choices[i]; i++) {
        if (strcmp(text, key->choices[i]) != 0) continue;
        store_number(key, object, i);
        return OK;
      }
      return refuse(key, text, "is not one of the choices", error);
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_MODE: break;
  }
  return parse_number(key, text, object, error);
}

enum status config_set_defaults(bool listener, void *object)
{
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (config_find_section(key->section)->list != listener || !key->default_text) continue;
    enum status status = config_value_parse(key, key->default_text, object, NULL);
    assert(status != ERR_INVALID);
    if (status) return status;
  }
  return OK;
}
