// A session's data once OpenSSL's part is over: many records with one receive, several with one send.
#include <assert.h>
#include <string.h>

#include <openssl/err.h>

#include "tls/client_internal.h"
#include "tls/session_internal.h"

enum {
  NEW_TICKET = 4,  // handshake messages of 1.3 (RFC 8446 section 4.6)
  KEY_UPDATE = 24,
  KEY_UPDATE_SIZE = 5,  // type, length of three bytes, whether the other's is asked for
  UPDATES_MAX = 16,     // one after the other, without data
  TICKET_MAX = 70000,   // lifetime, age, nonce, ticket of 64 KiB at most, extensions
  RECORDS_PER_SEND = 4,
};
static_assert((int)TLS_READ_MIN >= (int)RECORD_HEADER + (int)RECORD_BODY_MAX, "a whole record fits the reader's buffer");

void records_say(struct tls_session *session, bool fatal, enum record_alert alert)
{
  const uint8_t content[2] = {fatal ? 2 : 1, (uint8_t)alert};
  const struct span parts[2] = {span_of(content, sizeof content), {0}};
  uint8_t record[sizeof content + RECORD_OVERHEAD];
  size_t size = record_seal(session->records, RECORD_ALERT, parts, record);
  if (size) (void)session_put(session, record, size);
}

// ---- Reading

static const char *name_alert(enum record_alert alert)
{
  switch (alert) {
    case ALERT_UNEXPECTED_MESSAGE: return "a message that does not belong there";
    case ALERT_BAD_RECORD_MAC: return "a record does not decrypt";
    case ALERT_RECORD_OVERFLOW: return "a record is too long";
    case ALERT_DECODE_ERROR: return "a message cannot be decoded";
    case ALERT_CLOSE_NOTIFY:
    case ALERT_INTERNAL_ERROR:
    case ALERT_USER_CANCELED:
    case ALERT_NO_RENEGOTIATION: break;
  }
  return "an internal error";
}

static enum tls_result fail(struct tls_session *session, enum record_alert alert)
{
  ERR_clear_error();
  records_say(session, true, alert);
  return session_end(session, TLS_FAILED, name_alert(alert));
}

static enum tls_result take_alert(struct tls_session *session, struct span content)
{
  if (content.size != 2) return fail(session, ALERT_DECODE_ERROR);
  uint8_t level = content.at[0], alert = content.at[1];
  if (alert == ALERT_CLOSE_NOTIFY) return session_end(session, TLS_CLOSED, NULL);
  // In 1.3 all others are fatal, whatever their level says (RFC 8446 section 6).
  if (alert == ALERT_USER_CANCELED || (!records_are_1_3(session->records) && level == 1)) return TLS_DONE;
  return session_end(session, TLS_FAILED, session->client ? client_alert_reason(alert) : "the client ends it with an alert");
}

// Leaves out the tickets in what a server says: they may share a record, or be cut anywhere. What else there is begins its
// record and is whole. False: there can be no such message.
static bool skip_tickets(struct tidings *tidings, struct span *content)
{
  while (content->size > 0) {
    size_t skipped = content->size < tidings->left ? content->size : tidings->left;
    tidings->left -= (uint32_t)skipped;
    *content = span_from(*content, skipped);
    if (content->size == 0) break;
    if (tidings->header_size == 0 && content->at[0] != NEW_TICKET) return true;
    tidings->header[tidings->header_size++] = content->at[0];
    *content = span_from(*content, 1);
    if (tidings->header_size < sizeof tidings->header) continue;
    tidings->left = (uint32_t)tidings->header[1] << 16 | (uint32_t)tidings->header[2] << 8 | tidings->header[3];
    tidings->header_size = 0;
    if (tidings->left > TICKET_MAX) return false;
  }
  return true;
}

// Of 1.3 a change of keys, alone in its record, or tickets; of 1.2 the wish for another handshake, which is declined.
static enum tls_result take_handshake(struct tls_session *session, struct span content)
{
  if (!records_are_1_3(session->records)) {
    // Each is answered with a send of its own, and one read could hold thousands.
    if (++session->updates > UPDATES_MAX) return fail(session, ALERT_UNEXPECTED_MESSAGE);
    records_say(session, false, ALERT_NO_RENEGOTIATION);
    return session->gone ? session_end(session, TLS_CLOSED, NULL) : TLS_DONE;
  }
  static const uint8_t update[KEY_UPDATE_SIZE - 1] = {KEY_UPDATE, 0, 0, 1};
  if (session->client) {
    if (!skip_tickets(&session->tidings, &content)) return fail(session, ALERT_DECODE_ERROR);
    if (content.size == 0) return TLS_DONE;
  }
  if (content.size != KEY_UPDATE_SIZE || memcmp(content.at, update, sizeof update) != 0)
    return fail(session, ALERT_UNEXPECTED_MESSAGE);
  uint8_t asked = content.at[KEY_UPDATE_SIZE - 1];
  if (asked > 1) return fail(session, ALERT_DECODE_ERROR);
  // 27 bytes of it cost a shard several microseconds: one read could hold thousands.
  if (++session->updates > UPDATES_MAX) return fail(session, ALERT_UNEXPECTED_MESSAGE);
  // However often it asks, it is answered once, in front of what is sent next.
  session->update_owed = session->update_owed || asked;
  return records_update_in(session->records) ? TLS_DONE : fail(session, ALERT_INTERNAL_ERROR);
}

// Opens one record where it lies and puts its data at `out`, which is not behind it.
static enum tls_result take_record(struct tls_session *session, uint8_t *record, size_t size, uint8_t *out, size_t *out_size)
{
  enum record_type type;
  enum record_alert alert;
  struct span content;
  if (!record_open(session->records, record, size, &type, &content, &alert)) return fail(session, alert);
  switch (type) {
    case RECORD_DATA:
      // Nothing comes between the parts of a message (RFC 8446 section 5.1).
      if (session->tidings.left || session->tidings.header_size) return fail(session, ALERT_UNEXPECTED_MESSAGE);
      if (content.size) memmove(out, content.at, content.size);
      *out_size = content.size;
      if (content.size) session->updates = 0;
      return TLS_DONE;
    case RECORD_ALERT: return take_alert(session, content);
    case RECORD_HANDSHAKE: return take_handshake(session, content);
    case RECORD_CHANGE_CIPHER: break;
  }
  return fail(session, ALERT_UNEXPECTED_MESSAGE);
}

// Opens all whole records; the rest is kept. Plaintext goes to the front: it never overtakes the ciphertext that is still to
// be read.
static enum tls_result take_records(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size)
{
  size_t at = 0, total = 0;
  enum tls_result result = TLS_DONE;
  while (result == TLS_DONE && size - at >= RECORD_HEADER) {
    size_t body = (size_t)bytes[at + 3] << 8 | bytes[at + 4], got = 0;
    // Before the rest of it is waited for.
    if (bytes[at] < RECORD_CHANGE_CIPHER || bytes[at] > RECORD_DATA || bytes[at + 1] != 3)
      result = fail(session, ALERT_UNEXPECTED_MESSAGE);
    else if (body > RECORD_BODY_MAX)
      result = fail(session, ALERT_RECORD_OVERFLOW);
    else if (size - at < RECORD_HEADER + body)
      break;
    else
      result = take_record(session, bytes + at, RECORD_HEADER + body, bytes + total, &got);
    total += got;
    at += RECORD_HEADER + body;
  }
  *out_size = total;
  if (result != TLS_DONE || at >= size) return result;
  if (buffer_append(&session->partial, bytes + at, size - at) == OK) return TLS_DONE;
  return session_end(session, TLS_FAILED, "not enough memory");
}

enum tls_result records_read(struct tls_session *session, uint8_t *bytes, size_t size, size_t *out_size)
{
  size_t held = buffer_size(&session->partial);
  assert(held < size);
  ssize_t received = session_receive(session, bytes + held, size - held);
  if (received < 0) return session_end(session, TLS_CLOSED, NULL);
  if (received == 0) return TLS_AGAIN;
  if (held) {
    memcpy(bytes, buffer_peek(&session->partial).at, held);
    buffer_deinit(&session->partial);
  }
  enum tls_result result = take_records(session, bytes, held + (size_t)received, out_size);
  if (*out_size > 0) return TLS_DONE;
  return result == TLS_DONE ? TLS_AGAIN : result;
}

// ---- Writing

static bool change_key(struct tls_session *session)
{
  static const uint8_t update[KEY_UPDATE_SIZE] = {KEY_UPDATE, 0, 0, 1, 0};
  const struct span parts[2] = {span_of(update, sizeof update), {0}};
  uint8_t record[sizeof update + RECORD_OVERHEAD];
  size_t size = record_seal(session->records, RECORD_HANDSHAKE, parts, record);
  session->update_owed = false;
  return size && session_put(session, record, size) && records_update_out(session->records);
}

// What goes into the next record: of both parts, from `at` on.
static void next_content(const struct span parts[2], size_t at, size_t size_max, struct span content[2])
{
  size_t first = at < parts[0].size ? at : parts[0].size;
  content[0] = span_from(parts[0], first);
  if (content[0].size > size_max) content[0].size = size_max;
  content[1] = span_from(parts[1], at - first);
  if (content[1].size > size_max - content[0].size) content[1].size = size_max - content[0].size;
}

enum tls_result records_write(struct tls_session *session, const struct span parts[2], size_t *out_size)
{
  uint8_t sealed[RECORDS_PER_SEND * (RECORD_PLAIN_MAX + RECORD_OVERHEAD)];
  size_t total = parts[0].size + parts[1].size, plain_max = records_plain_max(session->records);
  while (*out_size < total && buffer_size(&session->unsent) == 0) {
    if ((session->update_owed || records_worn(session->records)) && !change_key(session)) return TLS_CLOSED;
    size_t size = 0;
    while (*out_size < total && sizeof sealed - size >= plain_max + RECORD_OVERHEAD) {
      struct span content[2];
      next_content(parts, *out_size, plain_max, content);
      size_t more = record_seal(session->records, RECORD_DATA, content, sealed + size);
      if (more == 0) {
        ERR_clear_error();
        return session_end(session, TLS_FAILED, "encryption has failed");
      }
      size += more;
      *out_size += content[0].size + content[1].size;
    }
    if (!session_put(session, sealed, size)) return TLS_CLOSED;
  }
  return buffer_size(&session->unsent) > 0 ? TLS_AGAIN : TLS_DONE;
}
