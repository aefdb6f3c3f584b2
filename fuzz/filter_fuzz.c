// A filter, a NUL, a topic. Parsing and matching are compared with a naive recursive reading of section 4.7, written for
// this file.
#include <stdlib.h>
#include <string.h>

#include "mqtt/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

// ---- NUL-terminated and slow on purpose

// The level at the front ends here.
static const char *level_end(const char *text)
{
  while (*text && *text != '/') text++;
  return text;
}

static bool naive_levels_valid(const char *filter)
{
  const char *end = level_end(filter);
  size_t size = (size_t)(end - filter);
  bool hash = memchr(filter, '#', size) != NULL;
  bool plus = memchr(filter, '+', size) != NULL;
  if ((hash || plus) && size != 1) return false;
  if (hash) return *end == '\0';
  return *end == '\0' || naive_levels_valid(end + 1);
}

static bool naive_valid(const char *text, const char **out_filter)
{
  *out_filter = text;
  if (strncmp(text, "$share/", 7) == 0) {
    const char *name = text + 7;
    const char *end = level_end(name);
    if (end == name || *end == '\0') return false;
    for (const char *at = name; at < end; at++)
      if (*at == '+' || *at == '#') return false;
    *out_filter = end + 1;
  }
  return **out_filter != '\0' && naive_levels_valid(*out_filter);
}

static bool naive_matches_from(const char *filter, const char *topic)
{
  if (strcmp(filter, "#") == 0) return true;
  const char *filter_end = level_end(filter);
  const char *topic_end = level_end(topic);
  bool any = filter_end - filter == 1 && *filter == '+';
  bool same = filter_end - filter == topic_end - topic && memcmp(filter, topic, (size_t)(filter_end - filter)) == 0;
  if (!any && !same) return false;
  if (*topic_end == '\0') return *filter_end == '\0' || strcmp(filter_end, "/#") == 0;
  return *filter_end == '/' && naive_matches_from(filter_end + 1, topic_end + 1);
}

static bool naive_matches(const char *filter, const char *topic)
{
  if (*topic == '$' && (*filter == '+' || *filter == '#')) return false;
  return naive_matches_from(filter, topic);
}

// ---- Exact copies, with and without the terminator

static char *terminated(const uint8_t *at, size_t size)
{
  char *copy = malloc(size + 1);
  check(copy != NULL);
  memcpy(copy, at, size);
  copy[size] = '\0';
  return copy;
}

static struct span exact(const char *text)
{
  size_t size = strlen(text);
  uint8_t *copy = malloc(size > 0 ? size : 1);
  check(copy != NULL);
  memcpy(copy, text, size);
  return span_of(copy, size);
}

static void check_levels(struct span text)
{
  size_t cursor = 0;
  size_t total = 0;
  size_t count = 0;
  struct span level;
  while (mqtt_next_level(text, &cursor, &level)) {
    check(level.size == 0 || memchr(level.at, '/', level.size) == NULL);
    total += level.size;
    count++;
  }
  check(count > 0);
  check(total + count - 1 == text.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
  if (!nul || size > 2048) return 0;
  char *filter_text = terminated(data, (size_t)(nul - data));
  char *topic_text = terminated(nul + 1, size - (size_t)(nul - data) - 1);
  struct span whole = exact(filter_text);
  struct span topic = exact(topic_text);  // up to the next NUL, if there is one

  const char *naive_filter;
  bool valid = naive_valid(filter_text, &naive_filter);
  struct mqtt_filter filter;
  check(mqtt_filter_parse(whole, &filter) == valid);
  check_levels(topic);
  if (valid) {
    check(span_equal(filter.filter, span_text(naive_filter)));
    check((filter.share.size > 0) == (naive_filter != filter_text));
    check(filter.wildcard == (strpbrk(naive_filter, "+#") != NULL));
    check_levels(filter.filter);
    if (mqtt_topic_valid(topic)) {
      check(mqtt_filter_matches(filter.filter, topic) == naive_matches(naive_filter, topic_text));
      if (!filter.wildcard) check(mqtt_filter_matches(filter.filter, topic) == span_equal(filter.filter, topic));
    }
  }
  check(mqtt_topic_valid(topic) == (*topic_text != '\0' && strpbrk(topic_text, "+#") == NULL));

  free((void *)(uintptr_t)whole.at);
  free((void *)(uintptr_t)topic.at);
  free(filter_text);
  free(topic_text);
  return 0;
}
