// Listens where bytes pass between shards and connections, and tells the model. Everything that is taken or written must
// decode.
#include "client.h"
#include "mqtt/topic.h"

// ---- Towards the broker

// Whoever else is connected under the same client identifier has to go [MQTT-3.1.4-3].
static void take_over(struct link *link)
{
  const struct broker *broker = link->broker;
  for (size_t i = 0; i < broker->links.count; i++) {
    struct link *old = broker->links.items[i];
    if (old == link || old->client != link->client || !old->connect_taken || !old->connection) continue;
    if (old->closing_ms == NEVER) old->closing_ms = link->world->trial.now_ms;
    if (!old->disconnect_taken) model_will_due(old, old->closing_ms, NEVER);
  }
}

static void take_connect(struct link *link, const struct mqtt_connect *connect)
{
  const struct mqtt_properties *properties = &connect->properties;
  link->connect_taken = true;
  link->version = connect->version;
  link->clean_start = connect->clean_start;
  if (connect->version == MQTT_5_0)
    link->expiry_s = properties->session_expiry_s;
  else
    link->expiry_s = connect->clean_start ? 0 : UINT32_MAX;
  if (link->expiry_s > link->broker->limits.session_expiry_max_s) link->expiry_s = link->broker->limits.session_expiry_max_s;
  link->maximum_packet_size = properties->maximum_packet_size;
  link->receive_maximum = MQTT_HAS(properties, RECEIVE_MAXIMUM) ? properties->receive_maximum : UINT16_MAX;
  link->alias_maximum = properties->topic_alias_maximum;
  link->keep_alive_ms = connect->keep_alive_s * 1000u;
  if (!connect->will.present) link->will_message = NULL;
  link->will_delay_ms = connect->will.present ? connect->will.properties.will_delay_s * 1000u : 0;
  take_over(link);
  model_will_connecting(link);
}

static void take_publish(struct link *link, const struct mqtt_publish *publish, const struct moment *at)
{
  struct session *session = link->session;
  if (!session || link->writes_first == link->writes.count) {
    world_fail(link->world, "the simulation lost count of what link %u published", link->number);
    return;
  }
  struct message *message = link->writes.items[link->writes_first++];
  struct message **slot = &session->incoming[publish->packet_id & 255];
  bool repeat = publish->qos == 2 && *slot == message;
  struct publication *publication = NULL;
  TRACE(link->world, "  message %u on shard %u packet %u%s", message->id, link->shard, publish->packet_id,
        repeat ? ", repeated" : "");
  // Near its limits the broker may have refused the first one; clients before 5.0 are not told, and it is taken now.
  bool doubtful = repeat && !link->world->plan.roomy;
  if (!repeat || doubtful) {
    publication = model_publication(link->broker, link->shard, message, *at);
    publication->doubtful = doubtful;
    publication_processed(publication);
    if (publish->qos == 2) *slot = message;
  }
  if (publish->qos > 0) {
    struct receipt receipt = {.packet_id = publish->packet_id, .qos = publish->qos, .publication = publication};
    VECTOR_PUSH(&link->receipts, receipt);
  }
}

static void take_ack(struct link *link, enum mqtt_packet_type type, const struct mqtt_ack *ack)
{
  struct session *session = link->session;
  if (!session) return;
  if (type == MQTT_PUBREL) {
    session->incoming[ack->packet_id & 255] = NULL;
    return;
  }
  for (size_t i = 0; i < session->open.count; i++) {
    struct copy *copy = session->open.items[i];
    if (copy->packet_id != ack->packet_id) continue;
    bool refused = ack->reason >= 0x80;
    copy->state = type == MQTT_PUBREC && !refused ? COPY_RECEIVED : COPY_DONE;
    if (copy->state == COPY_DONE) VECTOR_REMOVE(&session->open, i);
    return;
  }
}

// "$share/g1/a/b" → the indices of the filter and of the group.
static bool name_filter(const struct world *world, struct span text, uint8_t *out_filter, uint8_t *out_group)
{
  struct mqtt_filter parsed;
  if (!mqtt_filter_parse(text, &parsed)) return false;
  *out_group = parsed.share.size == 2 ? (uint8_t)(parsed.share.at[1] - '0') : 0;
  for (uint8_t i = 0; i < SIM_FILTERS; i++) {
    if (!span_equal(parsed.filter, span_text(world->filters[i]))) continue;
    *out_filter = i;
    return true;
  }
  return false;
}

// Returns whether there was any.
static bool end_older(struct session *session, uint8_t filter, uint8_t group, const struct moment *at)
{
  bool any = false;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    struct subscription *old = session->subscriptions.items[i];
    if (old->filter != filter || old->group != group || old->end.tick != NEVER) continue;
    old->end = *at;
    any |= !old->failed;
  }
  return any;
}

static void take_subscribe(struct link *link, const struct mqtt_subscribe *subscribe, const struct moment *at)
{
  struct session *session = link->session;
  struct request request = {.packet_id = subscribe->packet_id, .taken = at->tick};
  struct mqtt_subscription wanted;
  for (size_t cursor = 0; mqtt_next_subscription(link->version, subscribe, &cursor, &wanted) && request.count < 8;) {
    struct subscription *subscription = sim_alloc(sizeof *subscription);
    *subscription = (struct subscription){.session = session,
                                          .qos = wanted.qos,
                                          .no_local = wanted.no_local,
                                          .retain_as_published = wanted.retain_as_published,
                                          .retain_handling = (uint8_t)wanted.retain_handling,
                                          .id = subscribe->properties.subscription_id,
                                          .taken = *at,
                                          .effective = NEVER,
                                          .end = {.tick = NEVER},
                                          .ended = NEVER};
    if (!name_filter(link->world, wanted.filter, &subscription->filter, &subscription->group))
      world_fail(link->world, "the simulation does not know a filter that it sent");
    subscription->is_new = !end_older(session, subscription->filter, subscription->group, at);
    VECTOR_PUSH(&session->subscriptions, subscription);
    request.subscriptions[request.count++] = subscription;
  }
  VECTOR_PUSH(&link->requests, request);
}

static void take_unsubscribe(struct link *link, const struct mqtt_unsubscribe *unsubscribe, const struct moment *at)
{
  struct request request = {.packet_id = unsubscribe->packet_id, .unsubscribe = true, .taken = at->tick};
  struct span text;
  for (size_t cursor = 0; mqtt_next_filter(unsubscribe, &cursor, &text) && request.count < 8; request.count++) {
    uint8_t *filter = &request.filters[request.count].filter, *group = &request.filters[request.count].group;
    if (!name_filter(link->world, text, filter, group))
      world_fail(link->world, "the simulation does not know a filter that it sent");
    (void)end_older(link->session, *filter, *group, at);
  }
  VECTOR_PUSH(&link->requests, request);
}

static void take_disconnect(struct link *link, const struct mqtt_disconnect *disconnect)
{
  struct world *world = link->world;
  if (link->closing_ms > world->trial.now_ms) link->closing_ms = world->trial.now_ms;
  if (disconnect->reason != MQTT_DISCONNECT_WITH_WILL) link->disconnect_taken = true;
  if (link->session && MQTT_HAS(&disconnect->properties, SESSION_EXPIRY)) {
    uint32_t expiry_s = disconnect->properties.session_expiry_s, most = link->broker->limits.session_expiry_max_s;
    link->session->expiry_s = expiry_s > most ? most : expiry_s;
  }
  if (!link->disconnect_taken) model_will_due(link, world->trial.now_ms, NEVER);
}

static void take_packet(struct link *link, struct mqtt_packet *packet, const struct moment *at)
{
  bool has_id = packet->type >= MQTT_PUBACK && packet->type <= MQTT_PUBCOMP;
  TRACE(link->world, "link %u client %s > %s %u", link->number, link->client->id, mqtt_packet_name(packet->type),
        has_id ? packet->ack.packet_id : 0u);
  if (packet->type != MQTT_CONNECT && !link->session) return;  // the connection is being closed
  switch (packet->type) {
    case MQTT_CONNECT: take_connect(link, &packet->connect); break;
    case MQTT_PUBLISH: take_publish(link, &packet->publish, at); break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: take_ack(link, packet->type, &packet->ack); break;
    case MQTT_SUBSCRIBE: take_subscribe(link, &packet->subscribe, at); break;
    case MQTT_UNSUBSCRIBE: take_unsubscribe(link, &packet->unsubscribe, at); break;
    case MQTT_DISCONNECT: take_disconnect(link, &packet->disconnect); break;
    case MQTT_CONNACK:
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
    case MQTT_PINGREQ:
    case MQTT_PINGRESP:
    case MQTT_AUTH: break;
  }
}

void tap_in(struct link *link, struct span bytes)
{
  splitter_add(&link->in, bytes);
}

void tap_take(struct link *link, uint64_t count, const struct moment *at)
{
  struct world *world = link->world;
  struct mqtt_packet packet;
  struct mqtt_fault fault = {.text = "more packets were counted than it sent"};
  size_t size;
  for (; count > 0 && !world->trial.failed; count--) {
    if (splitter_peek(&link->in, link->version, MQTT_FROM_CLIENT, &packet, &size, &fault) != SPLITTER_PACKET) {
      world_fail(world, "client %s: %s", link->client->id, fault.text);
      return;
    }
    link->last_packet_ms = world->trial.now_ms;
    take_packet(link, &packet, at);
    splitter_drop(&link->in, size);
  }
}

bool tap_has_packet(const struct link *link)
{
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  size_t size;
  return splitter_peek(&link->in, link->version, MQTT_FROM_CLIENT, &packet, &size, &fault) == SPLITTER_PACKET;
}

// The session is without this connection from some instant between `lo_ms` and now on.
static void detach(struct link *link, uint64_t lo_ms)
{
  struct session *session = link->session;
  if (!session || session->link != link) return;
  session->link = NULL;
  session->connections++;
  session->closed_lo_ms = lo_ms;
  session->closed_hi_ms = link->world->trial.now_ms;
}

void tap_closed(struct link *link)
{
  struct world *world = link->world;
  uint64_t lo_ms = link->closing_ms < world->trial.now_ms ? link->closing_ms : world->trial.now_ms;
  if (!link->disconnect_taken) model_will_due(link, lo_ms, world->trial.now_ms);
  detach(link, lo_ms);
}

// ---- From the broker

// There is no memory for another session. An older one that a clean start was to replace has ended all the same.
static void refused_connect(struct link *link, enum mqtt_reason reason)
{
  struct world *world = link->world;
  struct client *client = link->client;
  if (world->plan.roomy) world_fail(world, "client %s was refused: %s", client->id, mqtt_reason_name(reason));
  if (!client->session || client->session->link) return;
  if (!link->clean_start && !session_may_be_gone(client->session, world->trial.now_ms))
    world_fail(world, "client %s was refused although it has a session", client->id);
  model_will_reconnect(link, false);
  model_session_end(client->session);
  client->session = NULL;
}

static void write_connack(struct link *link, const struct mqtt_connack *connack)
{
  struct world *world = link->world;
  struct client *client = link->client;
  struct session *old = client->session;
  link->connack_written = true;
  if (connack->reason != MQTT_SUCCESS) {
    refused_connect(link, connack->reason);
    return;
  }
  if (MQTT_HAS(&connack->properties, SESSION_EXPIRY)) link->expiry_s = connack->properties.session_expiry_s;
  if (MQTT_HAS(&connack->properties, SERVER_KEEP_ALIVE))
    link->keep_alive_ms = connack->properties.server_keep_alive_s * 1000u;
  if (old && old->link && old->link != link) {
    struct link *taken = old->link;
    if (!taken->disconnect_taken) model_will_due(taken, taken->closing_ms, world->trial.now_ms);
    detach(taken, taken->closing_ms < world->trial.now_ms ? taken->closing_ms : world->trial.now_ms);
  }
  // 3.1 has no such flag. The simulation lets those clients resume only where sessions do not expire.
  bool kept = old && !link->clean_start && !session_surely_gone(old, world->trial.now_ms, world->plan.lag_ms);
  bool present = link->version == MQTT_3_1 ? kept : connack->session_present;
  if (present) {
    if (!kept) {
      world_fail(world, "client %s: session present, but there is none", client->id);
      return;
    }
  } else if (old && !link->clean_start && !session_may_be_gone(old, world->trial.now_ms)) {
    world_fail(world, "client %s: session %u was lost", client->id, old->number);
  }
  model_will_reconnect(link, present);
  if (!present) {
    if (old) model_session_end(old);
    client->session = model_session_begin(client, link);
  }
  link->session = client->session;
  link->session->link = link;
  link->session->shard = link->shard;
  link->session->expiry_s = link->expiry_s;
}

static void write_receipt(struct link *link, enum mqtt_packet_type type, const struct mqtt_ack *ack)
{
  uint8_t qos = type == MQTT_PUBACK ? 1 : 2;
  for (size_t i = 0; i < link->receipts.count; i++) {
    struct receipt receipt = link->receipts.items[i];
    if (receipt.packet_id != ack->packet_id || receipt.qos != qos) continue;
    struct publication *publication = receipt.publication;
    bool refused = ack->reason >= 0x80;
    if (publication && refused) publication->refused = true;
    if (refused && qos == 2) link->session->incoming[ack->packet_id & 255] = NULL;
    VECTOR_REMOVE(&link->receipts, i);
    return;
  }
  world_fail(link->world, "%s for packet %u of client %s, which sent none", mqtt_packet_name(type), ack->packet_id,
             link->client->id);
}

static void write_pubrel(struct link *link, const struct mqtt_ack *ack)
{
  struct session *session = link->session;
  if (session->link != link) return;  // the last words of a connection that was taken over
  for (size_t i = 0; i < session->open.count; i++) {
    struct copy *copy = session->open.items[i];
    if (copy->packet_id == ack->packet_id && copy->state != COPY_OPEN) return;
  }
  world_fail(link->world, "PUBREL for packet %u to client %s, which sent no PUBREC", ack->packet_id, link->client->id);
}

static void end_surely(struct session *session, uint8_t filter, uint8_t group, uint64_t before)
{
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    struct subscription *old = session->subscriptions.items[i];
    if (old->filter == filter && old->group == group && old->taken.tick < before && old->ended == NEVER)
      old->ended = session->broker->world->trial.tick;
  }
}

static void write_suback(struct link *link, const struct mqtt_suback *suback, bool unsubscribe)
{
  struct world *world = link->world;
  for (size_t i = 0; i < link->requests.count; i++) {
    struct request *request = &link->requests.items[i];
    if (request->packet_id != suback->packet_id || request->unsubscribe != unsubscribe) continue;
    bool has_codes = !unsubscribe || link->version == MQTT_5_0;
    if (has_codes && suback->codes.size != request->count)
      world_fail(world, "an answer to %u filters has %zu codes", request->count, suback->codes.size);
    for (unsigned k = 0; k < request->count && !world->trial.failed; k++) {
      if (unsubscribe) {
        end_surely(link->session, request->filters[k].filter, request->filters[k].group, request->taken);
        continue;
      }
      struct subscription *subscription = request->subscriptions[k];
      if (suback->codes.at[k] >= 0x80) {
        subscription->failed = true;
        if (world->plan.roomy)
          world_fail(world, "a subscription of client %s was refused: 0x%02x", link->client->id, suback->codes.at[k]);
        continue;
      }
      if (suback->codes.at[k] != subscription->qos)
        world_fail(world, "granted QoS %u instead of %u", suback->codes.at[k], subscription->qos);
      subscription->effective = world->trial.tick;
      end_surely(link->session, subscription->filter, subscription->group, request->taken);
    }
    VECTOR_REMOVE(&link->requests, i);
    return;
  }
  world_fail(world, "%s for packet %u of client %s, which asked for nothing", unsubscribe ? "UNSUBACK" : "SUBACK",
             suback->packet_id, link->client->id);
}

static void write_packet(struct link *link, struct mqtt_packet *packet)
{
  struct world *world = link->world;
  bool has_id = packet->type >= MQTT_PUBACK && packet->type <= MQTT_PUBCOMP;
  TRACE(world, "link %u client %s < %s %u", link->number, link->client->id, mqtt_packet_name(packet->type),
        has_id ? packet->ack.packet_id : 0u);
  if (!link->session && packet->type != MQTT_CONNACK && packet->type != MQTT_DISCONNECT) {
    world_fail(world, "%s to client %s before CONNACK", mqtt_packet_name(packet->type), link->client->id);
    return;
  }
  switch (packet->type) {
    case MQTT_CONNACK: write_connack(link, &packet->connack); break;
    case MQTT_PUBLISH: oracle_publish(link, &packet->publish); break;
    case MQTT_PUBACK:
    case MQTT_PUBREC: write_receipt(link, packet->type, &packet->ack); break;
    case MQTT_PUBREL: write_pubrel(link, &packet->ack); break;
    case MQTT_SUBACK: write_suback(link, &packet->suback, false); break;
    case MQTT_UNSUBACK: write_suback(link, &packet->suback, true); break;
    case MQTT_DISCONNECT:
      TRACE(world, "  because: %s", mqtt_reason_name(packet->disconnect.reason));
      if (link->closing_ms == NEVER && !link->guilty)
        world_fail(world, "client %s was disconnected for nothing: %s", link->client->id,
                   mqtt_reason_name(packet->disconnect.reason));
      break;
    case MQTT_PUBCOMP:
    case MQTT_PINGRESP:
    case MQTT_CONNECT:
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
    case MQTT_PINGREQ:
    case MQTT_AUTH: break;
  }
}

void tap_out(struct link *link, struct span bytes)
{
  struct world *world = link->world;
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  size_t size;
  splitter_add(&link->out, bytes);
  enum splitter_result result = SPLITTER_INCOMPLETE;
  while (!world->trial.failed &&
         (result = splitter_peek(&link->out, link->version, MQTT_FROM_SERVER, &packet, &size, &fault)) == SPLITTER_PACKET) {
    if (link->maximum_packet_size && size > link->maximum_packet_size)
      world_fail(world, "%zu bytes to client %s, which takes %u", size, link->client->id, link->maximum_packet_size);
    write_packet(link, &packet);
    splitter_drop(&link->out, size);
  }
  if (result == SPLITTER_MALFORMED)
    world_fail(world, "the broker wrote to client %s what does not decode: %s", link->client->id, fault.text);
}
