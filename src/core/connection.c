// A connection: bytes become packets here, packets go to their handlers, and connections end here.

#include "core/connection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/access.h"
#include "core/admission.h"
#include "core/shard_internal.h"
#include "core/throttle.h"

static_assert(sizeof(void *) > 8 || sizeof(struct connection) <= 200, "an idle connection is small");

static void timer_due(struct timer *timer, struct mono now);

static struct connection *create(struct shard *shard, void *transport, const struct connection_origin *origin)
{
  struct connection *connection = calloc(1, sizeof *connection);
  if (!connection) return NULL;
  connection->shard = shard;
  connection->transport = transport;
  connection->address = origin->address;
  connection->anonymous = origin->anonymous;
  connection->authenticate = origin->authenticate;
  connection->limits = origin->limits;
  connection->maximum_packet_size = UINT32_MAX;
  connection->granted_packet_size = connection_limits(connection)->packet_size;
  connection->heard_ms = (uint32_t)shard->now.ms;
  list_init(&connection->attention);
  list_init(&connection->paused);
  timer_init(&connection->timer, timer_due);
  wheel_arm(&shard->wheel, &connection->timer,
            (struct mono){shard->now.ms + connection_limits(connection)->connect_timeout_ms});
  list_append(&shard->connections, &connection->all);
  pool_charge(&shard->pool, (int64_t)sizeof *connection);
  shard->counters.connections++;
  return connection;
}

struct connection *shard_open(struct shard *shard, void *transport, const struct connection_origin *origin)
{
  struct connection *connection = create(shard, transport, origin);
  if (connection) shard->counters.connections_accepted++;
  return connection;
}

static bool keep_input(struct connection *connection, struct span bytes);
static size_t take_packets(struct connection *connection, struct span bytes, size_t *out_wanted);

struct connection *shard_adopt(struct shard *shard, void *transport, const struct connection_origin *origin,
                               struct span input)
{
  struct connection *connection = create(shard, transport, origin);
  if (!connection) {
    admission_free(origin->admission);
    return NULL;
  }
  if (!admission_take_over(connection, origin->admission) || !keep_input(connection, input)) {
    connection_free(connection);
    return NULL;
  }
  connection->adopted = true;
  // The shard that keeps the durable sessions may ask for this client next: its CONNECT must come before that.
  size_t wanted;
  if (shard->settings.journal && !shard->journal.on)
    buffer_consume(connection->input, take_packets(connection, buffer_peek(connection->input), &wanted));
  if (connection->admitting) admission_input_kept(connection);
  connection_want(connection, CONNECTION_RESUME);  // the rest is looked at when the driver comes by
  return connection;
}

void *connection_transport(const struct connection *connection)
{
  return connection->transport;
}

void connection_set_address(struct connection *connection, const char *address)
{
  connection->address = address;
}

static void free_buffer(struct connection *connection, struct buffer **buffer)
{
  if (!*buffer) return;
  pool_charge(&connection->shard->pool, -(int64_t)(sizeof **buffer + (*buffer)->capacity));
  buffer_deinit(*buffer);
  free(*buffer);
  *buffer = NULL;
}

// Room behind the end of a buffer that comes into being when it is first needed.
static uint8_t *reserve(struct connection *connection, struct buffer **buffer, size_t size)
{
  struct pool *pool = &connection->shard->pool;
  if (!*buffer) {
    *buffer = calloc(1, sizeof **buffer);
    if (!*buffer) return NULL;
    pool_charge(pool, (int64_t)sizeof **buffer);
  }
  size_t before = (*buffer)->capacity;
  uint8_t *room = buffer_reserve(*buffer, size);
  if ((*buffer)->capacity != before) pool_charge(pool, (int64_t)(*buffer)->capacity - (int64_t)before);
  if (!room && buffer_size(*buffer) == 0) free_buffer(connection, buffer);
  return room;
}

void connection_free(struct connection *connection)
{
  struct shard *shard = connection->shard;
  ticket_forget(shard, connection);
  admission_drop(connection);
  access_close(connection);
  throttle_close(connection);
  wheel_cancel(&connection->timer);
  if (connection->pauses) shard->counters.paused_connections--;
  list_remove(&connection->all);
  list_remove(&connection->attention);
  list_remove(&connection->paused);
  free_buffer(connection, &connection->input);
  free_buffer(connection, &connection->control);
  held_free(connection);
  connection_free_output(connection);
  aliases_free(connection->aliases);
  pool_charge(&shard->pool, -(int64_t)sizeof *connection);
  shard->counters.connections--;
  free(connection);
}

// ---- Ending

static void detach(struct connection *connection, bool with_will)
{
  struct session *session = connection->session;
  connection->session = NULL;
  if (session) session_detach(session, with_will);
  access_close(connection);
}

static void close_soon(struct connection *connection)
{
  struct shard *shard = connection->shard;
  connection->state = CLOSING;
  throttle_close(connection);
  connection_unpause(connection, PAUSED_ANY);
  admission_drop(connection);
  wheel_arm(&shard->wheel, &connection->timer, (struct mono){shard->now.ms + LINGER_MS});
  bool nothing_to_write = !connection->control && !connection->unsent && !connection->held;
  connection_want(connection, nothing_to_write ? CONNECTION_CLOSE : CONNECTION_OUTPUT);
}

static bool has_return_code(enum mqtt_reason reason)
{
  return (reason >= MQTT_UNSUPPORTED_PROTOCOL_VERSION && reason <= MQTT_SERVER_BUSY) ||
         reason == MQTT_CONNECTION_RATE_EXCEEDED;
}

static void send_goodbye(struct connection *connection, enum mqtt_reason reason, const char *text)
{
  bool connected = connection->state == CONNECTED;
  struct mqtt_packet packet;
  if (connected) {
    if (connection->version != MQTT_5_0) return;
    packet = (struct mqtt_packet){.type = MQTT_DISCONNECT, .disconnect = {.reason = reason}};
    if (text) {
      packet.disconnect.properties.present = UINT64_C(1) << MQTT_PROPERTY_REASON_STRING;
      packet.disconnect.properties.reason_string = span_text(text);
    }
    if (text && mqtt_encoded_size(MQTT_5_0, &packet) > connection->maximum_packet_size)
      packet.disconnect.properties = (struct mqtt_properties){0};
  } else {
    if (connection->version == 0) return;  // not a CONNECT: closed without a word [MQTT-3.1.0-1]
    // Before 5.0 a CONNECT that breaks the protocol is closed without a CONNACK; only what has a return code gets one.
    if (connection->version != MQTT_5_0 && !has_return_code(reason)) return;
    packet = (struct mqtt_packet){.type = MQTT_CONNACK, .connack = {.reason = reason}};
  }
  connection_send(connection, &packet);
}

static void end(struct connection *connection, enum mqtt_reason reason, const char *text, bool with_will)
{
  if (connection->state == CLOSING) return;
  // What was half written stays in front; acknowledgements that were not yet written go before the DISCONNECT.
  send_goodbye(connection, reason, text);
  if (connection->state == CLOSING) return;
  detach(connection, with_will);
  close_soon(connection);
}

void connection_end(struct connection *connection, enum mqtt_reason reason, bool with_will)
{
  end(connection, reason, NULL, with_will);
}

void connection_fail(struct connection *connection, const struct mqtt_fault *fault)
{
  struct shard *shard = connection->shard;
  if (connection->state == CLOSING) return;
  count_fault(shard, fault->reason);
  shard->counters.disconnects_protocol++;
  struct span client = connection->session ? session_id(connection->session) : span_text("");
  LOG(shard->settings.log, shard->now, LOG_WARNING, "client_error", FIELD_SPAN("client", client),
      FIELD_TEXT("address", connection->address), FIELD_UINT("reason", (uint64_t)fault->reason),
      FIELD_TEXT("reason_name", mqtt_reason_name(fault->reason)), FIELD_TEXT("detail", fault->text ? fault->text : ""),
      FIELD_TEXT("statement", fault->statement ? fault->statement : ""));
  end(connection, fault->reason, fault->text, true);
}

void log_limit(const struct connection *connection, enum limit limit, const char *outcome)
{
  struct shard *shard = connection->shard;
  struct span client = connection->session ? session_id(connection->session) : span_text("");
  LOG(shard->settings.log, shard->now, LOG_WARNING, "limit_reached", FIELD_SPAN("client", client),
      FIELD_TEXT("address", connection->address), FIELD_TEXT("limit", limit_name(limit)), FIELD_TEXT("outcome", outcome));
}

void connection_exceed(struct connection *connection, enum limit limit, const struct mqtt_fault *fault)
{
  connection->shard->counters.limits_reached[limit]++;
  log_limit(connection, limit, "disconnected");
  connection_fail(connection, fault);
}

void connection_abandon(struct connection *connection, const char *why)
{
  struct shard *shard = connection->shard;
  LOG(shard->settings.log, shard->now, LOG_WARNING, "connection_abandoned", FIELD_TEXT("address", connection->address),
      FIELD_TEXT("detail", why));
  detach(connection, false);
  close_soon(connection);
}

void shard_disconnect(struct shard *shard, struct connection *connection, enum mqtt_reason reason)
{
  if (connection->state == CLOSING) return;
  count_fault(shard, reason);
  if (connection->state == CONNECTED)
    connection_end(connection, reason, true);
  else
    close_soon(connection);
}

void shard_disconnect_all(struct shard *shard, enum mqtt_reason reason)
{
  LIST_EACH (link, &shard->connections) {
    shard_disconnect(shard, CONTAINER_OF(link, struct connection, all), reason);
  }
}

struct connection *shard_any_connection(struct shard *shard)
{
  return list_empty(&shard->connections) ? NULL : CONTAINER_OF(shard->connections.next, struct connection, all);
}

void shard_closed(struct shard *shard, struct connection *connection)
{
  if (connection->state == CONNECTED) {
    shard->counters.disconnects_lost++;
    LOG(shard->settings.log, shard->now, LOG_INFO, "client_lost", FIELD_SPAN("client", session_id(connection->session)),
        FIELD_TEXT("address", connection->address));
  }
  detach(connection, true);
  connection_free(connection);
}

static void timer_due(struct timer *timer, struct mono now)
{
  struct connection *connection = CONTAINER_OF(timer, struct connection, timer);
  struct shard *shard = connection->shard;
  if (connection->state == EXPECT_CONNECT || connection->state == EXPECT_AUTH) {
    shard->counters.connect_timeouts++;
    LOG(shard->settings.log, now, LOG_INFO, "connect_timeout", FIELD_TEXT("address", connection->address));
    close_soon(connection);
    return;
  }
  if (connection->state == CLOSING) {
    connection_want(connection, CONNECTION_CLOSE);
    return;
  }
  // We do not listen: what it sends waits. But one that takes no output may as well be dead, unless it is the disk that
  // holds it.
  if (connection->pauses & ~PAUSED_OUTPUT || (connection->pauses && connection->held))
    connection->heard_ms = (uint32_t)now.ms;
  uint32_t silent_ms = (uint32_t)now.ms - connection->heard_ms, most_ms = connection->keep_alive_s * 1500u;
  if (silent_ms < most_ms) {  // [MQTT-3.1.2-22]
    wheel_arm(&shard->wheel, timer, (struct mono){now.ms + (most_ms - silent_ms)});
    return;
  }
  shard->counters.keep_alive_timeouts++;
  count_fault(shard, MQTT_KEEP_ALIVE_TIMEOUT);
  LOG(shard->settings.log, now, LOG_INFO, "keep_alive_timeout", FIELD_SPAN("client", session_id(connection->session)),
      FIELD_TEXT("address", connection->address));
  connection_end(connection, MQTT_KEEP_ALIVE_TIMEOUT, true);
}

// ---- Pausing

void connection_pause(struct connection *connection, unsigned why)
{
  struct shard *shard = connection->shard;
  if (connection->pauses == 0) {
    list_append(&shard->paused, &connection->paused);
    shard->counters.paused_connections++;
    shard->counters.pauses++;
    connection->paused_ms = (uint32_t)shard->now.ms;
  }
  connection->pauses |= (uint16_t)why;
}

void connection_unpause(struct connection *connection, unsigned why)
{
  if ((connection->pauses & why) == 0) return;
  connection->pauses &= (uint16_t)~why;
  if (connection->pauses) return;
  list_remove(&connection->paused);
  connection->shard->counters.paused_connections--;
  connection->heard_ms = (uint32_t)connection->shard->now.ms;  // what it has sent meanwhile is looked at only now
  if (connection->state != CLOSING) connection_want(connection, CONNECTION_RESUME);
}

static void pause_where_due(struct connection *connection)
{
  struct shard *shard = connection->shard;
  size_t control = connection->control ? buffer_size(connection->control) : 0;
  if (control + held_bytes(connection) + connection->pongs * 2u > CONTROL_HIGH) connection_pause(connection, PAUSED_OUTPUT);
  for (unsigned i = 0; i < shard->settings.shard_count; i++)
    if (shard->outgoing[i].count > OUTGOING_HIGH) connection_pause(connection, PAUSED_MAIL);
}

// ---- Sending

// An acknowledgement cannot be left out: without memory for it the connection cannot go on.
static void close_for_memory(struct connection *connection)
{
  if (connection->state == CLOSING) return;
  detach(connection, true);
  close_soon(connection);
}

uint8_t *control_reserve(struct connection *connection, size_t size)
{
  uint8_t *room = reserve(connection, &connection->control, size);
  if (!room) close_for_memory(connection);
  return room;
}

void control_written(struct connection *connection)
{
  free_buffer(connection, &connection->control);
}

void control_commit(struct connection *connection, size_t size)
{
  buffer_commit(connection->control, size);
  connection_want(connection, CONNECTION_OUTPUT);
}

bool connection_fits(const struct connection *connection, const struct mqtt_packet *packet)
{
  return connection->version != MQTT_5_0 || mqtt_encoded_size(MQTT_5_0, packet) <= connection->maximum_packet_size;
}

// [MQTT-3.1.2-24]: an answer that is too large for the client leaves nothing but to close, and to say why if that fits.
static void give_up_answering(struct connection *connection, const struct mqtt_packet *packet)
{
  if (packet->type == MQTT_DISCONNECT || packet->type == MQTT_CONNACK) return;
  connection_fail(connection, &(struct mqtt_fault){MQTT_PACKET_TOO_LARGE, "MQTT-3.1.2-24",
                                                   "the answer is larger than the client's maximum packet size"});
}

// Room for what is written when `need` is safe, or at once.
static uint8_t *reserve_after(struct connection *connection, size_t size, uint64_t need, bool *out_held)
{
  *out_held = held_must(connection, need);
  if (!*out_held) return control_reserve(connection, size);
  uint8_t *room = held_reserve(connection, size);
  if (!room) close_for_memory(connection);
  return room;
}

static void send(struct connection *connection, const struct mqtt_packet *packet, uint64_t need, bool answer)
{
  if (!connection_fits(connection, packet)) {
    give_up_answering(connection, packet);
    return;
  }
  enum mqtt_version version = connection->version ? connection->version : MQTT_3_1_1;
  size_t size = mqtt_encoded_size(version, packet);
  assert(size > 0);
  bool held;
  uint8_t *room = reserve_after(connection, size, need, &held);
  if (!room) return;
  size_t written = mqtt_encode(version, packet, room, size);
  assert(written == size);
  if (held) {
    held_commit(connection, size, need, answer);
    if (answer) connection_pause(connection, PAUSED_ANSWER);
    return;
  }
  control_commit(connection, size);
  connection->shard->counters.packets_sent[packet->type]++;
}

void connection_send(struct connection *connection, const struct mqtt_packet *packet)
{
  send(connection, packet, 0, false);
}

void connection_answer_packet(struct connection *connection, const struct mqtt_packet *packet, uint64_t need)
{
  send(connection, packet, need, true);
}

void connection_answer(struct connection *connection, struct span bytes, uint64_t need)
{
  bool held;
  uint8_t *room = reserve_after(connection, bytes.size, need, &held);
  if (!room) return;
  memcpy(room, bytes.at, bytes.size);
  if (held) {
    held_commit(connection, bytes.size, need, true);
    connection_pause(connection, PAUSED_ANSWER);
    return;
  }
  control_commit(connection, bytes.size);
  connection->shard->counters.packets_sent[bytes.at[0] >> 4]++;
}

__attribute__((noinline)) static void send_ack_with_reason(struct connection *connection, enum mqtt_packet_type type,
                                                           uint16_t packet_id, enum mqtt_reason reason,
                                                           const char *reason_string, uint64_t need)
{
  struct mqtt_packet packet = {.type = type, .ack = {.packet_id = packet_id, .reason = reason}};
  if (reason_string && connection->problem_information) {
    packet.ack.properties.present = UINT64_C(1) << MQTT_PROPERTY_REASON_STRING;
    packet.ack.properties.reason_string = span_text(reason_string);
    if (mqtt_encoded_size(MQTT_5_0, &packet) > connection->maximum_packet_size)
      packet.ack.properties = (struct mqtt_properties){0};
  }
  send(connection, &packet, need, false);
}

void connection_send_ack(struct connection *connection, enum mqtt_packet_type type, uint16_t packet_id,
                         enum mqtt_reason reason, const char *reason_string, uint64_t need)
{
  if (reason != MQTT_SUCCESS && connection->version == MQTT_5_0) {
    send_ack_with_reason(connection, type, packet_id, reason, reason_string, need);
    return;
  }
  bool held;
  uint8_t *room = reserve_after(connection, 4, need, &held);
  if (!room) return;
  room[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
  room[1] = 2;
  room[2] = (uint8_t)(packet_id >> 8);
  room[3] = (uint8_t)packet_id;
  if (held) {
    held_commit(connection, 4, need, false);
    return;
  }
  control_commit(connection, 4);
  connection->shard->counters.packets_sent[type]++;
}

// ---- Receiving

uint32_t granted_expiry(const struct connection *connection, uint32_t wanted_s)
{
  uint32_t maximum_s = connection_limits(connection)->session_expiry_max_s;
  if (wanted_s <= maximum_s) return wanted_s;
  connection->shard->counters.limits_reached[LIMIT_SESSION_EXPIRY]++;
  return maximum_s;
}

static bool handle_disconnect(struct connection *connection, const struct mqtt_disconnect *disconnect)
{
  struct shard *shard = connection->shard;
  struct session *session = connection->session;
  if (MQTT_HAS(&disconnect->properties, SESSION_EXPIRY)) {
    uint32_t expiry_s = disconnect->properties.session_expiry_s;
    if (session->expiry_s == 0 && expiry_s != 0) {
      connection_fail(connection, &(struct mqtt_fault){MQTT_PROTOCOL_ERROR, "MQTT-3.14.2-2",
                                                       "session expiry was 0 in CONNECT and cannot be raised"});
      return false;
    }
    session->expiry_s = granted_expiry(connection, expiry_s);
  }
  shard->counters.disconnects_clean++;
  LOG(shard->settings.log, shard->now, LOG_INFO, "client_disconnected", FIELD_SPAN("client", session_id(session)),
      FIELD_TEXT("address", connection->address), FIELD_UINT("reason", (uint64_t)disconnect->reason));
  detach(connection, disconnect->reason != MQTT_SUCCESS);
  close_soon(connection);
  return false;
}

static bool handle_other(struct connection *connection, uint8_t first, struct span body)
{
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  if (!mqtt_decode(connection->version, MQTT_FROM_CLIENT, first, body, &packet, &fault)) {
    connection_fail(connection, &fault);
    return false;
  }
  switch (packet.type) {
    case MQTT_SUBSCRIBE: return handle_subscribe(connection, &packet.subscribe);
    case MQTT_UNSUBSCRIBE: return handle_unsubscribe(connection, &packet.unsubscribe);
    case MQTT_PINGREQ:
      if (connection->pongs < UINT16_MAX) connection->pongs++;
      connection_want(connection, CONNECTION_OUTPUT);
      return true;
    case MQTT_DISCONNECT: return handle_disconnect(connection, &packet.disconnect);
    case MQTT_CONNECT: fault = (struct mqtt_fault){MQTT_PROTOCOL_ERROR, "MQTT-3.1.0-2", "a second CONNECT"}; break;
    case MQTT_AUTH: return handle_auth(connection, &packet.disconnect);
    case MQTT_PUBLISH:
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
    case MQTT_CONNACK:
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
    case MQTT_PINGRESP: fault = (struct mqtt_fault){MQTT_PROTOCOL_ERROR, NULL, "a packet that only servers send"}; break;
  }
  connection_fail(connection, &fault);
  return false;
}

static bool handle_unconnected(struct connection *connection, uint8_t first, struct span body)
{
  if (connection->state == EXPECT_AUTH) return handle_in_exchange(connection, first, body);
  assert(connection->state == EXPECT_CONNECT);
  if (first >> 4 == MQTT_CONNECT) return handle_connect(connection, first, body);
  connection_fail(connection, &(struct mqtt_fault){MQTT_PROTOCOL_ERROR, "MQTT-3.1.0-1", "the first packet is not CONNECT"});
  return false;
}

// One whole packet. False when no more input is taken now.
static bool handle_packet(struct connection *connection, uint8_t first, struct span body)
{
  struct shard *shard = connection->shard;
  unsigned type = first >> 4;
  if (connection->state < CONNECTED) return handle_unconnected(connection, first, body);
  shard->counters.packets_received[type]++;
  connection->heard_ms = (uint32_t)shard->now.ms;
  switch (type) {
    case MQTT_PUBLISH: return handle_publish(connection, first, body);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: return handle_ack(connection, type, first, body);
    default: return handle_other(connection, first, body);
  }
}

enum frame { FRAME_WHOLE, FRAME_PARTIAL, FRAME_REFUSED };

// Looks at the packet in front of `bytes`. *out_wanted: its whole size, or the least that tells more.
static enum frame look(struct connection *connection, struct span bytes, struct mqtt_fixed_header *header,
                       size_t *out_wanted)
{
  *out_wanted = bytes.size + 1;
  if (connection->state == EXPECT_CONNECT && bytes.size > 0 && bytes.at[0] >> 4 != MQTT_CONNECT) {
    connection_fail(connection,
                    &(struct mqtt_fault){MQTT_PROTOCOL_ERROR, "MQTT-3.1.0-1", "the first packet is not CONNECT"});
    return FRAME_REFUSED;
  }
  enum mqtt_header_result result = mqtt_fixed_header(bytes, header);
  if (result == MQTT_HEADER_INCOMPLETE) return FRAME_PARTIAL;
  if (result == MQTT_HEADER_MALFORMED) {
    connection_fail(connection, &(struct mqtt_fault){MQTT_MALFORMED_PACKET, "MQTT-1.5.5-1",
                                                     "a remaining length of more than four bytes"});
    return FRAME_REFUSED;
  }
  // Before 5.0 nothing forbids a length with leading zeros, and small clients send it.
  if (header->size > 2 && connection->version == MQTT_5_0 && header->size > mqtt_fixed_header_size(header->remaining)) {
    connection_fail(connection, &(struct mqtt_fault){MQTT_MALFORMED_PACKET, "MQTT-1.5.5-1",
                                                     "a remaining length with more bytes than it needs"});
    return FRAME_REFUSED;
  }
  size_t size = header->size + (size_t)header->remaining;
  *out_wanted = size;
  if (size > connection->granted_packet_size) {
    connection_exceed(
        connection, LIMIT_PACKET_SIZE,
        &(struct mqtt_fault){MQTT_PACKET_TOO_LARGE, "MQTT-3.2.2-15", "the packet is larger than the maximum packet size"});
    return FRAME_REFUSED;
  }
  return bytes.size >= size ? FRAME_WHOLE : FRAME_PARTIAL;
}

// Whether a packet after which no more is taken was not taken itself: it comes again.
static bool comes_again(const struct connection *connection)
{
  static const unsigned again = PAUSED_MEMORY | PAUSED_TAKE_OVER | PAUSED_JOURNAL | PAUSED_FULL | PAUSED_AUTHENTICATION;
  return connection->state == MIGRATING || connection->pauses & again;
}

// Handles whole packets in place, as many as there are and may be taken. Returns the bytes used; *out_wanted: whole size of
// the packet that is left, when it is partial.
static size_t take_packets(struct connection *connection, struct span bytes, size_t *out_wanted)
{
  struct shard *shard = connection->shard;
  size_t used = 0;
  *out_wanted = 0;
  while (used < bytes.size) {
    struct mqtt_fixed_header header;
    if (look(connection, span_from(bytes, used), &header, out_wanted) != FRAME_WHOLE) return used;
    struct span packet = span_of(bytes.at + used, *out_wanted);
    if (connection->limited && !throttle_admit(connection, packet)) return used;
    bool more = handle_packet(connection, header.first, span_from(packet, header.size));
    if (!more && comes_again(connection)) {
      if (connection->limited) throttle_give_back(connection, packet);
      return used;
    }
    used += packet.size;
    if (!more || connection->pauses || shard->turn_copies > YIELD_COPIES) return used;
  }
  return used;
}

static bool keep_input(struct connection *connection, struct span bytes)
{
  if (bytes.size == 0) return true;
  uint8_t *room = reserve(connection, &connection->input, bytes.size);
  if (!room) {
    detach(connection, true);
    close_soon(connection);
    return false;
  }
  memcpy(room, bytes.at, bytes.size);
  buffer_commit(connection->input, bytes.size);
  return true;
}

uint8_t *connection_take_packet(struct connection *connection, size_t *out_size)
{
  struct span kept = buffer_peek(connection->input);
  struct mqtt_fixed_header header;
  enum mqtt_header_result result = mqtt_fixed_header(kept, &header);
  assert(result == MQTT_HEADER_OK);
  size_t size = header.size + (size_t)header.remaining;
  assert(size <= kept.size);
  uint8_t *packet = malloc(size);
  if (!packet) return NULL;
  memcpy(packet, kept.at, size);
  buffer_consume(connection->input, size);
  if (buffer_size(connection->input) == 0) free_buffer(connection, &connection->input);
  *out_size = size;
  return packet;
}

bool connection_put_packet(struct connection *connection, struct span packet)
{
  size_t behind = connection->input ? buffer_size(connection->input) : 0;
  if (!keep_input(connection, packet)) return false;
  uint8_t *front = connection->input->data + connection->input->start;
  memmove(front + packet.size, front, behind);
  memcpy(front, packet.at, packet.size);
  return true;
}

// What was kept comes first; a packet in it is completed from `bytes` by just what it lacks. Returns how much of `bytes` was
// used.
static size_t take_kept(struct connection *connection, struct span bytes)
{
  size_t used = 0;
  while (connection->state != CLOSING && connection->input) {
    size_t wanted;
    size_t taken = take_packets(connection, buffer_peek(connection->input), &wanted);
    if (connection->state == CLOSING) break;
    buffer_consume(connection->input, taken);
    size_t left = buffer_size(connection->input);
    if (left == 0) free_buffer(connection, &connection->input);
    if (connection->state == MIGRATING || connection->pauses || connection->shard->turn_copies > YIELD_COPIES) break;
    if (left == 0 || used == bytes.size) break;
    assert(wanted > left);
    size_t missing = wanted - left;
    if (missing > bytes.size - used) missing = bytes.size - used;
    if (!keep_input(connection, span_of(bytes.at + used, missing))) break;
    used += missing;
  }
  return used;
}

enum receive_result shard_receive(struct shard *shard, struct connection *connection, struct span bytes, size_t *out_taken)
{
  *out_taken = bytes.size;
  if (connection->state == CLOSING) return RECEIVE_CLOSING;
  shard->counters.bytes_received += bytes.size;
  // It may have been paused again since it was told to go on.
  if (connection->pauses) return keep_input(connection, bytes) ? RECEIVE_PAUSED : RECEIVE_CLOSING;
  size_t used = 0;
  if (connection->input) used = take_kept(connection, bytes);
  bool go_on = connection->state <= CONNECTED && !connection->input && !connection->pauses;
  if (go_on && shard->turn_copies <= YIELD_COPIES) {
    size_t wanted;
    used += take_packets(connection, span_from(bytes, used), &wanted);
  }
  if (connection->state == CLOSING) return RECEIVE_CLOSING;
  if (connection->state == CONNECTED) pause_where_due(connection);
  if (connection->state != MIGRATING && !connection->pauses && shard->turn_copies > YIELD_COPIES) {
    *out_taken = used;
    shard->counters.bytes_received -= bytes.size - used;
    return RECEIVE_YIELD;
  }
  if (!keep_input(connection, span_from(bytes, used))) return RECEIVE_CLOSING;
  if (connection->admitting) admission_input_kept(connection);
  if (connection->state == MIGRATING) return RECEIVE_MIGRATE;
  return connection->pauses ? RECEIVE_PAUSED : RECEIVE_OK;
}

uint8_t shard_detach(struct shard *shard, struct connection *connection, uint8_t **out_input, size_t *out_size)
{
  assert(connection->state == MIGRATING);
  (void)shard;
  uint8_t target = connection->migrate_to;
  struct span input = buffer_peek(connection->input);
  uint8_t *copy = malloc(input.size);
  if (!copy) abort();
  memcpy(copy, input.at, input.size);
  *out_input = copy;
  *out_size = input.size;
  connection_free(connection);
  return target;
}
