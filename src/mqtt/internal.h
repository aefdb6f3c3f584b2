// What the files of src/mqtt share: reading fields with bounds, reporting faults, checking text. Not for other folders.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/span.h"
#include "mqtt/packet.h"

#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

// ---- Faults

// Returns false, so that `return fault_set(...)` ends a decoder.
__attribute__((cold)) static inline bool fault_set(struct mqtt_fault *fault, enum mqtt_reason reason, const char *statement,
                                                   const char *text)
{
  *fault = (struct mqtt_fault){.reason = reason, .statement = statement, .text = text};
  return false;
}

// What is left of a packet's body, and where to report what is wrong with it.
struct reader {
  const uint8_t *at;
  const uint8_t *end;
  struct mqtt_fault *fault;
  enum mqtt_version version;
};

// The numbers of the normative statement that a fault breaks: 5.0's, and 3.1.1's for the older versions.
struct statement {
  const char *v5;
  const char *v3;
};

#define NO_STATEMENT ((struct statement){NULL, NULL})
#define STATEMENT(v5_, v3_) ((struct statement){.v5 = (v5_), .v3 = (v3_)})

__attribute__((cold)) static inline bool reader_refuse(const struct reader *reader, enum mqtt_reason reason,
                                                       struct statement statement, const char *text)
{
  return fault_set(reader->fault, reason, reader->version == MQTT_5_0 ? statement.v5 : statement.v3, text);
}

// ---- Text

enum text_verdict { TEXT_VALID, TEXT_ILL_FORMED, TEXT_HAS_NUL };

// 5.0 section 1.5.4: the first thing that is wrong, if any.
enum text_verdict mqtt_text_check(struct span text);

static inline uint64_t text_word(const uint8_t *at)
{
  uint64_t word;
  memcpy(&word, at, sizeof word);
  return word;
}

#define TEXT_EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

// High bits are set in the result when one of the eight bytes is not ASCII, is NUL, or is '+' or '#'. Sums do not carry
// between bytes as long as all of them are ASCII, and otherwise the result is not 0 anyway.
static inline uint64_t text_odd_bytes(uint64_t word)
{
  uint64_t not_nul = word + TEXT_EACH_BYTE(0x7f);
  // '#' and '+' differ in the bit 0x08 only, and no other byte becomes '+' by setting it.
  uint64_t not_wildcard = ((word | TEXT_EACH_BYTE(0x08)) ^ TEXT_EACH_BYTE('+')) + TEXT_EACH_BYTE(0x7f);
  return (word | ~not_nul | ~not_wildcard) & TEXT_EACH_BYTE(0x80);
}

// Up to seven bytes as a word, filled up with a harmless byte.
static inline uint64_t text_short_word(const uint8_t *at, size_t size)
{
  if (size >= 4) {
    uint32_t front;
    uint32_t back;
    memcpy(&front, at, sizeof front);
    memcpy(&back, at + size - sizeof back, sizeof back);
    return (uint64_t)front << 32 | back;
  }
  uint64_t word = TEXT_EACH_BYTE('a');
  for (size_t i = 0; i < size; i++) word = word << 8 | at[i];
  return word;
}

// Whether the bytes are plain: ASCII without NUL and wildcards, which is what nearly every topic name is. One pass, no
// branch per byte; the hot path's check.
static inline bool text_plain(struct span text)
{
  if (text.size < 8) return text_odd_bytes(text_short_word(text.at, text.size)) == 0;
  uint64_t odd = 0;
  size_t i = 0;
  for (; i + 8 <= text.size; i += 8) odd |= text_odd_bytes(text_word(text.at + i));
  odd |= text_odd_bytes(text_word(text.at + text.size - 8));
  return odd == 0;
}

static inline bool text_has_wildcard(struct span text)
{
  return text.size > 0 && (memchr(text.at, '+', text.size) || memchr(text.at, '#', text.size));
}

// ---- Fields. All return false, without a fault, when the bytes do not suffice.

static inline size_t reader_left(const struct reader *reader)
{
  return (size_t)(reader->end - reader->at);
}

static inline bool read_u8(struct reader *reader, uint8_t *out)
{
  if (reader_left(reader) < 1) return false;
  *out = *reader->at++;
  return true;
}

static inline bool read_u16(struct reader *reader, uint16_t *out)
{
  if (reader_left(reader) < 2) return false;
  *out = (uint16_t)(reader->at[0] << 8 | reader->at[1]);
  reader->at += 2;
  return true;
}

static inline bool read_u32(struct reader *reader, uint32_t *out)
{
  if (reader_left(reader) < 4) return false;
  const uint8_t *at = reader->at;
  *out = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
  reader->at += 4;
  return true;
}

static inline bool read_binary(struct reader *reader, struct span *out)
{
  uint16_t size;
  if (!read_u16(reader, &size)) return false;
  if (reader_left(reader) < size) return false;
  *out = span_of(reader->at, size);
  reader->at += size;
  return true;
}

// ---- Fields that report what is wrong with them

// A variable byte integer in its shortest form [MQTT-1.5.5-1].
bool mqtt_take_varint(struct reader *reader, uint32_t *out);

// The words for a text field's faults.
struct text_words {
  const char *cut_off;
  const char *ill_formed;
  const char *has_nul;
};

#define TEXT_WORDS(name)                                                                                                    \
  {                                                                                                                         \
    .cut_off = name " is cut off", .ill_formed = name " is not well-formed UTF-8", .has_nul = name " contains U+0000"       \
  }

bool mqtt_check_text(const struct reader *reader, struct span text, const struct text_words *words);
bool mqtt_take_text(struct reader *reader, const struct text_words *words, struct span *out);

// A packet identifier; 0 breaks `statement`.
bool mqtt_take_packet_id(struct reader *reader, struct statement statement, uint16_t *out);

// Nothing may be left.
bool mqtt_take_end(const struct reader *reader);

// ---- Properties

// For sets of packet types, as bits 1 << type. The properties of a will count as a packet of their own.
enum { PACKET_WILL = 0 };

// The property length and the properties. Before 5.0 there are none and nothing is read.
bool mqtt_take_properties(struct reader *reader, unsigned packet, struct mqtt_properties *out);

// As said of mqtt_decode_publish: what must be 0 when there are no properties, and nothing else.
static inline void properties_none(struct mqtt_properties *properties)
{
  properties->present = 0;
  properties->raw = span_of(NULL, 0);
  properties->user = span_of(NULL, 0);
  properties->subscription_id_count = 0;
}

// Where encoded bytes go. With `at` NULL they are only counted.
struct writer {
  uint8_t *at;
  size_t size;  // bytes so far
  bool failed;  // a field was too long for its length
};

// The properties with their length in front.
void mqtt_put_properties(struct writer *writer, unsigned packet, const struct mqtt_properties *properties);
bool mqtt_properties_empty(unsigned packet, const struct mqtt_properties *properties);

static inline void put_bytes(struct writer *writer, const void *bytes, size_t size)
{
  if (writer->at && size > 0) memcpy(writer->at + writer->size, bytes, size);
  writer->size += size;
}

static inline void put_u8(struct writer *writer, uint8_t value)
{
  if (writer->at) writer->at[writer->size] = value;
  writer->size++;
}

static inline void put_u16(struct writer *writer, uint16_t value)
{
  put_u8(writer, (uint8_t)(value >> 8));
  put_u8(writer, (uint8_t)value);
}

static inline void put_u32(struct writer *writer, uint32_t value)
{
  put_u16(writer, (uint16_t)(value >> 16));
  put_u16(writer, (uint16_t)value);
}

static inline void put_varint(struct writer *writer, size_t value)
{
  if (value > MQTT_MAX_REMAINING_LENGTH) {
    writer->failed = true;
    return;
  }
  for (; value >= 0x80; value >>= 7) put_u8(writer, (uint8_t)(value | 0x80));
  put_u8(writer, (uint8_t)value);
}

static inline void put_binary(struct writer *writer, struct span bytes)
{
  if (bytes.size > MQTT_MAX_STRING) {
    writer->failed = true;
    return;
  }
  put_u16(writer, (uint16_t)bytes.size);
  put_bytes(writer, bytes.at, bytes.size);
}

// ---- Reason codes

// Whether 5.0 lists this code for packets of this type from this sender (sections 3.2.2.2, 3.4.2.1 ... 3.15.2.1).
bool mqtt_reason_allowed(uint8_t code, enum mqtt_packet_type type, enum mqtt_sender sender);

// ---- The packets that have a file of their own

bool mqtt_decode_connect(struct span body, struct mqtt_connect *out, struct mqtt_fault *out_fault);
