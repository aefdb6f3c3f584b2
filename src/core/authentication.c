// Questions and answers about clients that want in (5.0 sections 3.1.4, 4.12): a CONNECT, or an AUTH, becomes a question;
// with its answer the CONNECT is handled again, the exchange goes on, or the connection ends. Nothing here knows how a
// question is answered.

#include "core/authentication.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/wipe.h"
#include "core/access.h"
#include "core/admission.h"
#include "core/shard_internal.h"

// ---- Questions

static struct span put(uint8_t **at, struct span text)
{
  struct span kept = span_of(*at, text.size);
  if (text.size > 0) memcpy(*at, text.at, text.size);
  *at += text.size;
  return kept;
}

struct authentication *authentication_create(const struct authentication *parts)
{
  struct authentication *question = calloc(1, sizeof *question);
  size_t size = parts->client_id.size + parts->user.size + parts->password.size + parts->method.size + parts->data.size;
  uint8_t *bytes = question ? malloc(size > 0 ? size : 1) : NULL;
  if (!bytes) {
    free(question);
    return NULL;
  }
  *question = (struct authentication){.ticket = parts->ticket,
                                      .transport = parts->transport,
                                      .version = parts->version,
                                      .again = parts->again,
                                      .has_user = parts->has_user,
                                      .has_password = parts->has_password,
                                      .bytes = bytes,
                                      .size = size};
  question->client_id = put(&bytes, parts->client_id);
  question->user = put(&bytes, parts->user);
  question->password = put(&bytes, parts->password);
  question->method = put(&bytes, parts->method);
  question->data = put(&bytes, parts->data);
  return question;
}

void authentication_free(struct authentication *authentication)
{
  if (!authentication) return;
  assert(!authentication->enhanced);
  wipe_and_free(authentication->bytes, authentication->size);
  wipe_and_free(authentication->answer, authentication->answer_size);
  identity_unref(authentication->identity);
  free(authentication);
}

static void discard(struct shard *shard, struct authentication *authentication)
{
  admission_end_exchange(shard, &authentication->enhanced);
  authentication_free(authentication);
}

// Tickets count up: spread over the map they must be.
static uint64_t ticket_hash(const struct shard *shard, uint64_t ticket)
{
  return hash_bytes(shard->settings.seed, &ticket, sizeof ticket);
}

static bool has_ticket(const void *item, const void *key)
{
  const struct admission *admission = item;
  return admission->ticket == *(const uint64_t *)key;
}

static struct admission *find(const struct shard *shard, uint64_t ticket)
{
  return map_find(&shard->asking, ticket_hash(shard, ticket), has_ticket, &ticket);
}

void admission_end_question(struct shard *shard, struct admission *admission)
{
  if (admission->ticket == 0) return;
  bool was_there = map_remove(&shard->asking, ticket_hash(shard, admission->ticket), admission);
  assert(was_there);
  admission->ticket = 0;
  admission_discharge(shard, admission, admission->question_bytes);
  admission->question_bytes = 0;
}

static bool ask(struct connection *connection, struct authentication *parts)
{
  struct shard *shard = connection->shard;
  struct admission *admission = admission_of(connection);
  assert(admission->ticket == 0);
  parts->ticket = shard_number(shard);
  parts->transport = connection->transport;
  parts->version = admission->version;
  struct authentication *question = authentication_create(parts);
  if (!question) return false;
  admission->ticket = parts->ticket;
  if (map_insert(&shard->asking, ticket_hash(shard, parts->ticket), admission) != OK) {
    admission->ticket = 0;
    authentication_free(question);
    return false;
  }
  question->enhanced = admission->enhanced;
  admission->enhanced = NULL;
  admission->exchanging = false;
  admission->question_bytes = sizeof *question + question->size;
  admission_charge(shard, admission, admission->question_bytes);
  if (shard->last_question)
    shard->last_question->next = question;
  else
    shard->first_question = question;
  shard->last_question = question;
  return true;
}

struct authentication *shard_next_authentication(struct shard *shard)
{
  for (struct authentication *question; (question = shard->first_question);) {
    shard->first_question = question->next;
    if (!question->next) shard->last_question = NULL;
    question->next = NULL;
    if (find(shard, question->ticket)) return question;
    discard(shard, question);  // its connection is gone
  }
  return NULL;
}

void admission_deinit(struct shard *shard)
{
  for (struct authentication *question; (question = shard->first_question);) {
    shard->first_question = question->next;
    discard(shard, question);
  }
  assert(shard->asking.count == 0);
  map_deinit(&shard->asking);
  assert(shard->admissions.count == 0);
  map_deinit(&shard->admissions);
}

// ---- Asking

static bool refuse_for_memory(struct connection *connection)
{
  connection_fail(connection, &(struct mqtt_fault){MQTT_SERVER_BUSY, NULL, "the broker is out of memory"});
  return false;
}

bool admission_ask(struct connection *connection, const struct mqtt_connect *connect, struct span body)
{
  const struct mqtt_properties *properties = &connect->properties;
  struct span method = {0}, data = {0};
  if (connect->version == MQTT_5_0 && MQTT_HAS(properties, AUTHENTICATION_METHOD)) {
    method = properties->authentication_method;
    if (MQTT_HAS(properties, AUTHENTICATION_DATA)) data = properties->authentication_data;
  }
  // An AUTH must not be too large for the client [MQTT-3.1.2-24].
  if (connect->version == MQTT_5_0 && MQTT_HAS(properties, MAXIMUM_PACKET_SIZE))
    connection->maximum_packet_size = properties->maximum_packet_size;
  struct admission *admission = admission_create(connection, method);
  struct authentication parts = {.has_user = connect->has_user_name,
                                 .has_password = connect->has_password,
                                 .client_id = connect->client_id,
                                 .user = connect->user_name,
                                 .password = connect->password,
                                 .method = method,
                                 .data = data};
  if (admission) admission->version = (uint8_t)connect->version;
  if (!admission || !ask(connection, &parts)) {
    connection->shard->counters.connects_refused++;
    return refuse_for_memory(connection);
  }
  if (connect->has_password) {
    admission->password_at = connect->password.size > 0 ? (size_t)(connect->password.at - body.at) : 0;
    admission->password_size = connect->password.size;
  }
  connection->version = 0;  // the packet comes again
  connection_pause(connection, PAUSED_AUTHENTICATION);
  return false;
}

// Who it said it is, when its CONNECT is kept.
static void add_connect(const struct admission *admission, struct authentication *parts)
{
  struct mqtt_fixed_header header;
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  struct span bytes = span_of(admission->connect, admission->connect_size);
  enum mqtt_header_result result = mqtt_fixed_header(bytes, &header);
  assert(result == MQTT_HEADER_OK);
  bool whole = mqtt_decode(MQTT_5_0, MQTT_FROM_CLIENT, header.first, span_from(bytes, header.size), &packet, &fault);
  assert(whole);  // as it was before
  parts->client_id = packet.connect.client_id;
  parts->user = packet.connect.user_name;
  parts->has_user = packet.connect.has_user_name;
}

bool admission_ask_again(struct connection *connection, const struct mqtt_disconnect *auth)
{
  struct admission *admission = admission_of(connection);
  const struct mqtt_properties *properties = &auth->properties;
  struct authentication parts = {.method = admission_method(admission), .again = connection->state == CONNECTED};
  if (MQTT_HAS(properties, AUTHENTICATION_DATA)) parts.data = properties->authentication_data;
  if (parts.again) {
    parts.client_id = session_id(connection->session);
    parts.user = admission->identity->user;
    parts.has_user = parts.user.size > 0;
  } else {
    add_connect(admission, &parts);
  }
  if (!ask(connection, &parts)) return refuse_for_memory(connection);
  // A client that is in goes on meanwhile with what it may do already (section 4.12.1).
  if (!parts.again) connection_pause(connection, PAUSED_AUTHENTICATION);
  return true;
}

// ---- Answers

static void send_auth(struct connection *connection, const struct authentication *answer)
{
  struct mqtt_packet packet = {.type = MQTT_AUTH, .disconnect = {.reason = answer->reason}};
  struct mqtt_properties *properties = &packet.disconnect.properties;
  properties->present = UINT64_C(1) << MQTT_PROPERTY_AUTHENTICATION_METHOD;  // [MQTT-4.12.0-5]
  properties->authentication_method = admission_method(admission_of(connection));
  if (answer->answer_size > 0) {
    properties->present |= UINT64_C(1) << MQTT_PROPERTY_AUTHENTICATION_DATA;
    properties->authentication_data = span_of(answer->answer, answer->answer_size);
  }
  connection_send(connection, &packet);
}

// `why` is for the log only: who guesses learns nothing from it.
static void log_refusal(const struct connection *connection, const struct authentication *answer)
{
  const struct shard *shard = connection->shard;
  LOG(shard->settings.log, shard->now, LOG_WARNING, "authentication_failed", FIELD_SPAN("client", answer->client_id),
      FIELD_SPAN("user", answer->user), FIELD_TEXT("address", connection->address),
      FIELD_UINT("reason", (uint64_t)answer->reason), FIELD_TEXT("reason_name", mqtt_reason_name(answer->reason)),
      FIELD_TEXT("detail", answer->why ? answer->why : ""));
}

// [MQTT-4.12.0-4]
static void refuse_client(struct connection *connection, const struct authentication *answer)
{
  struct shard *shard = connection->shard;
  connection->version = answer->version;
  shard->counters.packets_received[MQTT_CONNECT]++;
  shard->counters.connects_refused++;
  count_fault(shard, answer->reason);
  log_refusal(connection, answer);
  connection_end(connection, answer->reason, false);
}

// The next step is the client's. Its CONNECT waits for the last one.
static void go_on(struct connection *connection, const struct authentication *answer)
{
  struct admission *admission = admission_of(connection);
  admission->exchanging = true;
  if (connection->state == EXPECT_CONNECT) {
    admission->connect = connection_take_packet(connection, &admission->connect_size);
    connection->version = MQTT_5_0;
    if (!admission->connect) {
      connection->shard->counters.connects_refused++;
      refuse_for_memory(connection);
      return;
    }
    admission_charge(connection->shard, admission, admission->connect_size);
    connection->state = EXPECT_AUTH;
  }
  send_auth(connection, answer);
  connection_unpause(connection, PAUSED_AUTHENTICATION);
}

static void take_identity(struct admission *admission, struct authentication *answer)
{
  assert(answer->identity);
  assert((answer->identity->expires_ms == 0) == (answer->expires.ms == 0));
  identity_unref(admission->identity);
  admission->identity = answer->identity;
  answer->identity = NULL;
  admission->expires = answer->expires;
}

static void let_in(struct connection *connection, struct authentication *answer)
{
  struct admission *admission = admission_of(connection);
  take_identity(admission, answer);
  admission->answer = answer->answer;
  admission->answer_size = answer->answer_size;
  answer->answer = NULL;
  admission_charge(connection->shard, admission, admission->answer_size);
  if (connection->state == EXPECT_AUTH) {
    connection->state = EXPECT_CONNECT;
    if (!connection_put_packet(connection, span_of(admission->connect, admission->connect_size))) return;
    admission_discharge(connection->shard, admission, admission->connect_size);
    wipe_and_free(admission->connect, admission->connect_size);
    admission->connect = NULL;
    admission->connect_size = 0;
  }
  connection->version = 0;
  connection_unpause(connection, PAUSED_AUTHENTICATION);
}

// What a CONNACK can say and a DISCONNECT cannot.
static enum mqtt_reason disconnect_reason(enum mqtt_reason reason)
{
  bool connack_only = reason >= MQTT_UNSUPPORTED_PROTOCOL_VERSION && reason <= MQTT_BANNED &&
                      reason != MQTT_NOT_AUTHORIZED && reason != MQTT_SERVER_BUSY;
  return connack_only ? MQTT_NOT_AUTHORIZED : reason;
}

// [MQTT-4.12.1-2]
static void refuse_again(struct connection *connection, const struct authentication *answer)
{
  enum mqtt_reason reason = disconnect_reason(answer->reason);
  count_fault(connection->shard, reason);
  log_refusal(connection, answer);
  connection_end(connection, reason, true);
}

static void let_in_again(struct connection *connection, struct authentication *answer)
{
  struct admission *admission = admission_of(connection);
  struct shard *shard = connection->shard;
  if (!span_equal(answer->identity->user, admission->identity->user)) {
    answer->reason = MQTT_NOT_AUTHORIZED;
    answer->why = "re-authentication by the name of another user";
    refuse_again(connection, answer);
    return;
  }
  if (access_open(connection, answer->identity, session_id(connection->session)) != OK) {
    refuse_for_memory(connection);
    return;
  }
  take_identity(admission, answer);
  if (connection->session->will) durable_will(connection->session);  // its maker has changed
  LOG(shard->settings.log, shard->now, LOG_INFO, "client_authenticated_again",
      FIELD_SPAN("client", session_id(connection->session)), FIELD_SPAN("user", admission->identity->user),
      FIELD_TEXT("address", connection->address));
  send_auth(connection, answer);
  if (connection->state == CONNECTED) admission_settle(connection);
}

static void handle_answer(struct connection *connection, struct authentication *answer)
{
  bool again = connection->state == CONNECTED;
  assert(again || connection->state == EXPECT_CONNECT || connection->state == EXPECT_AUTH);
  switch ((unsigned)answer->reason) {
    case MQTT_CONTINUE_AUTHENTICATION:
      assert(admission_of(connection)->method_size > 0);
      go_on(connection, answer);
      break;
    case MQTT_SUCCESS:
      if (again)
        let_in_again(connection, answer);
      else
        let_in(connection, answer);
      break;
    default:
      assert(answer->reason >= MQTT_UNSPECIFIED_ERROR);
      if (again)
        refuse_again(connection, answer);
      else
        refuse_client(connection, answer);
  }
}

bool shard_awaits(const struct shard *shard, const struct authentication *answer)
{
  return find(shard, answer->ticket);
}

void shard_authenticated(struct shard *shard, struct authentication *answer)
{
  struct admission *admission = find(shard, answer->ticket);
  if (admission) {
    admission_end_question(shard, admission);
    if (answer->reason == MQTT_CONTINUE_AUTHENTICATION) {
      admission->enhanced = answer->enhanced;
      answer->enhanced = NULL;
    }
    handle_answer(admission->connection, answer);
  }
  discard(shard, answer);
}
