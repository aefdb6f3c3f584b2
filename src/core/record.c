// Layouts of the records, byte by byte. Every field is little-endian; nothing in a body is aligned. Flags that are not named
// are 0, and a body with others is refused: they belong to a newer version.
#include "core/record.h"

#include <assert.h>
#include <string.h>

#include "core/identity.h"
#include "core/message.h"

static_assert(sizeof(struct record_header) == 16, "16 bytes in a file");

static const char *const outcome_names[OUTCOMES] = {
    [OUTCOME_DELIVERED] = "delivered",
    [OUTCOME_EXPIRED] = "expired",
    [OUTCOME_QUEUE_FULL] = "queue_full",
    [OUTCOME_QUEUE_AGE] = "queue_age",
    [OUTCOME_PACKET_TOO_LARGE] = "packet_too_large",
    [OUTCOME_REFUSED] = "refused",
    [OUTCOME_DAMAGED] = "damaged",
    [OUTCOME_SESSION_ENDED] = "session_ended",
};

const char *record_outcome_name(enum record_outcome outcome)
{
  assert((unsigned)outcome < OUTCOMES);
  return outcome_names[outcome];
}

// ---- Fields. Byte by byte: compilers make one access of it, and big-endian machines write the same files.

uint8_t *record_write_u16(uint8_t *at, uint16_t value)
{
  at[0] = (uint8_t)value;
  at[1] = (uint8_t)(value >> 8);
  return at + 2;
}

uint8_t *record_write_u32(uint8_t *at, uint32_t value)
{
  at[0] = (uint8_t)value;
  at[1] = (uint8_t)(value >> 8);
  at[2] = (uint8_t)(value >> 16);
  at[3] = (uint8_t)(value >> 24);
  return at + 4;
}

uint8_t *record_write_u64(uint8_t *at, uint64_t value)
{
  return record_write_u32(record_write_u32(at, (uint32_t)value), (uint32_t)(value >> 32));
}

uint8_t *record_write_bytes(uint8_t *at, struct span bytes)
{
  if (bytes.size > 0) memcpy(at, bytes.at, bytes.size);
  return at + bytes.size;
}

static uint16_t load_u16(const uint8_t *at)
{
  return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t load_u32(const uint8_t *at)
{
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

// The next `size` bytes, NULL when they are not there.
static const uint8_t *take(struct record_reader *reader, size_t size)
{
  if (reader->failed || size > reader->rest.size) {
    reader->failed = true;
    return NULL;
  }
  const uint8_t *at = reader->rest.at;
  reader->rest = span_from(reader->rest, size);
  return at;
}

uint8_t record_read_u8(struct record_reader *reader)
{
  const uint8_t *at = take(reader, 1);
  return at ? *at : 0;
}

uint16_t record_read_u16(struct record_reader *reader)
{
  const uint8_t *at = take(reader, 2);
  return at ? load_u16(at) : 0;
}

uint32_t record_read_u32(struct record_reader *reader)
{
  const uint8_t *at = take(reader, 4);
  return at ? load_u32(at) : 0;
}

uint64_t record_read_u64(struct record_reader *reader)
{
  const uint8_t *at = take(reader, 8);
  return at ? (uint64_t)load_u32(at) | (uint64_t)load_u32(at + 4) << 32 : 0;
}

struct span record_read_bytes(struct record_reader *reader, size_t size)
{
  const uint8_t *at = size > 0 ? take(reader, size) : NULL;
  return span_of(at, at ? size : 0);
}

static bool complete(const struct record_reader *reader)
{
  return !reader->failed && reader->rest.size == 0;
}

// A text: two bytes of length, then itself.
static struct span read_text(struct record_reader *reader)
{
  return record_read_bytes(reader, record_read_u16(reader));
}

static uint8_t *write_text(uint8_t *at, struct span text)
{
  assert(text.size <= UINT16_MAX);
  return record_write_bytes(record_write_u16(at, (uint16_t)text.size), text);
}

// ---- Records

uint8_t *record_put_room(struct buffer *out, enum record_type type, uint64_t body_size)
{
  if (body_size > UINT32_MAX) return NULL;
  size_t length = (size_t)record_length((uint32_t)body_size);
  if (length < body_size) return NULL;
  uint8_t *at = buffer_reserve(out, length);
  if (!at) return NULL;
  memset(at + length - RECORD_ALIGN, 0, RECORD_ALIGN);
  buffer_commit(out, length);
  at = record_write_u32(at, 0);
  at = record_write_u32(at, (uint32_t)body_size);
  return record_write_u64(at, (uint64_t)type << RECORD_SEQUENCE_BITS);
}

enum status record_put(struct buffer *out, enum record_type type, struct span body)
{
  uint8_t *at = record_put_room(out, type, body.size);
  if (!at) return ERR_NO_MEMORY;
  record_write_bytes(at, body);
  return OK;
}

// session u32, expiry u32, client identifier (text), user (text) unless it is nobody's
enum status record_put_session(struct buffer *out, const struct record_session *record)
{
  uint64_t size = (uint64_t)10 + record->client_id.size + (record->user.size > 0 ? 2 + record->user.size : 0);
  uint8_t *at = record_put_room(out, RECORD_SESSION, size);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, record->session);
  at = record_write_u32(at, record->expiry_s);
  at = write_text(at, record->client_id);
  if (record->user.size > 0) write_text(at, record->user);
  return OK;
}

bool record_get_session(struct span body, struct record_session *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->expiry_s = record_read_u32(&reader);
  out->client_id = read_text(&reader);
  out->user = (struct span){0};
  if (!reader.failed && reader.rest.size > 0) {
    out->user = read_text(&reader);
    if (out->user.size == 0) return false;
  }
  return complete(&reader);
}

// session u32
enum status record_put_session_end(struct buffer *out, const struct record_session_end *record)
{
  uint8_t *at = record_put_room(out, RECORD_SESSION_END, 4);
  if (!at) return ERR_NO_MEMORY;
  record_write_u32(at, record->session);
  return OK;
}

bool record_get_session_end(struct span body, struct record_session_end *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  return complete(&reader);
}

// session u32, expiry u32, window u16
enum status record_put_session_back(struct buffer *out, const struct record_session_back *record)
{
  uint8_t *at = record_put_room(out, RECORD_SESSION_BACK, 10);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, record->session);
  at = record_write_u32(at, record->expiry_s);
  record_write_u16(at, record->window);
  return OK;
}

bool record_get_session_back(struct span body, struct record_session_back *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->expiry_s = record_read_u32(&reader);
  out->window = record_read_u16(&reader);
  return complete(&reader);
}

// session u32, expiry u32, since u64, sent u64
enum status record_put_session_away(struct buffer *out, const struct record_session_away *record)
{
  uint8_t *at = record_put_room(out, RECORD_SESSION_AWAY, 24);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, record->session);
  at = record_write_u32(at, record->expiry_s);
  at = record_write_u64(at, record->since_ms);
  record_write_u64(at, record->sent);
  return OK;
}

bool record_get_session_away(struct span body, struct record_session_away *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->expiry_s = record_read_u32(&reader);
  out->since_ms = record_read_u64(&reader);
  out->sent = record_read_u64(&reader);
  return complete(&reader);
}

enum { QOS_BITS = 3, QOS_MAX = 2 };

// session u32, subscription identifier u32, flags u8 (0-1 QoS, 2 no local, 3 retain as published), filter (text)
enum { SUBSCRIBE_NO_LOCAL = 4, SUBSCRIBE_AS_PUBLISHED = 8, SUBSCRIBE_FLAGS = 15 };

enum status record_put_subscribe(struct buffer *out, const struct record_subscribe *record)
{
  assert(record->qos <= QOS_MAX);
  uint8_t *at = record_put_room(out, RECORD_SUBSCRIBE, 11 + record->filter.size);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, record->session);
  at = record_write_u32(at, record->id);
  at = record_write_u8(at, (uint8_t)(record->qos | (record->no_local ? SUBSCRIBE_NO_LOCAL : 0) |
                                     (record->retain_as_published ? SUBSCRIBE_AS_PUBLISHED : 0)));
  write_text(at, record->filter);
  return OK;
}

bool record_get_subscribe(struct span body, struct record_subscribe *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->id = record_read_u32(&reader);
  uint8_t flags = record_read_u8(&reader);
  out->qos = flags & QOS_BITS;
  out->no_local = flags & SUBSCRIBE_NO_LOCAL;
  out->retain_as_published = flags & SUBSCRIBE_AS_PUBLISHED;
  out->filter = read_text(&reader);
  return complete(&reader) && out->qos <= QOS_MAX && (flags & ~SUBSCRIBE_FLAGS) == 0;
}

// session u32, filter (text)
enum status record_put_unsubscribe(struct buffer *out, const struct record_unsubscribe *record)
{
  uint8_t *at = record_put_room(out, RECORD_UNSUBSCRIBE, 6 + record->filter.size);
  if (!at) return ERR_NO_MEMORY;
  write_text(record_write_u32(at, record->session), record->filter);
  return OK;
}

bool record_get_unsubscribe(struct span body, struct record_unsubscribe *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->filter = read_text(&reader);
  return complete(&reader);
}

// session u32, delay u32, expiry u32, flags u8 (0-1 QoS, 2 retain, 3 has an expiry, 4 has a maker), topic size u16, payload
// size u32, properties size u32, with a maker its size u32; topic, payload, properties, maker
enum { WILL_FIXED = 23, WILL_RETAIN = 4, WILL_EXPIRY = 8, WILL_MAKER = 16, WILL_FLAGS = 31 };

static uint8_t will_flags(const struct record_will *record)
{
  int flags = record->qos;
  if (record->retain) flags |= WILL_RETAIN;
  if (record->has_expiry) flags |= WILL_EXPIRY;
  if (record->maker.size > 0) flags |= WILL_MAKER;
  return (uint8_t)flags;
}

enum status record_put_will(struct buffer *out, const struct record_will *record)
{
  assert(record->qos <= QOS_MAX);
  assert(record->topic.size <= UINT16_MAX);
  assert(record->payload.size <= UINT32_MAX);
  assert(record->properties.size <= UINT32_MAX);
  assert(record->maker.size <= UINT32_MAX);
  uint64_t size = (uint64_t)WILL_FIXED + record->topic.size + record->payload.size + record->properties.size +
                  (record->maker.size > 0 ? 4 + record->maker.size : 0);
  uint8_t *at = record_put_room(out, RECORD_WILL, size);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, record->session);
  at = record_write_u32(at, record->delay_s);
  at = record_write_u32(at, record->expiry_s);
  at = record_write_u8(at, will_flags(record));
  at = record_write_u16(at, (uint16_t)record->topic.size);
  at = record_write_u32(at, (uint32_t)record->payload.size);
  at = record_write_u32(at, (uint32_t)record->properties.size);
  if (record->maker.size > 0) at = record_write_u32(at, (uint32_t)record->maker.size);
  at = record_write_bytes(at, record->topic);
  at = record_write_bytes(at, record->payload);
  at = record_write_bytes(at, record->properties);
  record_write_bytes(at, record->maker);
  return OK;
}

bool record_get_will(struct span body, struct record_will *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->delay_s = record_read_u32(&reader);
  out->expiry_s = record_read_u32(&reader);
  uint8_t flags = record_read_u8(&reader);
  out->qos = flags & QOS_BITS;
  out->retain = flags & WILL_RETAIN;
  out->has_expiry = flags & WILL_EXPIRY;
  uint16_t topic_size = record_read_u16(&reader);
  uint32_t payload_size = record_read_u32(&reader);
  uint32_t properties_size = record_read_u32(&reader);
  uint32_t maker_size = flags & WILL_MAKER ? record_read_u32(&reader) : 0;
  out->topic = record_read_bytes(&reader, topic_size);
  out->payload = record_read_bytes(&reader, payload_size);
  out->properties = record_read_bytes(&reader, properties_size);
  out->maker = record_read_bytes(&reader, maker_size);
  if (!complete(&reader) || out->qos > QOS_MAX || (flags & ~WILL_FLAGS) != 0) return false;
  return !(flags & WILL_MAKER) || identity_readable(out->maker);
}

// session u32, packet identifier u16
enum status record_put_packet_id(struct buffer *out, enum record_type type, const struct record_packet_id *record)
{
  assert(type == RECORD_RECEIVED || type == RECORD_RELEASED);
  uint8_t *at = record_put_room(out, type, 6);
  if (!at) return ERR_NO_MEMORY;
  record_write_u16(record_write_u32(at, record->session), record->packet_id);
  return OK;
}

bool record_get_packet_id(struct span body, struct record_packet_id *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->packet_id = record_read_u16(&reader);
  return complete(&reader) && out->packet_id != 0;
}

// session u32, place u64
enum status record_put_sent(struct buffer *out, const struct record_sent *record)
{
  uint8_t *at = record_put_room(out, RECORD_SENT, 12);
  if (!at) return ERR_NO_MEMORY;
  record_write_u64(record_write_u32(at, record->session), record->place);
  return OK;
}

bool record_get_sent(struct span body, struct record_sent *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->place = record_read_u64(&reader);
  return complete(&reader);
}

// session u32, count u32 (not 0), place u64, outcome u8
enum status record_put_done(struct buffer *out, const struct record_done *record)
{
  assert(record->count > 0);
  assert((unsigned)record->outcome < OUTCOMES);
  uint8_t *at = record_put_room(out, RECORD_DONE, 17);
  if (!at) return ERR_NO_MEMORY;
  at = record_write_u32(at, record->session);
  at = record_write_u32(at, record->count);
  at = record_write_u64(at, record->place);
  record_write_u8(at, (uint8_t)record->outcome);
  return OK;
}

bool record_get_done(struct span body, struct record_done *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->count = record_read_u32(&reader);
  out->place = record_read_u64(&reader);
  uint8_t outcome = record_read_u8(&reader);
  if (!complete(&reader) || outcome >= OUTCOMES) return false;
  out->outcome = (enum record_outcome)outcome;
  return out->count > 0 && out->count - 1 <= UINT64_MAX - out->place;
}

// session u32, user (text, not empty)
enum status record_put_owner(struct buffer *out, const struct record_owner *record)
{
  assert(record->user.size > 0);
  uint8_t *at = record_put_room(out, RECORD_OWNER, (uint64_t)6 + record->user.size);
  if (!at) return ERR_NO_MEMORY;
  write_text(record_write_u32(at, record->session), record->user);
  return OK;
}

bool record_get_owner(struct span body, struct record_owner *out)
{
  struct record_reader reader = {.rest = body};
  out->session = record_read_u32(&reader);
  out->user = read_text(&reader);
  return complete(&reader) && out->user.size > 0;
}

// ---- Messages
//
// flags u16, topic size u16, target count u32, time u64, payload size u32; then what the flags tell of, in the order of
// their bits: expiry u64, origin u64, copy of u64, publisher u32 and packet identifier u16, properties size u32; then
// targets, topic, payload, properties.
enum {
  MESSAGE_FIXED = 20,
  MESSAGE_RETAIN = 1 << 2,  // the two below are QoS
  MESSAGE_STORE = 1 << 3,
  MESSAGE_EXPIRY = 1 << 4,
  MESSAGE_ORIGIN = 1 << 5,
  MESSAGE_COPY = 1 << 6,
  MESSAGE_PUBLISHER = 1 << 7,
  MESSAGE_PROPERTIES = 1 << 8,
  MESSAGE_FLAGS = (1 << 9) - 1,
};

static uint16_t message_flags(const struct record_message *record)
{
  assert(record->qos <= QOS_MAX);
  int flags = record->qos;
  if (record->retain) flags |= MESSAGE_RETAIN;
  if (record->store) flags |= MESSAGE_STORE;
  if (record->expiry_ms) flags |= MESSAGE_EXPIRY;
  if (record->origin) flags |= MESSAGE_ORIGIN;
  if (record->copy_of) flags |= MESSAGE_COPY;
  if (record->has_publisher) flags |= MESSAGE_PUBLISHER;
  if (record->properties.size > 0) flags |= MESSAGE_PROPERTIES;
  return (uint16_t)flags;
}

static size_t message_fixed_size(uint16_t flags)
{
  size_t size = MESSAGE_FIXED;
  if (flags & MESSAGE_EXPIRY) size += 8;
  if (flags & MESSAGE_ORIGIN) size += 8;
  if (flags & MESSAGE_COPY) size += 8;
  if (flags & MESSAGE_PUBLISHER) size += 6;
  if (flags & MESSAGE_PROPERTIES) size += 4;
  return size;
}

uint64_t record_message_body_size(const struct record_message *record)
{
  assert(record->topic.size <= UINT16_MAX);
  if (record->payload.size > UINT32_MAX || record->properties.size > UINT32_MAX) return UINT64_MAX;
  uint64_t size = (uint64_t)message_fixed_size(message_flags(record)) + record->targets.size + record->topic.size +
                  record->payload.size + record->properties.size;
  return size <= UINT32_MAX ? size : UINT64_MAX;
}

uint8_t *record_write_message(uint8_t *at, const struct record_message *record)
{
  uint16_t flags = message_flags(record);
  at = record_write_u16(at, flags);
  at = record_write_u16(at, (uint16_t)record->topic.size);
  at = record_write_u32(at, record->target_count);
  at = record_write_u64(at, record->time_ms);
  at = record_write_u32(at, (uint32_t)record->payload.size);
  if (flags & MESSAGE_EXPIRY) at = record_write_u64(at, record->expiry_ms);
  if (flags & MESSAGE_ORIGIN) at = record_write_u64(at, record->origin);
  if (flags & MESSAGE_COPY) at = record_write_u64(at, record->copy_of);
  if (flags & MESSAGE_PUBLISHER) at = record_write_u16(record_write_u32(at, record->publisher), record->packet_id);
  if (flags & MESSAGE_PROPERTIES) at = record_write_u32(at, (uint32_t)record->properties.size);
  at = record_write_bytes(at, record->targets);
  at = record_write_bytes(at, record->topic);
  at = record_write_bytes(at, record->payload);
  return record_write_bytes(at, record->properties);
}

enum status record_put_message(struct buffer *out, const struct record_message *record)
{
  uint8_t *at =
      record_put_room(out, record->copy_of ? RECORD_MESSAGE_COPY : RECORD_MESSAGE, record_message_body_size(record));
  if (!at) return ERR_NO_MEMORY;
  record_write_message(at, record);
  return OK;
}

// Whether `count` targets lie at the front, and how many bytes they take.
static bool measure_targets(struct span bytes, uint32_t count, size_t *out_size)
{
  if (count > bytes.size / RECORD_TARGET_SIZE) return false;
  size_t cursor = 0;
  struct record_target target;
  for (uint32_t i = 0; i < count; i++)
    if (!record_next_target(bytes, &cursor, &target)) return false;
  *out_size = cursor;
  return true;
}

bool record_get_message(struct span body, struct record_message *out)
{
  struct record_reader reader = {.rest = body};
  uint16_t flags = record_read_u16(&reader);
  uint16_t topic_size = record_read_u16(&reader);
  *out = (struct record_message){
      .qos = (uint8_t)(flags & QOS_BITS), .retain = flags & MESSAGE_RETAIN, .store = flags & MESSAGE_STORE};
  out->target_count = record_read_u32(&reader);
  out->time_ms = record_read_u64(&reader);
  uint32_t payload_size = record_read_u32(&reader);
  if (reader.failed || out->qos > QOS_MAX || (flags & ~MESSAGE_FLAGS) != 0) return false;

  if (flags & MESSAGE_EXPIRY) out->expiry_ms = record_read_u64(&reader);
  if (flags & MESSAGE_ORIGIN) out->origin = record_read_u64(&reader);
  if (flags & MESSAGE_COPY) out->copy_of = record_read_u64(&reader);
  if (flags & MESSAGE_PUBLISHER) {
    out->has_publisher = true;
    out->publisher = record_read_u32(&reader);
    out->packet_id = record_read_u16(&reader);
    if (out->packet_id == 0) return false;
  }
  uint32_t properties_size = flags & MESSAGE_PROPERTIES ? record_read_u32(&reader) : 0;
  size_t targets_size = 0;
  if (reader.failed || !measure_targets(reader.rest, out->target_count, &targets_size)) return false;
  out->targets = record_read_bytes(&reader, targets_size);
  out->topic = record_read_bytes(&reader, topic_size);
  out->payload = record_read_bytes(&reader, payload_size);
  out->properties = record_read_bytes(&reader, properties_size);
  return complete(&reader);
}

// A target: session u32, place u32, group u32, flags u8 (0-1 QoS, 2 retain), 0, identifier count u16, identifiers u32 each.
enum { TARGET_RETAIN = 4, TARGET_FLAGS = 7 };

enum status record_put_target(struct buffer *out, const struct record_target *target, const uint32_t *ids)
{
  assert(target->qos <= QOS_MAX);
  uint8_t *at = buffer_reserve(out, RECORD_TARGET_SIZE + (size_t)target->id_count * 4);
  if (!at) return ERR_NO_MEMORY;
  buffer_commit(out, RECORD_TARGET_SIZE + (size_t)target->id_count * 4);
  at = record_write_u32(at, target->session);
  at = record_write_u32(at, target->place);
  at = record_write_u32(at, target->group);
  at = record_write_u8(at, (uint8_t)(target->qos | (target->retain ? TARGET_RETAIN : 0)));
  at = record_write_u8(at, 0);
  at = record_write_u16(at, target->id_count);
  for (unsigned i = 0; i < target->id_count; i++) at = record_write_u32(at, ids[i]);
  return OK;
}

bool record_next_target(struct span targets, size_t *cursor, struct record_target *out)
{
  if (*cursor > targets.size || targets.size - *cursor < RECORD_TARGET_SIZE) return false;
  const uint8_t *at = targets.at + *cursor;
  size_t left = targets.size - *cursor - RECORD_TARGET_SIZE;
  uint8_t flags = at[12];
  uint16_t id_count = load_u16(at + 14);
  if ((flags & ~TARGET_FLAGS) != 0 || (flags & QOS_BITS) > QOS_MAX || at[13] != 0 || left / 4 < id_count) return false;

  *out = (struct record_target){.session = load_u32(at),
                                .place = load_u32(at + 4),
                                .group = load_u32(at + 8),
                                .qos = flags & QOS_BITS,
                                .retain = flags & TARGET_RETAIN,
                                .id_count = id_count,
                                .ids = at + RECORD_TARGET_SIZE};
  *cursor += RECORD_TARGET_SIZE + (size_t)id_count * 4;
  return true;
}

uint32_t record_target_id(const struct record_target *target, unsigned index)
{
  assert(index < target->id_count);
  return load_u32(target->ids + (size_t)index * 4);
}

uint64_t record_message_weight(const struct record_message *record)
{
  return (uint64_t)sizeof(struct message) + 2 + record->topic.size + record->payload.size + record->properties.size;
}
