// CONNECT and CONNACK (5.0 sections 3.1, 3.2, 4.1): who the client is, which session it gets, what both sides may do.

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/access.h"
#include "core/admission.h"
#include "core/shard_internal.h"
#include "core/throttle.h"

static bool refuse(struct connection *connection, enum mqtt_reason reason, const char *statement, const char *text)
{
  connection->shard->counters.connects_refused++;
  connection_fail(connection, &(struct mqtt_fault){reason, statement, text});
  return false;
}

enum { ASSIGNED_ID_SIZE = 23 };  // "skerry-" and 16 digits: what every server must accept back [MQTT-3.1.3-5]

// A client identifier that this shard owns, so that the client can stay here, and that no session has.
static struct span assign_id(struct shard *shard, char out[ASSIGNED_ID_SIZE + 1])
{
  struct span id;
  do {
    snprintf(out, ASSIGNED_ID_SIZE + 1, "skerry-%016llx", (unsigned long long)prng_next(&shard->prng));
    id = span_of(out, ASSIGNED_ID_SIZE);
  } while (shard_owner(shard, id) != shard->settings.shard || session_find(shard, id));
  return id;
}

static bool take_will(struct connection *connection, struct session *session, const struct mqtt_will *will)
{
  struct shard *shard = connection->shard;
  if (!will->present) return true;
  struct message_parts parts = {.topic = will->topic,
                                .payload = will->payload,
                                .raw_properties = will->properties.raw,
                                .topic_hash = index_hash(&shard->index, will->topic),
                                .origin = session->origin,
                                .qos = will->qos,
                                .retain = will->retain};
  struct will *kept = calloc(1, sizeof *kept);
  if (!kept) return false;
  kept->message = message_create(&shard->pool, &parts);
  if (!kept->message) {
    free(kept);
    return false;
  }
  kept->delay_s = MQTT_HAS(&will->properties, WILL_DELAY) ? will->properties.will_delay_s : 0;
  kept->has_expiry = MQTT_HAS(&will->properties, MESSAGE_EXPIRY);
  kept->expiry_s = will->properties.message_expiry_s;
  session->will = kept;
  return true;
}

static void take_over(struct connection *old, const char *by)
{
  struct shard *shard = old->shard;
  shard->counters.takeovers++;
  count_fault(shard, MQTT_SESSION_TAKEN_OVER);
  LOG(shard->settings.log, shard->now, LOG_INFO, "session_taken_over", FIELD_SPAN("client", session_id(old->session)),
      FIELD_TEXT("address", old->address), FIELD_TEXT("by", by));
  connection_end(old, MQTT_SESSION_TAKEN_OVER, true);  // may end the session, when it was not to outlive its connection
}

// The session of an earlier connection: its connection ends, and so does the session when a clean start is asked for.
static struct session *earlier_session(struct connection *connection, struct span client_id, bool clean_start)
{
  struct shard *shard = connection->shard;
  struct session *session = session_find(shard, client_id);
  if (session && session->connection) {
    take_over(session->connection, connection->address);
    session = session_find(shard, client_id);
  }
  if (session && clean_start) {
    session_end(session);
    return NULL;
  }
  return session;
}

static uint32_t wanted_expiry(const struct connection *connection, const struct mqtt_connect *connect)
{
  if (connect->version != MQTT_5_0) return connect->clean_start ? 0 : connection_limits(connection)->session_expiry_max_s;
  return MQTT_HAS(&connect->properties, SESSION_EXPIRY) ? connect->properties.session_expiry_s : 0;
}

static bool outlives_connection(const struct connection *connection, const struct mqtt_connect *connect)
{
  return connection_limits(connection)->session_expiry_max_s > 0 && wanted_expiry(connection, connect) > 0;
}

static void set_flow(struct connection *connection, const struct mqtt_connect *connect)
{
  const struct limits *limits = connection_limits(connection);
  const struct mqtt_properties *properties = &connect->properties;
  connection->receive_maximum = limits->in_flight;
  connection->granted_packet_size = limits->packet_size;
  connection->granted_in_flight = limits->in_flight;
  connection->granted_aliases = limits->topic_alias;
  connection->problem_information = true;
  connection->bridge = connect->bridge;
  if (connect->version != MQTT_5_0) return;
  if (MQTT_HAS(properties, RECEIVE_MAXIMUM) && properties->receive_maximum < limits->in_flight)
    connection->receive_maximum = properties->receive_maximum;
  if (MQTT_HAS(properties, MAXIMUM_PACKET_SIZE)) connection->maximum_packet_size = properties->maximum_packet_size;
  uint16_t aliases = MQTT_HAS(properties, TOPIC_ALIAS_MAXIMUM) ? properties->topic_alias_maximum : 0;
  connection->alias_maximum = aliases < limits->topic_alias ? aliases : limits->topic_alias;
  if (MQTT_HAS(properties, REQUEST_PROBLEM_INFORMATION))
    connection->problem_information = properties->request_problem_information;
}

// Returns the keep alive that holds; a client before 5.0 cannot be told another one than it asked for.
static uint16_t keep_alive(const struct connection *connection, const struct mqtt_connect *connect)
{
  uint32_t maximum = connection_limits(connection)->keep_alive_max_s;
  if (maximum > UINT16_MAX) maximum = UINT16_MAX;
  uint16_t wanted = connect->keep_alive_s;
  bool within = maximum == 0 || (wanted > 0 && wanted <= maximum);
  return within || connect->version != MQTT_5_0 ? wanted : (uint16_t)maximum;
}

static void set_property(struct mqtt_properties *properties, enum mqtt_property property)
{
  properties->present |= UINT64_C(1) << property;
}

// What answers are to be sent to: a topic prefix of the client's own. Returns memory to free.
static char *response_prefix(const struct session *session, struct mqtt_properties *properties)
{
  static const char name[] = "responses/";
  size_t size = sizeof name - 1 + session->client_id_size;
  char *prefix = size <= MQTT_MAX_STRING ? malloc(size) : NULL;
  if (!prefix) return NULL;
  memcpy(prefix, name, sizeof name - 1);
  memcpy(prefix + sizeof name - 1, session->client_id, session->client_id_size);
  set_property(properties, MQTT_PROPERTY_RESPONSE_INFORMATION);
  properties->response_information = span_of(prefix, size);
  return prefix;
}

static void send_connack(struct connection *connection, const struct mqtt_connect *connect, bool session_present,
                         struct span assigned_id, uint64_t need)
{
  const struct limits *limits = connection_limits(connection);
  struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.session_present = session_present}};
  struct mqtt_properties *properties = &packet.connack.properties;
  uint32_t asked = MQTT_HAS(&connect->properties, SESSION_EXPIRY) ? connect->properties.session_expiry_s : 0;
  if (connection->session->expiry_s != asked) {
    set_property(properties, MQTT_PROPERTY_SESSION_EXPIRY);
    properties->session_expiry_s = connection->session->expiry_s;
  }
  set_property(properties, MQTT_PROPERTY_RECEIVE_MAXIMUM);
  properties->receive_maximum = limits->in_flight;
  set_property(properties, MQTT_PROPERTY_MAXIMUM_PACKET_SIZE);
  properties->maximum_packet_size = limits->packet_size;
  if (limits->topic_alias) {
    set_property(properties, MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM);
    properties->topic_alias_maximum = limits->topic_alias;
  }
  if (assigned_id.size) {
    set_property(properties, MQTT_PROPERTY_ASSIGNED_CLIENT_ID);
    properties->assigned_client_id = assigned_id;
  }
  if (connection->keep_alive_s != connect->keep_alive_s) {
    set_property(properties, MQTT_PROPERTY_SERVER_KEEP_ALIVE);
    properties->server_keep_alive_s = connection->keep_alive_s;
  }
  char *prefix = NULL;
  bool asked_for_topic =
      MQTT_HAS(&connect->properties, REQUEST_RESPONSE_INFORMATION) && connect->properties.request_response_information;
  if (asked_for_topic) prefix = response_prefix(connection->session, properties);
  const struct admission *admission = admission_of(connection);
  if (admission && admission->method_size > 0) {
    set_property(properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);  // [MQTT-4.12.0-5]
    properties->authentication_method = admission_method(admission);
  }
  if (admission && admission->answer_size > 0) {
    set_property(properties, MQTT_PROPERTY_AUTHENTICATION_DATA);
    properties->authentication_data = span_of(admission->answer, admission->answer_size);
  }
  if (!connection_fits(connection, &packet)) properties->present &= ~(UINT64_C(1) << MQTT_PROPERTY_RESPONSE_INFORMATION);
  if (connection_fits(connection, &packet))
    connection_answer_packet(connection, &packet, need);
  else
    connection_abandon(connection, "CONNACK does not fit the client's maximum packet size");
  free(prefix);
}

// Whom no question was asked about.
static bool check_stranger(struct connection *connection, const struct mqtt_connect *connect)
{
  if (connect->version == MQTT_5_0 && MQTT_HAS(&connect->properties, AUTHENTICATION_METHOD))
    return refuse(connection, MQTT_BAD_AUTHENTICATION_METHOD, "MQTT-4.12.0-1", "the authentication method is not known");
  if (!connection->anonymous)
    return refuse(connection, MQTT_NOT_AUTHORIZED, NULL, "this listener does not let anonymous clients in");
  return true;
}

static bool check(struct connection *connection, const struct mqtt_connect *connect)
{
  if (!admission_granted(connection) && !check_stranger(connection, connect)) return false;
  // A will is a PUBLISH to come: what would be refused then is refused now, while the client can be told.
  if (connect->will.present && topic_reserved(connect->will.topic))
    return refuse(connection, MQTT_NOT_AUTHORIZED, NULL, "the will's topic belongs to the broker");
  if (connect->will.present && topic_too_deep(connection, connect->will.topic))
    return refuse(connection, MQTT_TOPIC_NAME_INVALID, NULL, "the will's topic has too many levels");
  return true;
}

static bool decode(struct connection *connection, uint8_t first, struct span body, struct mqtt_packet *packet)
{
  struct mqtt_fault fault;
  packet->connect.version = 0;
  bool whole = mqtt_decode(MQTT_5_0, MQTT_FROM_CLIENT, first, body, packet, &fault);
  connection->version = (uint8_t)packet->connect.version;
  if (whole) return true;
  connection->shard->counters.connects_refused++;
  // [MQTT-3.1.2-2]: an unknown version is told in a form that such a client can hope to read.
  if (fault.reason == MQTT_UNSUPPORTED_PROTOCOL_VERSION && connection->version == 0) connection->version = MQTT_3_1_1;
  connection_fail(connection, &fault);
  return false;
}

// A session that outlives its connection is kept in the journal.
static bool begin_durable(struct connection *connection, bool present)
{
  struct shard *shard = connection->shard;
  struct session *session = connection->session;
  if (!session->durable) {
    if (!shard->journal.on || session->expiry_s == 0 || present) return true;
    if (durable_begin(session) != OK) return false;
    shard_want_look(shard);
  }
  durable_back(session, connection->receive_maximum);
  durable_will(session);
  return true;
}

static struct span user_of(const struct connection *connection)
{
  return admission_granted(connection) ? admission_of(connection)->identity->user : (struct span){0};
}

// A client identifier is easily known or guessed: it must not be the key to another user's session.
static bool check_owner(struct connection *connection, struct span client_id)
{
  const struct session *session = session_find(connection->shard, client_id);
  if (!connection->foreign && (!session || owner_allows(session, user_of(connection)))) return true;
  return refuse(connection, MQTT_NOT_AUTHORIZED, NULL, "the client identifier belongs to a session of another user");
}

// What the client may do is known from here on; its will is the first thing.
static bool open_access(struct connection *connection, const struct mqtt_connect *connect, struct span client_id)
{
  const struct identity *identity = admission_granted(connection) ? admission_of(connection)->identity : NULL;
  if (access_open(connection, identity, client_id) != OK)
    return refuse(connection, MQTT_SERVER_BUSY, NULL, "the broker is out of memory");
  const struct mqtt_will *will = &connect->will;
  if (!will->present) return true;
  uint64_t hash = index_hash(&connection->shard->index, will->topic);
  if (access_may_publish(connection, will->topic, hash, will->qos, will->retain)) return true;
  return refuse(connection, MQTT_NOT_AUTHORIZED, NULL, "the client may not publish its will");
}

static bool connect_session(struct connection *connection, const struct mqtt_connect *connect, struct span client_id,
                            bool *out_present)
{
  struct shard *shard = connection->shard;
  struct session *session = earlier_session(connection, client_id, connect->clean_start);
  *out_present = session;
  if (!session && shard_memory_full(shard))
    return refuse(connection, MQTT_SERVER_BUSY, NULL, "the broker's memory limit is reached");
  if (!session) session = session_create(shard, client_id);
  if (!session) return refuse(connection, MQTT_SERVER_BUSY, NULL, "the broker is out of memory");
  connection->state = CONNECTED;
  connection->session = session;
  connection->received_before = (uint16_t)session->received.count;
  session_attach(session, connection);
  session->limits = connection->limits;
  session->expiry_s = granted_expiry(connection, wanted_expiry(connection, connect));
  if (owner_set(session, user_of(connection)) == OK && take_will(connection, session, &connect->will) &&
      begin_durable(connection, *out_present))
    return true;
  connection->session = NULL;
  connection->state = EXPECT_CONNECT;
  if (!*out_present) session->expiry_s = 0;  // nothing is left of it: the journal may not know it
  session_detach(session, false);
  return refuse(connection, MQTT_SERVER_BUSY, NULL, "the broker is out of memory");
}

// Where the client belongs: by its identifier; one that is given an identifier may live anywhere, so these are dealt out.
static uint8_t home_by_id(struct connection *connection, struct span client_id)
{
  struct shard *shard = connection->shard;
  if (client_id.size > 0) return shard_owner(shard, client_id);
  return connection->adopted ? shard->settings.shard : (uint8_t)prng_below(&shard->prng, shard->settings.shard_count);
}

static uint64_t take_over_name(const struct shard *shard, struct span client_id)
{
  return hash_span(shard->settings.seed ^ 0x7a4e, client_id) | 1;
}

// With a journal the session may be on the shard that keeps the durable ones, which therefore sees every CONNECT first.
static uint8_t home_of(struct connection *connection, const struct mqtt_connect *connect)
{
  struct shard *shard = connection->shard;
  struct span client_id = connect->client_id;
  if (!shard->settings.journal) return home_by_id(connection, client_id);
  if (!shard->journal.on) return connection->adopted ? shard->settings.shard : JOURNAL_SHARD;
  if (outlives_connection(connection, connect)) return JOURNAL_SHARD;
  if (client_id.size > 0 && !journal_safe(&shard->journal, shard->journal.ended)) return JOURNAL_SHARD;
  if (client_id.size == 0) return (uint8_t)prng_below(&shard->prng, shard->settings.shard_count);
  if (session_find(shard, client_id) || ticket_has_connect(shard, take_over_name(shard, client_id))) return JOURNAL_SHARD;
  return home_by_id(connection, client_id);
}

// An identifier, and behind its NUL a user.
static char *take_over_text(struct span client_id, struct span user)
{
  char *text = malloc(client_id.size + user.size + 1);
  if (!text) abort();  // two sessions of one client would be the price
  memcpy(text, client_id.at, client_id.size);
  text[client_id.size] = '\0';
  if (user.size > 0) memcpy(text + client_id.size + 1, user.at, user.size);
  return text;
}

// A session that becomes durable: what another shard has under this identifier ends first. False: this CONNECT is handled
// again when that shard has answered.
static bool alone(struct connection *connection, const struct mqtt_connect *connect)
{
  struct shard *shard = connection->shard;
  struct span client_id = connect->client_id;
  if (!shard->journal.on || connection->alone || client_id.size == 0) return true;
  uint8_t other = shard_owner(shard, client_id);
  if (other == shard->settings.shard || session_find(shard, client_id)) return true;
  struct span user = user_of(connection);
  char *text = take_over_text(client_id, user);
  uint64_t ticket = ticket_for_connect(shard, connection, take_over_name(shard, client_id));
  shard_send_mail(shard, other,
                  (struct mail){.kind = MAIL_TAKE_OVER, .text = text, .count = (uint32_t)user.size, .ticket = ticket});
  connection_pause(connection, PAUSED_TAKE_OVER);
  return false;
}

void take_over_mail(struct shard *shard, struct mail *mail)
{
  const struct session *session = session_find(shard, span_text(mail->text));
  bool allowed = !session || owner_allows(session, span_of(mail->text + strlen(mail->text) + 1, mail->count));
  if (allowed && session && session->connection) take_over(session->connection, "");
  shard_send_mail(shard, mail->from,
                  (struct mail){.kind = MAIL_DONE, .flags = allowed ? 0 : MAIL_REFUSED, .ticket = mail->ticket});
  free(mail->text);
}

bool handle_connect(struct connection *connection, uint8_t first, struct span body)
{
  struct shard *shard = connection->shard;
  struct mqtt_packet packet;
  if (!decode(connection, first, body, &packet)) return false;
  const struct mqtt_connect *connect = &packet.connect;
  struct span client_id = connect->client_id;
  if (connection->authenticate && !admission_granted(connection)) return admission_ask(connection, connect, body);
  uint8_t home = home_of(connection, connect);
  if (home != shard->settings.shard) {
    connection->state = MIGRATING;
    connection->migrate_to = home & 0xfu;
    connection->version = 0;
    return false;
  }
  char assigned[ASSIGNED_ID_SIZE + 1];
  bool assign = client_id.size == 0;
  if (assign) client_id = assign_id(shard, assigned);
  shard->counters.packets_received[MQTT_CONNECT]++;
  if (!check(connection, connect)) return false;
  if (!alone(connection, connect)) {
    shard->counters.packets_received[MQTT_CONNECT]--;  // it comes again
    connection->version = 0;
    return false;
  }
  if (connection->alone) ticket_forget(shard, connection);
  set_flow(connection, connect);
  if (!check_owner(connection, client_id) || !open_access(connection, connect, client_id)) return false;
  const struct session *earlier = session_find(shard, client_id);
  bool was_durable = earlier && earlier->durable;
  bool present;
  if (throttle_set(connection) != OK) return refuse(connection, MQTT_SERVER_BUSY, NULL, "the broker is out of memory");
  if (!connect_session(connection, connect, client_id, &present)) return false;
  connection->heard_ms = (uint32_t)shard->now.ms;
  connection->keep_alive_s = keep_alive(connection, connect);
  wheel_cancel(&connection->timer);
  if (connection->keep_alive_s)
    wheel_arm(&shard->wheel, &connection->timer, (struct mono){shard->now.ms + connection->keep_alive_s * UINT64_C(1500)});
  shard->counters.connects_accepted++;
  LOG(shard->settings.log, shard->now, LOG_INFO, "client_connected", FIELD_SPAN("client", client_id),
      FIELD_SPAN("user", user_of(connection)), FIELD_TEXT("address", connection->address),
      FIELD_UINT("version", connection->version), FIELD_BOOL("session_present", present),
      FIELD_UINT("keep_alive", connection->keep_alive_s));
  // What the client may count on: that its session is kept, or that the one before is gone.
  // An end that is not safe yet may be that of its own, by an earlier CONNECT that was not answered.
  bool ending = !journal_safe(&shard->journal, shard->journal.ended);
  uint64_t need = was_durable || connection->session->durable || ending ? journal_need_all(shard) : 0;
  send_connack(connection, connect, present, assign ? client_id : (struct span){0}, need);
  if (connection->state != CONNECTED) return false;
  admission_settle(connection);
  return true;
}
