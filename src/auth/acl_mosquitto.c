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
  struct span *all;  // filters that together have everything
  size_t all_count;
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

// There, words end at a space alone, but around a name nothing blank counts.
static bool is_blank(uint8_t byte)
{
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static struct span without_end(struct span text)
{
  while (text.size > 0 && is_blank(text.at[text.size - 1])) text.size--;
  return text;
}

static struct span trimmed(struct span text)
{
  while (text.size > 0 && is_blank(text.at[0])) text = span_from(text, 1);
  return without_end(text);
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

static bool is_variable(struct span topic, size_t at)
{
  return at + 1 < topic.size && topic.at[at] == '%' && (topic.at[at + 1] == 'c' || topic.at[at + 1] == 'u');
}

// Of the level that begins at `at`.
static size_t level_size(struct span topic, size_t at)
{
  const uint8_t *end = at < topic.size ? memchr(topic.at + at, '/', topic.size - at) : NULL;
  return end ? (size_t)(end - topic.at) - at : topic.size - at;
}

static bool has_variable(struct span topic, uint8_t name)
{
  for (size_t i = 0; i < topic.size; i++)
    if (is_variable(topic, i) && topic.at[i + 1] == name) return true;
  return false;
}

// `rest`: what stands behind "topic" or "pattern". One word is the filter; of several the first is the access, and the rest,
// spaces and all, the filter.
static void read_topic(struct reader *reader, struct line line, struct span rest, const uint8_t *start)
{
  char shown[ACL_SHOWN + 1];
  struct span behind = rest, first = word(&behind);
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
  struct span level = span_of(line.topic.at, level_size(line.topic, 0));
  if (line.pattern && level.size > 0 && level.at[0] == '$' && (has_variable(level, 'c') || has_variable(level, 'u'))) {
    acl_complain(reader->reading, line.number, line.column,
                 "a first level that begins with '$' cannot have %%c or %%u in it here; name the level");
    return;
  }
  if (line.pattern) reader->patterns = true;
  keep(reader, &line);
}

static void read_line(struct reader *reader, struct span text, size_t number)
{
  static const char *const known[] = {"topic", "user", "pattern"};
  char shown[ACL_SHOWN + 1];
  if (text.size == 0 || text.at[0] == '#') return;
  struct span rest = without_end(text), first = word(&rest);
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
    if (topic.at[i] == '{') one = span_text("{{");
    if (topic.at[i] == '}') one = span_text("}}");
    if (line->pattern && is_variable(topic, i))
      one = topic.at[i + 1] == 'c' ? span_text("{client_id}") : span_text("{username}");
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

static void add_for(struct reader *reader, enum acl_subject subject, const char *who, bool allow, uint8_t verbs,
                    const struct span *filters, size_t count, size_t line)
{
  const struct acl_rule rule = {.subject = subject,
                                .who = span_text(who),
                                .verbs = verbs,
                                .allow = allow,
                                .qos_max = 2,
                                .topics = filters,
                                .topic_count = count,
                                .file = reader->reading->name,
                                .line = (uint32_t)line};
  acl_take(reader->reading, &rule, 0);
}

static void deny(struct reader *reader, enum acl_subject subject, const char *who, const struct span *filters, size_t count,
                 size_t line)
{
  add_for(reader, subject, who, false, ACL_PUBLISH | ACL_RECEIVE, filters, count, line);
}

// A name with '/' in it is several levels there, and one with '$' in front may begin a topic; here a rule matches nothing
// with such a name. That must not undo a denial: who has one is denied everything below where it stands.
static void deny_odd_names(struct reader *reader, const struct line *line, enum acl_subject subject, uint8_t variable)
{
  if (!has_variable(line->topic, variable)) return;
  size_t below = 0;
  for (size_t i = 0; !is_variable(line->topic, i); i++)
    if (line->topic.at[i] == '/') below = i + 1;
  const struct line whole = {.topic = span_of(line->topic.at, below)};
  struct text text = {0};
  if (translate_topic(reader, &whole, &text) && append(reader, &text, span_text("#"))) {
    const struct span filter = span_of(text.at, text.size);
    const struct span *filters = below > 0 ? &filter : reader->all;
    size_t count = below > 0 ? 1 : reader->all_count;
    deny(reader, subject, "*/*", filters, count, line->number);
    if (below == 0) deny(reader, subject, "$*", filters, count, line->number);
  }
  free(text.at);
}

static void add_lines(struct reader *reader, bool pattern, bool denies)
{
  for (size_t i = 0; i < reader->count; i++) {
    const struct line *line = &reader->lines[i];
    if (line->pattern != pattern || (line->access == DENY) != denies) continue;
    size_t problems = reader->reading->problem_count;
    add_line(reader, line);
    if (!pattern || !denies || reader->reading->problem_count > problems) continue;
    deny_odd_names(reader, line, ACL_USER, 'u');
    deny_odd_names(reader, line, ACL_CLIENT, 'c');
  }
}

// Finds the filters that have everything: "#", and one for each first level with '$' that the file names, because "#" has
// none of these. *out_texts is what they lie in: heap, also after a failure.
static bool find_all(struct reader *reader, char **out_texts)
{
  reader->all = calloc(reader->count + 2, sizeof *reader->all);
  char *texts = malloc(2 * reader->text.size + 3 * reader->count + 16);
  *out_texts = texts;
  if (!reader->all || !texts) return out_of_memory(reader);
  for (size_t i = 0; i < reader->count + 2; i++) {
    struct span topic = i == 0 ? span_text("#") : i == 1 ? span_text("$SYS") : reader->lines[i - 2].topic;
    if (i > 1 && topic.at[0] != '$') continue;
    size_t size = 0, level = level_size(topic, 0);
    for (size_t k = 0; k < level; k++) {
      texts[size++] = (char)topic.at[k];
      if (topic.at[k] == '{' || topic.at[k] == '}') texts[size++] = (char)topic.at[k];
    }
    if (i > 0) {
      memcpy(texts + size, "/#", 2);
      size += 2;
    }
    const struct span filter = span_of(texts, size);
    bool known = false;
    for (size_t k = 0; k < reader->all_count; k++) known |= span_equal(reader->all[k], filter);
    if (known || (i > 1 && memchr(texts, '+', size))) continue;
    reader->all[reader->all_count++] = filter;
    texts += size;
  }
  return true;
}

static void add_rules(struct reader *reader)
{
  add_lines(reader, false, true);
  add_lines(reader, false, false);
  static const char *const dangerous[] = {"*+*", "*#*"};
  for (size_t i = 0; reader->patterns && i < 2; i++) {
    deny(reader, ACL_USER, dangerous[i], reader->all, reader->all_count, 0);
    deny(reader, ACL_CLIENT, dangerous[i], reader->all, reader->all_count, 0);
  }
  add_lines(reader, true, true);
  add_lines(reader, true, false);
  add_for(reader, ACL_ANYBODY, "", true, ACL_SUBSCRIBE, reader->all, reader->all_count, 0);
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
  char *texts;
  if (find_all(&reader, &texts)) add_rules(&reader);
  free(texts);
  free(reader.all);
  free(reader.lines);
}
