// UTF-8 as MQTT allows it, topic names, topic filters and their meaning. The subscription index of src/core is faster and is
// tested against mqtt_filter_matches.
#include "mqtt/topic.h"

#include "base/utf8.h"
#include "mqtt/internal.h"

enum text_verdict mqtt_text_check(struct span text)
{
  size_t i = 0;
  while (i < text.size) {
    if (text.size - i >= 8) {
      uint64_t word = text_word(text.at + i);
      if (((word | ~(word + TEXT_EACH_BYTE(0x7f))) & TEXT_EACH_BYTE(0x80)) == 0) {
        i += 8;
        continue;
      }
    }
    uint8_t byte = text.at[i];
    if (byte == 0) return TEXT_HAS_NUL;
    if (byte < 0x80) {
      i++;
      continue;
    }
    size_t size = utf8_next(span_from(text, i)).size;
    if (size == 0) return TEXT_ILL_FORMED;
    i += size;
  }
  return TEXT_VALID;
}

bool mqtt_utf8_valid(struct span text)
{
  return mqtt_text_check(text) == TEXT_VALID;
}

bool mqtt_topic_valid(struct span topic)
{
  return topic.size > 0 && !text_has_wildcard(topic);
}

static bool filter_levels_valid(struct span filter, bool *out_wildcard)
{
  if (filter.size == 0) return false;
  bool wildcard = false;
  for (size_t i = 0; i < filter.size; i++) {
    uint8_t byte = filter.at[i];
    if (byte != '+' && byte != '#') continue;
    if (i > 0 && filter.at[i - 1] != '/') return false;
    bool last = i + 1 == filter.size;
    if (byte == '#' && !last) return false;
    if (byte == '+' && !last && filter.at[i + 1] != '/') return false;
    wildcard = true;
  }
  *out_wildcard = wildcard;
  return true;
}

static const char share_prefix[] = "$share/";
enum { PREFIX_SIZE = sizeof share_prefix - 1 };

bool mqtt_filter_parse(struct span text, struct mqtt_filter *out)
{
  struct mqtt_filter filter = {.filter = text};
  if (text.size >= PREFIX_SIZE && memcmp(text.at, share_prefix, PREFIX_SIZE) == 0) {
    struct span rest = span_from(text, PREFIX_SIZE);
    const uint8_t *slash = rest.size > 0 ? memchr(rest.at, '/', rest.size) : NULL;
    if (!slash) return false;
    filter.share = span_of(rest.at, (size_t)(slash - rest.at));
    if (filter.share.size == 0) return false;
    if (text_has_wildcard(filter.share)) return false;
    filter.filter = span_from(rest, filter.share.size + 1);
  }
  if (!filter_levels_valid(filter.filter, &filter.wildcard)) return false;
  *out = filter;
  return true;
}

// The cursor is where the next level starts; one past the size when the last level has been handed out.
bool mqtt_next_level(struct span topic, size_t *cursor, struct span *out_level)
{
  if (*cursor > topic.size) return false;
  struct span rest = topic.at ? span_from(topic, *cursor) : topic;
  const uint8_t *slash = rest.size > 0 ? memchr(rest.at, '/', rest.size) : NULL;
  size_t size = slash ? (size_t)(slash - rest.at) : rest.size;
  *out_level = span_of(rest.at, size);
  *cursor += size + 1;
  return true;
}

static bool level_is(struct span level, uint8_t byte)
{
  return level.size == 1 && level.at[0] == byte;
}

bool mqtt_filter_matches(struct span filter, struct span topic)
{
  bool hidden = topic.size > 0 && topic.at[0] == '$';
  if (hidden && filter.size > 0 && (filter.at[0] == '+' || filter.at[0] == '#')) return false;
  size_t filter_cursor = 0;
  size_t topic_cursor = 0;
  struct span wanted;
  struct span level;
  while (mqtt_next_level(filter, &filter_cursor, &wanted)) {
    // Also when the topic has no more levels: "a/#" includes the parent "a".
    if (level_is(wanted, '#')) return true;
    if (!mqtt_next_level(topic, &topic_cursor, &level)) return false;
    if (!level_is(wanted, '+') && !span_equal(wanted, level)) return false;
  }
  return !mqtt_next_level(topic, &topic_cursor, &level);
}
