// What was sent, and by whom: how a copy is told from others, and what a client knows of its sessions.
#include <string.h>

#include "packets.h"
#include "world.h"

const char *const TOPIC_NAMES[TOPICS] = {"a", "a/b", "a/c", "b", "b/c", "c/d/e", "d", "e/f"};
const char *const FILTER_NAMES[FILTERS] = {"#", "a/#", "+/b", "b/c", "b", "c/+/e", "a/+", "d", "+"};

struct message *model_message(struct world *world, struct client *author)
{
  struct message *message = sim_alloc(sizeof *message);
  *message = (struct message){.id = (uint32_t)world->messages.count,
                              .author = author,
                              .first_sent = NEVER,
                              .first_sent_ms = NEVER,
                              .acked = NEVER,
                              .acked_ms = NEVER};
  VECTOR_PUSH(&world->messages, message);
  return message;
}

static uint8_t filler(const struct message *message, size_t at)
{
  return (uint8_t)(message->id * 31 + at * 7);
}

size_t message_payload(const struct message *message, uint8_t *out)
{
  if (message->empty) return 0;
  for (size_t i = 0; i < 4; i++) out[i] = (uint8_t)(message->id >> (8 * i));
  for (size_t i = 4; i < message->payload_size; i++) out[i] = filler(message, i);
  return message->payload_size;
}

// NULL when nobody has sent this.
struct message *model_find(struct world *world, struct span payload)
{
  if (payload.size < 4) return NULL;
  uint32_t id = 0;
  for (size_t i = 0; i < 4; i++) id |= (uint32_t)payload.at[i] << (8 * i);
  if (id >= world->messages.count) return NULL;
  struct message *message = world->messages.items[id];
  if (message->empty || message->payload_size != payload.size || message->first_sent == NEVER) return NULL;
  for (size_t i = 4; i < payload.size; i++)
    if (payload.at[i] != filler(message, i)) return NULL;
  return message;
}

// `scratch`: 1024 bytes.
void message_properties(const struct message *message, uint8_t *scratch, struct mqtt_properties *out)
{
  *out = (struct mqtt_properties){0};
  if (message->flavour & 1) {
    out->present |= 1ull << MQTT_PROPERTY_CONTENT_TYPE;
    out->content_type = packet_text(scratch, "text/", message->id);
  }
  if (message->flavour & 2) {
    out->present |= 1ull << MQTT_PROPERTY_CORRELATION_DATA;
    out->correlation_data = packet_text(scratch + 64, "c", message->id);
  }
  size_t size = 0;
  for (unsigned i = 0; i < ((message->flavour >> 2) & 3); i++) {
    uint8_t name[64], value[64];
    size += mqtt_write_user_property(scratch + 128 + size, 512 - size, packet_text(name, "name ", i % 2),
                                     packet_text(value, "value ", message->id + i));
  }
  if (size > 0) out->present |= 1ull << MQTT_PROPERTY_USER;
  out->user = span_of(scratch + 128, size);
}

// ---- Sessions

struct session *session_begin(struct client *client)
{
  struct world *world = client->world;
  struct session *session = sim_alloc(sizeof *session);
  session->client = client;
  session->number = world->session_count++;
  session->crashes = world->crashes;
  VECTOR_PUSH(&world->sessions, session);
  TRACE(world, "client %s has session %u", client->id, session->number);
  return session;
}

// Its members of shared groups are gone.
void session_over(struct session *session)
{
  struct world *world = session->client->world;
  if (session->over) return;
  TRACE(world, "session %u of client %s is over", session->number, session->client->id);
  session->over = true;
  for (size_t i = 0; i < session->subscriptions.count; i++) {
    const struct subscription *subscription = session->subscriptions.items[i];
    world->disturbed[subscription->group][subscription->filter] = true;
  }
}

struct receipt *session_receipt(struct session *session, const struct message *message)
{
  if (message->id >= session->receipt_count) {
    size_t count = message->id + 256;
    session->receipts = reallocarray(session->receipts, count, sizeof *session->receipts);
    if (!session->receipts) abort();
    memset(session->receipts + session->receipt_count, 0, (count - session->receipt_count) * sizeof *session->receipts);
    session->receipt_count = count;
  }
  return &session->receipts[message->id];
}

// The one that was asked for last and is not given up; NULL: none.
struct subscription *session_subscription(const struct session *session, uint8_t filter, uint8_t group)
{
  for (size_t i = session->subscriptions.count; i-- > 0;) {
    struct subscription *subscription = session->subscriptions.items[i];
    if (subscription->filter == filter && subscription->group == group && subscription->ended == NEVER) return subscription;
  }
  return NULL;
}

bool session_may_be_gone(const struct session *session)
{
  const struct world *world = session->client->world;
  if (session->least_expiry == 0) return true;
  if (session->least_expiry == UINT32_MAX) return false;
  return world->trial.now_ms >= session->client->alive_before_ms + session->least_expiry * 1000ull;
}

// When the last CONNECT was sent. Timers fire in turns, which may come a little late.
bool session_surely_gone(const struct session *session)
{
  const struct client *client = session->client;
  if (session->most_expiry == UINT32_MAX) return false;
  return client->away_ms != NEVER && client->connect_ms > client->away_ms + session->most_expiry * 1000ull + 3000;
}
