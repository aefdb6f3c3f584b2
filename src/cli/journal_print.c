// Records as lines. See journal_print.h.
#include "cli/journal_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/journal_body.h"
#include "cli/journal_filter.h"
#include "core/identity.h"
#include "store/catalog.h"
#include "store/log.h"
#include "store/store_batch.h"

enum status journal_learn(struct journal_names *names, enum record_type type, struct span body)
{
  struct store_batch batch;
  if (type == RECORD_BATCH && store_batch_get(body, &batch)) {
    names->clock_known = true;
    names->clock_ms = batch.wall.ms - (int64_t)batch.journal_ms;
    names->newest_ms = batch.journal_ms;
  }
  uint32_t session;
  struct span client_id;
  return journal_session_name(type, body, &session, &client_id) ? journal_names_add(names, session, client_id) : OK;
}

// ---- What records have in common

static void put_session(const struct journal_print *print, struct journal_line *line, uint32_t session)
{
  struct span client_id;
  line_uint(line, "session", session);
  if (journal_names_find(print->names, session, &client_id)) line_text(line, "client", client_id);
}

// As the time that it was, when a BATCH record told which; otherwise as it is in the record.
static void put_time(const struct journal_print *print, struct journal_line *line, const char *name, const char *name_ms,
                     uint64_t journal_ms)
{
  if (print->names->clock_known)
    line_time(line, name, (int64_t)journal_ms + print->names->clock_ms);
  else
    line_uint(line, name_ms, journal_ms);
}

static void put_expiry(struct journal_line *line, uint32_t expiry_s)
{
  if (expiry_s == UINT32_MAX)
    line_text(line, "expiry", span_text("never"));
  else
    line_uint(line, "expiry_s", expiry_s);
}

static void put_property(struct journal_line *line, const struct journal_property *property, enum line_bytes form)
{
  line_open_item(line);
  line_text(line, "name", span_text(property->name));
  switch (property->kind) {
    case PROPERTY_NUMBER: line_uint(line, "value", property->number); break;
    case PROPERTY_BYTES: line_bytes(line, "value", property->value, form); break;
    case PROPERTY_PAIR:
      line_bytes(line, "key", property->key, form);
      line_bytes(line, "value", property->value, form);
      break;
  }
  line_close_item(line);
}

// Payload and properties: their sizes always, themselves only when asked for.
static void put_contents(const struct journal_print *print, struct journal_line *line, struct span payload,
                         struct span properties)
{
  line_uint(line, "payload_size", payload.size);
  if (properties.size > 0) line_uint(line, "properties_size", properties.size);
  if (print->payloads == LINE_BYTES_NONE) return;
  line_bytes(line, "payload", payload, print->payloads);
  if (properties.size == 0) return;
  size_t cursor = 0;
  struct journal_property property;
  line_open_list(line, "properties");
  while (journal_next_property(properties, &cursor, &property)) put_property(line, &property, print->payloads);
  line_close_list(line);
}

// ---- Sessions

static bool put_session_begin(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_session record;
  if (!record_get_session(body, &record)) return false;
  put_session(print, line, record.session);
  if (record.user.size > 0) line_text(line, "user", record.user);
  put_expiry(line, record.expiry_s);
  return true;
}

static bool put_owner(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_owner record;
  if (!record_get_owner(body, &record)) return false;
  put_session(print, line, record.session);
  line_text(line, "user", record.user);
  return true;
}

static bool put_session_end(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_session_end record;
  if (!record_get_session_end(body, &record)) return false;
  put_session(print, line, record.session);
  return true;
}

static bool put_session_back(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_session_back record;
  if (!record_get_session_back(body, &record)) return false;
  put_session(print, line, record.session);
  put_expiry(line, record.expiry_s);
  line_uint(line, "window", record.window);
  return true;
}

static bool put_session_away(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_session_away record;
  if (!record_get_session_away(body, &record)) return false;
  put_session(print, line, record.session);
  put_expiry(line, record.expiry_s);
  put_time(print, line, "since", "since_ms", record.since_ms);
  line_uint(line, "sent", record.sent);
  return true;
}

static bool put_subscribe(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_subscribe record;
  if (!record_get_subscribe(body, &record)) return false;
  put_session(print, line, record.session);
  line_text(line, "filter", record.filter);
  line_uint(line, "qos", record.qos);
  line_flag(line, "no_local", record.no_local);
  line_flag(line, "retain_as_published", record.retain_as_published);
  if (record.id > 0) line_uint(line, "id", record.id);
  return true;
}

static bool put_unsubscribe(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_unsubscribe record;
  if (!record_get_unsubscribe(body, &record)) return false;
  put_session(print, line, record.session);
  line_text(line, "filter", record.filter);
  return true;
}

// What certificates and tokens say of it beside that is for access control.
static void put_maker(struct journal_line *line, struct span maker)
{
  const struct identity *identity = maker.size > 0 ? identity_read(maker) : NULL;
  if (!identity) return;
  if (identity->user.size > 0) line_text(line, "user", identity->user);
  if (identity->listener.size > 0) line_text(line, "listener", identity->listener);
  identity_unref(identity);
}

static bool put_will(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_will record;
  if (!record_get_will(body, &record)) return false;
  put_session(print, line, record.session);
  if (record.topic.size == 0) {
    line_flag(line, "cleared", true);
    return true;
  }
  line_text(line, "topic", record.topic);
  line_uint(line, "qos", record.qos);
  line_flag(line, "retain", record.retain);
  line_uint(line, "delay_s", record.delay_s);
  if (record.has_expiry) line_uint(line, "message_expiry_s", record.expiry_s);
  put_maker(line, record.maker);
  put_contents(print, line, record.payload, record.properties);
  return true;
}

// ---- Messages

static void put_target(const struct journal_print *print, struct journal_line *line, const struct record_target *target)
{
  line_open_item(line);
  put_session(print, line, target->session);
  line_uint(line, "place", target->place);
  line_uint(line, "qos", target->qos);
  line_flag(line, "retain", target->retain);
  if (target->group) line_uint(line, "group", target->group);
  if (target->id_count > 0) {
    line_open_list(line, "ids");
    for (unsigned i = 0; i < target->id_count; i++) line_value(line, record_target_id(target, i));
    line_close_list(line);
  }
  line_close_item(line);
}

static bool put_message(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_message record;
  if (!record_get_message(body, &record)) return false;
  line_text(line, "topic", record.topic);
  line_uint(line, "qos", record.qos);
  line_flag(line, "retain", record.retain);
  line_flag(line, "store", record.store);
  put_time(print, line, "time", "time_ms", record.time_ms);
  if (record.expiry_ms) put_time(print, line, "expires", "expires_ms", record.expiry_ms);
  if (record.has_publisher) {
    line_open_object(line, "publisher");
    put_session(print, line, record.publisher);
    line_uint(line, "packet_id", record.packet_id);
    line_close_object(line);
  }
  if (record.copy_of) {
    line_open_object(line, "copy_of");
    line_uint(line, "segment", position_segment(record.copy_of));
    line_uint(line, "offset", position_offset(record.copy_of));
    line_close_object(line);
  }
  put_contents(print, line, record.payload, record.properties);
  size_t cursor = 0;
  struct record_target target;
  line_open_list(line, "targets");
  while (record_next_target(record.targets, &cursor, &target)) put_target(print, line, &target);
  line_close_list(line);
  return true;
}

static bool put_packet_id(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_packet_id record;
  if (!record_get_packet_id(body, &record)) return false;
  put_session(print, line, record.session);
  line_uint(line, "packet_id", record.packet_id);
  return true;
}

static bool put_sent(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_sent record;
  if (!record_get_sent(body, &record)) return false;
  put_session(print, line, record.session);
  line_uint(line, "place", record.place);
  return true;
}

static bool put_done(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct record_done record;
  if (!record_get_done(body, &record)) return false;
  put_session(print, line, record.session);
  line_uint(line, "place", record.place);
  line_uint(line, "count", record.count);
  line_text(line, "outcome", span_text(record_outcome_name(record.outcome)));
  return true;
}

static bool put_batch(const struct journal_print *print, struct journal_line *line, struct span body)
{
  (void)print;
  struct store_batch batch;
  if (!store_batch_get(body, &batch)) return false;
  line_time(line, "time", batch.wall.ms);
  line_uint(line, "journal_ms", batch.journal_ms);
  line_uint(line, "safe", batch.safe);
  return true;
}

// ---- The store's own

static bool put_references(const struct journal_print *print, struct journal_line *line, struct span body)
{
  uint32_t session, count;
  uint64_t place;
  if (!catalog_get_references(body, &session, &place, &count)) return false;
  put_session(print, line, session);
  line_uint(line, "place", place);
  line_uint(line, "count", count);
  return true;
}

static bool put_checkpoint_session(const struct journal_print *print, struct journal_line *line, struct span body)
{
  uint32_t session;
  struct span client_id;
  if (!catalog_get_checkpoint_session(body, &session, &client_id)) return false;
  put_session(print, line, session);
  struct span user = catalog_get_checkpoint_owner(body);
  if (user.size > 0) line_text(line, "user", user);
  return true;
}

static void put_retained_entry(const struct journal_print *print, struct journal_line *line,
                               const struct journal_retained *entry)
{
  line_text(line, "topic", entry->topic);
  line_open_object(line, "at");
  line_uint(line, "segment", position_segment(entry->position));
  line_uint(line, "offset", position_offset(entry->position));
  line_close_object(line);
  if (entry->expiry_ms) put_time(print, line, "expires", "expires_ms", entry->expiry_ms);
}

static bool put_checkpoint_retained(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct journal_retained entry = {0};
  line_open_list(line, "retained");
  for (size_t cursor = 0; journal_next_retained(body, &cursor, &entry);) {
    line_open_item(line);
    put_retained_entry(print, line, &entry);
    line_close_item(line);
  }
  line_close_list(line);
  return true;
}

static bool put_drop(const struct journal_print *print, struct journal_line *line, struct span body)
{
  struct journal_retained entry;
  if (!journal_get_drop(body, &entry)) return false;
  put_retained_entry(print, line, &entry);
  return true;
}

static bool put_checkpoint_begin(const struct journal_print *print, struct journal_line *line, struct span body)
{
  uint64_t now_ms;
  if (!journal_get_checkpoint_begin(body, &now_ms)) return false;
  put_time(print, line, "time", "time_ms", now_ms);
  return true;
}

static bool put_checkpoint_end(const struct journal_print *print, struct journal_line *line, struct span body)
{
  (void)print;
  struct journal_checkpoint_end end;
  if (!journal_get_checkpoint_end(body, &end)) return false;
  line_uint(line, "sessions", end.sessions);
  line_uint(line, "retained", end.retained);
  line_uint(line, "next_session", end.next_session);
  return true;
}

typedef bool put_body(const struct journal_print *print, struct journal_line *line, struct span body);

static put_body *printer(enum record_type type)
{
  switch ((int)type) {
    case RECORD_SESSION: return put_session_begin;
    case RECORD_SESSION_END: return put_session_end;
    case RECORD_SESSION_BACK: return put_session_back;
    case RECORD_SESSION_AWAY: return put_session_away;
    case RECORD_SUBSCRIBE: return put_subscribe;
    case RECORD_UNSUBSCRIBE: return put_unsubscribe;
    case RECORD_WILL: return put_will;
    case RECORD_MESSAGE:
    case RECORD_MESSAGE_COPY: return put_message;
    case RECORD_RECEIVED:
    case RECORD_RELEASED: return put_packet_id;
    case RECORD_SENT: return put_sent;
    case RECORD_DONE: return put_done;
    case RECORD_OWNER: return put_owner;
    case RECORD_BATCH: return put_batch;
    case RECORD_REFERENCES: return put_references;
    case RECORD_CHECKPOINT_SESSION: return put_checkpoint_session;
    case RECORD_CHECKPOINT_BEGIN: return put_checkpoint_begin;
    case RECORD_CHECKPOINT_RETAINED: return put_checkpoint_retained;
    case RECORD_CHECKPOINT_END: return put_checkpoint_end;
    case RECORD_RETAINED_DROP: return put_drop;
    default: return NULL;
  }
}

// ---- Lines

enum status journal_print_record(const struct journal_print *print, const struct record_header *header, struct span body,
                                 uint64_t position)
{
  enum record_type type = record_type(header);
  const char *name = journal_type_name(type);
  char number[24];
  snprintf(number, sizeof number, "type_%u", (unsigned)type);
  struct journal_line line;
  line_begin(&line, print->out, print->form);
  line_number(&line, "sequence", record_sequence(header));
  line_word(&line, "type", name ? name : number);
  line_uint(&line, "segment", position_segment(position));
  line_uint(&line, "offset", position_offset(position));
  line_uint(&line, "size", header->size);
  put_body *put = printer(type);
  if (!put || !journal_body_valid(type, body))
    line_flag(&line, "unreadable", true);
  else
    put(print, &line, body);
  return line_end(&line);
}
