// Choosing records. See journal_filter.h.
#include "cli/journal_filter.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "cli/journal_body.h"
#include "mqtt/topic.h"
#include "store/log.h"

static const struct type_name {
  enum record_type type;
  const char *name;
} types[] = {
    {RECORD_SESSION, "session"},
    {RECORD_SESSION_END, "session_end"},
    {RECORD_SESSION_BACK, "session_back"},
    {RECORD_SESSION_AWAY, "session_away"},
    {RECORD_SUBSCRIBE, "subscribe"},
    {RECORD_UNSUBSCRIBE, "unsubscribe"},
    {RECORD_WILL, "will"},
    {RECORD_MESSAGE, "message"},
    {RECORD_RECEIVED, "received"},
    {RECORD_RELEASED, "released"},
    {RECORD_SENT, "sent"},
    {RECORD_DONE, "done"},
    {RECORD_OWNER, "owner"},
    {RECORD_BATCH, "batch"},
    {RECORD_REFERENCES, "references"},
    {RECORD_MESSAGE_COPY, "message_copy"},
    {RECORD_CHECKPOINT_BEGIN, "checkpoint_begin"},
    {RECORD_CHECKPOINT_SESSION, "checkpoint_session"},
    {RECORD_CHECKPOINT_RETAINED, "checkpoint_retained"},
    {RECORD_CHECKPOINT_END, "checkpoint_end"},
    {RECORD_RETAINED_DROP, "retained_drop"},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

const char *journal_type_name(enum record_type type)
{
  for (size_t i = 0; i < TYPE_COUNT; i++)
    if (types[i].type == type) return types[i].name;
  return NULL;
}

enum status journal_filter_add_type(struct journal_filter *filter, const char *name, struct error *error)
{
  const char *names[TYPE_COUNT];
  char all[400];
  size_t used = 0;
  for (size_t i = 0; i < TYPE_COUNT; i++) {
    if (strcmp(types[i].name, name) == 0) {
      filter->types |= UINT64_C(1) << types[i].type;
      return OK;
    }
    names[i] = types[i].name;
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", types[i].name);
  }
  const char *nearest = nearest_name(name, names, TYPE_COUNT);
  if (nearest) return error_set(error, ERR_INVALID, "no record type is called \"%s\"; did you mean \"%s\"?", name, nearest);
  return error_set(error, ERR_INVALID, "no record type is called \"%s\"; known are %s", name, all);
}

// ---- By session

struct session_search {
  const struct journal_names *names;
  struct span client_id;
  bool found;
};

static void look_at_session(void *context, uint32_t session)
{
  struct session_search *search = context;
  struct span client_id;
  if (!search->found && journal_names_find(search->names, session, &client_id))
    search->found = span_equal(client_id, search->client_id);
}

// ---- By topic

struct topic_search {
  struct span filter;
  bool found;
};

static void look_at_topic(void *context, struct span topic)
{
  struct topic_search *search = context;
  if (!search->found) search->found = mqtt_filter_matches(search->filter, topic);
}

bool journal_filter_passes(const struct journal_filter *filter, const struct journal_names *names,
                           const struct record_header *header, struct span body, uint64_t position)
{
  enum record_type type = record_type(header);
  uint64_t sequence = record_sequence(header);
  if (sequence < filter->from || (filter->to > 0 && sequence > filter->to)) return false;
  if (filter->segment > 0 && position_segment(position) != filter->segment) return false;
  if (filter->types && ((unsigned)type >= JOURNAL_TYPES_MAX || !(filter->types >> (unsigned)type & 1))) return false;
  if (filter->session) {
    struct session_search search = {.names = names, .client_id = span_text(filter->session)};
    journal_each_session(type, body, look_at_session, &search);
    if (!search.found) return false;
  }
  if (filter->topic) {
    struct topic_search search = {.filter = span_text(filter->topic)};
    journal_each_topic(type, body, look_at_topic, &search);
    if (!search.found) return false;
  }
  return true;
}
