// Mosquitto's acl_file (mosquitto.conf(5)), with its meaning:
//
//   topic [read|write|readwrite|deny] FILTER    for the user above it; before the first user line: for clients without a
//   name user NAME pattern [read|write|readwrite|deny] FILTER  for everybody, with %c and %u replaced
//
// There, a client's topic lines are asked first, those with "deny" before the others whatever their order, and then all
// patterns in the same way; no answer is a denial. So the order here is: denying topics, allowing topics, denying patterns,
// allowing patterns. It does not look at SUBSCRIBE: everybody may, and gets what may be read. A name or client identifier
// with '+' or '#' in it gets nothing as soon as there are patterns.

#include <stdlib.h>
#include <string.h>

#include "auth/acl_reading.h"
#include "base/nearest.h"

enum access { READ = 1, WRITE = 2, READWRITE = READ | WRITE, DENY = 4 };

struct line {
  bool pattern;
  bool named;  // below a user line
  struct span user;
  enum access access;
  struct span topic;
  size_t number, column;
};

struct reader {
  struct acl_reading *reading;
  struct span text;  // of the file
  struct line *lines;
  size_t count, capacity;
  bool named, patterns;
  struct span user;
};

static bool out_of_memory(struct reader *reader)
{
  reader->reading->failed = reader->reading->short_of_memory = true;
  return false;
}

// ---- Lines

static struct span word(struct span *rest)
{
  size_t at = 0;
  while (at < rest->size && rest->at[at] == ' ') at++;
  struct span left = span_from(*rest, at);
  size_t size = 0;
  while (size < left.size && left.at[size] != ' ') size++;
  *rest = span_from(left, size);
  return span_of(left.at, size);
}

static struct span trimmed(struct span text)
{
  while (text.size > 0 && text.at[0] == ' ') text = span_from(text, 1);
  while (text.size > 0 && strchr(" \t\r\n", text.at[text.size - 1])) text.size--;
  return text;
}

static bool access_of(struct span name, enum access *out)
{
  static const struct {
    const char *name;
    enum access access;
  } names[] = {{"read", READ}, {"write", WRITE}, {"readwrite", READWRITE}, {"deny", DENY}};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (!span_equal(name, span_text(names[i].name))) continue;
    *out = names[i].access;
    return true;
  }
  return false;
}

static bool keep(struct reader *reader, const struct line *line)
{
  if (reader->count == reader->capacity) {
    size_t capacity = reader->capacity ? reader->capacity * 2 : 32;
    struct line *lines = reallocarray(reader->lines, capacity, sizeof *lines);
    if (!lines) return out_of_memory(reader);
    reader->lines = lines;
    reader->capacity = capacity;
  }
  reader->lines[reader->count++] = *line;
  return true;
}

// `rest`: what stands behind "topic" or "pattern". One word is the filter; of several the first is the access, and the rest,
// spaces and all, the filter.
static void read_topic(struct reader *reader, struct line line, struct span rest, const uint8_t *start)
{
  char shown[ACL_SHOWN + 1];
  struct span whole = trimmed(rest), behind = whole, first = word(&behind);
  if (first.size == 0) {
    acl_complain(reader->reading, line.number, 0, "names no topic");
    return;
  }
  line.topic = trimmed(behind);
  line.access = READWRITE;
  if (line.topic.size == 0) {
    line.topic = first;
  } else if (!access_of(first, &line.access)) {
    acl_complain(reader->reading, line.number, (size_t)(first.at - start) + 1,
                 "unknown access \"%s\"; it is read, write, readwrite or deny", acl_show(first, shown));
    return;
  }
  line.column = (size_t)(line.topic.at - start) + 1;
  if (line.pattern) reader->patterns = true;
  keep(reader, &line);
}

static void read_line(struct reader *reader, struct span text, size_t number)
{
  static const char *const known[] = {"topic", "user", "pattern"};
  char shown[ACL_SHOWN + 1];
  if (text.size == 0 || text.at[0] == '#') return;
  struct span rest = trimmed(text), first = word(&rest);
  if (first.size == 0 || first.at[0] == '#') return;
  struct line line = {.named = reader->named, .user = reader->user, .number = number};
  if (span_equal(first, span_text("topic"))) {
    read_topic(reader, line, rest, text.at);
  } else if (span_equal(first, span_text("pattern"))) {
    line.pattern = true;
    read_topic(reader, line, rest, text.at);
  } else if (span_equal(first, span_text("user"))) {
    reader->user = trimmed(rest);
    reader->named = true;
    if (reader->user.size == 0) acl_complain(reader->reading, number, 0, "names no user");
  } else {
    const char *nearest = nearest_name(acl_show(first, shown), known, 3);
    acl_complain(reader->reading, number, (size_t)(first.at - text.at) + 1, "unknown word \"%s\"; %s%s%s", shown,
                 nearest ? "did you mean \"" : "a line begins with topic, user or pattern", nearest ? nearest : "",
                 nearest ? "\"?" : "");
  }
}

// ---- Rules

struct text {
  uint8_t *at;
  size_t size;
};

static bool append(struct reader *reader, struct text *text, struct span more)
{
  uint8_t *at = realloc(text->at, text->size + more.size + 1);
  if (!at) return out_of_memory(reader);
  if (more.size > 0) memcpy(at + text->size, more.at, more.size);
  text->at = at;
  text->size += more.size;
  return true;
}

// What is a pattern's or a variable's sign here is an ordinary character there, and the other way round.
static bool translate_topic(struct reader *reader, const struct line *line, struct text *out)
{
  struct span topic = line->topic;
  for (size_t i = 0; i < topic.size; i++) {
    struct span one = span_of(topic.at + i, 1);
    bool percent = line->pattern && topic.at[i] == '%' && i + 1 < topic.size;
    if (topic.at[i] == '{') one = span_text("{{");
    if (topic.at[i] == '}') one = span_text("}}");
    if (percent && topic.at[i + 1] == 'c') one = span_text("{client_id}");
    if (percent && topic.at[i + 1] == 'u') one = span_text("{username}");
    if (one.size > 2) i++;
    if (!append(reader, out, one)) return false;
  }
  return true;
}

static bool translate_user(struct reader *reader, struct span user, struct text *out)
{
  for (size_t i = 0; i < user.size; i++) {
    bool escape = user.at[i] == '*' || user.at[i] == '?' || user.at[i] == '\\';
    if (escape && !append(reader, out, span_text("\\"))) return false;
    if (!append(reader, out, span_of(user.at + i, 1))) return false;
  }
  return true;
}

static void add_line(struct reader *reader, const struct line *line)
{
  struct text topic = {0}, user = {0};
  if (translate_topic(reader, line, &topic) && translate_user(reader, line->user, &user)) {
    const struct span filter = span_of(topic.at, topic.size);
    struct acl_rule rule = {.subject = line->pattern ? ACL_ANYBODY
                                       : line->named ? ACL_USER
                                                     : ACL_ANONYMOUS,
                            .who = span_of(user.at, user.size),
                            .allow = line->access != DENY,
                            .qos_max = 2,
                            .topics = &filter,
                            .topic_count = 1,
                            .file = reader->reading->name,
                            .line = (uint32_t)line->number};
    if (line->access & (WRITE | DENY)) rule.verbs |= ACL_PUBLISH;
    if (line->access & (READ | DENY)) rule.verbs |= ACL_RECEIVE;
    acl_take(reader->reading, &rule, line->column);
  }
  free(topic.at);
  free(user.at);
}

static void add_lines(struct reader *reader, bool pattern, bool deny)
{
  for (size_t i = 0; i < reader->count; i++)
    if (reader->lines[i].pattern == pattern && (reader->lines[i].access == DENY) == deny)
      add_line(reader, &reader->lines[i]);
}

// The filters that have everything: "#", and one for each first level with '$' that the file names, because "#" has none of
// these.
static struct span *everything(struct reader *reader, size_t *out_count)
{
  struct span *filters = calloc(reader->count + 2, sizeof *filters);
  char *texts = malloc(reader->text.size + 3 * reader->count + 8);
  if (!filters || !texts) {
    free(filters);
    free(texts);
    out_of_memory(reader);
    return NULL;
  }
  size_t used = 0, count = 0;
  for (size_t i = 0; i < reader->count + 2; i++) {
    struct span topic = i == 0 ? span_text("#") : i == 1 ? span_text("$SYS") : reader->lines[i - 2].topic;
    if (i > 1 && (topic.at[0] != '$' || memchr(topic.at, '{', topic.size) || memchr(topic.at, '}', topic.size))) continue;
    size_t size = 0;
    while (size < topic.size && topic.at[size] != '/') size++;
    char *text = texts + used;
    memcpy(text, topic.at, size);
    if (i > 0) {
      memcpy(text + size, "/#", 2);
      size += 2;
    }
    bool known = false;
    for (size_t k = 0; k < count; k++) known |= span_equal(filters[k], span_of(text, size));
    if (known || (i > 1 && memchr(text, '+', size))) continue;
    filters[count++] = span_of(text, size);
    used += size;
  }
  *out_count = count;
  return filters;  // the first one's text is what is to be freed
}

static void add_for_all(struct reader *reader, enum acl_subject subject, const char *who, bool allow, uint8_t verbs,
                        const struct span *filters, size_t count)
{
  const struct acl_rule rule = {.subject = subject,
                                .who = span_text(who),
                                .verbs = verbs,
                                .allow = allow,
                                .qos_max = 2,
                                .topics = filters,
                                .topic_count = count,
                                .file = reader->reading->name};
  acl_take(reader->reading, &rule, 0);
}

static void add_rules(struct reader *reader)
{
  size_t count;
  struct span *all = everything(reader, &count);
  if (!all) return;
  add_lines(reader, false, true);
  add_lines(reader, false, false);
  static const char *const dangerous[] = {"*+*", "*#*"};
  for (size_t i = 0; reader->patterns && i < 2; i++) {
    add_for_all(reader, ACL_USER, dangerous[i], false, ACL_PUBLISH | ACL_RECEIVE, all, count);
    add_for_all(reader, ACL_CLIENT, dangerous[i], false, ACL_PUBLISH | ACL_RECEIVE, all, count);
  }
  add_lines(reader, true, true);
  add_lines(reader, true, false);
  add_for_all(reader, ACL_ANYBODY, "", true, ACL_SUBSCRIBE, all, count);
  union {
    const uint8_t *borrowed;
    void *owned;
  } texts = {.borrowed = all[0].at};
  free(texts.owned);
  free(all);
}

void acl_read_mosquitto(struct acl_reading *reading, struct span text)
{
  struct reader reader = {.reading = reading, .text = text};
  size_t number = 1;
  for (size_t at = 0; at < text.size; number++) {
    const uint8_t *end = memchr(text.at + at, '\n', text.size - at);
    size_t size = end ? (size_t)(end - text.at) - at : text.size - at;
    read_line(&reader, span_of(text.at + at, size), number);
    at += size + (end != NULL);
  }
  add_rules(&reader);
  free(reader.lines);
}
