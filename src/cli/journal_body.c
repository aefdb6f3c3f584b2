// Bodies of records. See journal_body.h.
#include "cli/journal_body.h"

#include "store/catalog.h"
#include "store/store_batch.h"

bool journal_session_name(enum record_type type, struct span body, uint32_t *out_session, struct span *out_client_id)
{
  struct record_session record;
  if (type == RECORD_CHECKPOINT_SESSION) return catalog_get_checkpoint_session(body, out_session, out_client_id);
  if (type != RECORD_SESSION || !record_get_session(body, &record)) return false;
  *out_session = record.session;
  *out_client_id = record.client_id;
  return true;
}

// ---- The store's own

bool journal_get_drop(struct span body, struct journal_retained *out)
{
  struct record_reader reader = {.rest = body};
  *out = (struct journal_retained){.position = record_read_u64(&reader)};
  out->topic = record_read_bytes(&reader, record_read_u16(&reader));
  return !reader.failed && reader.rest.size == 0;
}

// Seven bits a byte, the lowest first; the top bit says that there is more.
static uint64_t read_varint(struct record_reader *reader)
{
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    uint8_t byte = record_read_u8(reader);
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return value;
  }
  reader->failed = true;
  return 0;
}

// A signed number: even ones are positive.
static uint64_t unfold(uint64_t folded)
{
  return folded >> 1 ^ (folded & 1 ? UINT64_MAX : 0);
}

bool journal_next_retained(struct span body, size_t *cursor, struct journal_retained *entry)
{
  if (*cursor >= body.size) return false;
  struct record_reader reader = {.rest = span_from(body, *cursor)};
  entry->position += unfold(read_varint(&reader));
  entry->expiry_ms = read_varint(&reader);
  entry->weight = read_varint(&reader);
  uint64_t size = read_varint(&reader);
  if (size > UINT16_MAX) return false;
  entry->topic = record_read_bytes(&reader, (size_t)size);
  if (reader.failed) return false;
  *cursor = body.size - reader.rest.size;
  return true;
}

bool journal_get_checkpoint_begin(struct span body, uint64_t *out_now_ms)
{
  struct record_reader reader = {.rest = body};
  *out_now_ms = record_read_u64(&reader);
  return !reader.failed && reader.rest.size == 0;
}

bool journal_get_checkpoint_end(struct span body, struct journal_checkpoint_end *out)
{
  struct record_reader reader = {.rest = body};
  out->next_session = record_read_u32(&reader);
  out->sessions = record_read_u32(&reader);
  out->retained = record_read_u64(&reader);
  return !reader.failed && reader.rest.size == 0;
}

// ---- One session

// Of the records that concern one session and say more; false when the body cannot be read.
typedef bool get_session(struct span body, uint32_t *out_session);

static bool get_begin(struct span body, uint32_t *out_session)
{
  struct record_session record;
  bool good = record_get_session(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_end(struct span body, uint32_t *out_session)
{
  struct record_session_end record;
  bool good = record_get_session_end(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_back(struct span body, uint32_t *out_session)
{
  struct record_session_back record;
  bool good = record_get_session_back(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_away(struct span body, uint32_t *out_session)
{
  struct record_session_away record;
  bool good = record_get_session_away(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_subscribe(struct span body, uint32_t *out_session)
{
  struct record_subscribe record;
  bool good = record_get_subscribe(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_unsubscribe(struct span body, uint32_t *out_session)
{
  struct record_unsubscribe record;
  bool good = record_get_unsubscribe(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_will(struct span body, uint32_t *out_session)
{
  struct record_will record;
  bool good = record_get_will(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_packet_id(struct span body, uint32_t *out_session)
{
  struct record_packet_id record;
  bool good = record_get_packet_id(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_sent(struct span body, uint32_t *out_session)
{
  struct record_sent record;
  bool good = record_get_sent(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_done(struct span body, uint32_t *out_session)
{
  struct record_done record;
  bool good = record_get_done(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_owner(struct span body, uint32_t *out_session)
{
  struct record_owner record;
  bool good = record_get_owner(body, &record);
  *out_session = record.session;
  return good;
}

static bool get_references(struct span body, uint32_t *out_session)
{
  uint64_t place;
  uint32_t count;
  return catalog_get_references(body, out_session, &place, &count);
}

static bool get_checkpoint(struct span body, uint32_t *out_session)
{
  struct span client_id;
  return catalog_get_checkpoint_session(body, out_session, &client_id);
}

// NULL: the type concerns no session, or several.
static get_session *getter(enum record_type type)
{
  switch ((int)type) {
    case RECORD_SESSION: return get_begin;
    case RECORD_SESSION_END: return get_end;
    case RECORD_SESSION_BACK: return get_back;
    case RECORD_SESSION_AWAY: return get_away;
    case RECORD_SUBSCRIBE: return get_subscribe;
    case RECORD_UNSUBSCRIBE: return get_unsubscribe;
    case RECORD_WILL: return get_will;
    case RECORD_RECEIVED:
    case RECORD_RELEASED: return get_packet_id;
    case RECORD_SENT: return get_sent;
    case RECORD_DONE: return get_done;
    case RECORD_OWNER: return get_owner;
    case RECORD_REFERENCES: return get_references;
    case RECORD_CHECKPOINT_SESSION: return get_checkpoint;
    default: return NULL;
  }
}

// ---- All of them

static bool valid_retained(struct span body)
{
  struct journal_retained entry = {0};
  size_t cursor = 0;
  while (journal_next_retained(body, &cursor, &entry)) continue;
  return cursor == body.size;
}

bool journal_body_valid(enum record_type type, struct span body)
{
  uint32_t session;
  uint64_t now_ms;
  struct record_message message;
  struct store_batch batch;
  struct journal_retained retained;
  struct journal_checkpoint_end end;
  get_session *get = getter(type);
  if (get) return get(body, &session);
  switch ((int)type) {
    case RECORD_MESSAGE: return record_get_message(body, &message) && message.copy_of == 0;
    case RECORD_MESSAGE_COPY: return record_get_message(body, &message) && message.copy_of != 0;
    case RECORD_BATCH: return store_batch_get(body, &batch);
    case RECORD_CHECKPOINT_BEGIN: return journal_get_checkpoint_begin(body, &now_ms);
    case RECORD_CHECKPOINT_RETAINED: return valid_retained(body);
    case RECORD_CHECKPOINT_END: return journal_get_checkpoint_end(body, &end);
    case RECORD_RETAINED_DROP: return journal_get_drop(body, &retained);
    default: return false;
  }
}

void journal_each_session(enum record_type type, struct span body, void (*found)(void *context, uint32_t session),
                          void *context)
{
  uint32_t session;
  get_session *get = getter(type);
  if (get) {
    if (get(body, &session)) found(context, session);
    return;
  }
  struct record_message message;
  struct record_target target;
  if (type != RECORD_MESSAGE && type != RECORD_MESSAGE_COPY) return;
  if (!record_get_message(body, &message)) return;
  if (message.has_publisher) found(context, message.publisher);
  for (size_t cursor = 0; record_next_target(message.targets, &cursor, &target);) found(context, target.session);
}

void journal_each_topic(enum record_type type, struct span body, void (*found)(void *context, struct span topic),
                        void *context)
{
  struct record_message message;
  struct record_will will;
  struct journal_retained retained = {0};
  size_t cursor = 0;
  switch ((int)type) {
    case RECORD_MESSAGE:
    case RECORD_MESSAGE_COPY:
      if (record_get_message(body, &message)) found(context, message.topic);
      return;
    case RECORD_WILL:
      if (record_get_will(body, &will) && will.topic.size > 0) found(context, will.topic);
      return;
    case RECORD_RETAINED_DROP:
      if (journal_get_drop(body, &retained)) found(context, retained.topic);
      return;
    case RECORD_CHECKPOINT_RETAINED:
      while (journal_next_retained(body, &cursor, &retained)) found(context, retained.topic);
      return;
    default: return;
  }
}

// ---- Properties

// A string or binary data of MQTT: two bytes of length, big-endian, then itself.
static bool take_string(struct span properties, size_t *at, struct span *out)
{
  if (properties.size - *at < 2) return false;
  size_t size = (size_t)properties.at[*at] << 8 | properties.at[*at + 1];
  if (properties.size - *at - 2 < size) return false;
  *out = span_of(properties.at + *at + 2, size);
  *at += 2 + size;
  return true;
}

bool journal_next_property(struct span properties, size_t *cursor, struct journal_property *out)
{
  enum { PAYLOAD_FORMAT = 0x01, CONTENT_TYPE = 0x03, RESPONSE_TOPIC = 0x08, CORRELATION_DATA = 0x09, USER_PROPERTY = 0x26 };
  if (*cursor >= properties.size) return false;
  size_t at = *cursor + 1;
  bool good = false;
  *out = (struct journal_property){.kind = PROPERTY_BYTES};
  switch (properties.at[*cursor]) {
    case PAYLOAD_FORMAT:
      good = at < properties.size;
      *out = (struct journal_property){
          .name = "payload-format-indicator", .kind = PROPERTY_NUMBER, .number = good ? properties.at[at++] : 0};
      break;
    case CONTENT_TYPE:
      out->name = "content-type";
      good = take_string(properties, &at, &out->value);
      break;
    case RESPONSE_TOPIC:
      out->name = "response-topic";
      good = take_string(properties, &at, &out->value);
      break;
    case CORRELATION_DATA:
      out->name = "correlation-data";
      good = take_string(properties, &at, &out->value);
      break;
    case USER_PROPERTY:
      *out = (struct journal_property){.name = "user-property", .kind = PROPERTY_PAIR};
      good = take_string(properties, &at, &out->key) && take_string(properties, &at, &out->value);
      break;
    default: break;
  }
  if (good) *cursor = at;
  return good;
}
