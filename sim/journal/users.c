// Worlds in which clients are users: who is asked is answered at once or a little later, a list says what users and others
// may do, and after every start somebody else comes for sessions that are not his.
#include <stdio.h>

#include "core/access.h"
#include "core/authentication.h"
#include "world.h"

enum { SCRATCH = 65536, GUARD = 1000 };

// "u<index>"; the topic of wills is users' alone.
static const char USERS[] = "u*";

size_t users_name(const struct client *client, char out[16])
{
  return (size_t)snprintf(out, 16, "u%u", client->index);
}

static void add_rule(struct acl *acl, struct acl_rule rule, const char *const *names, size_t count)
{
  struct span topics[TOPICS];
  struct error error;
  for (size_t i = 0; i < count; i++) topics[i] = span_text(names[i]);
  rule.allow = true;
  rule.qos_max = 2;
  rule.topics = topics;
  rule.topic_count = count;
  if (acl_add(acl, &rule, &error) != OK) abort();
}

// What clients do is always allowed; who is taken for another one, or for nobody, is denied something.
void users_set_list(struct world *world)
{
  static const char *const all[] = {"#"};
  struct acl *acl;
  if (!world->plan.users) return;
  if (acl_create(&acl) != OK) abort();
  add_rule(acl, (struct acl_rule){.subject = ACL_USER, .who = span_text(USERS), .verbs = ACL_PUBLISH}, all, 1);
  add_rule(acl, (struct acl_rule){.subject = ACL_ANONYMOUS, .verbs = ACL_PUBLISH}, TOPIC_NAMES, WILL_TOPIC);
  add_rule(acl, (struct acl_rule){.subject = ACL_ANYBODY, .verbs = ACL_SUBSCRIBE | ACL_RECEIVE}, all, 1);
  for (uint8_t i = 0; i < world->broker.shard_count; i++) access_set_list(world->broker.shards[i], acl);
  acl_unref(acl);
}

static void answer(struct shard *shard, struct authentication *question)
{
  const struct identity identity = {.method = "simulation", .user = question->user, .listener = span_text("simulated")};
  question->identity = identity_create(&identity);
  if (!question->identity) abort();
  shard_authenticated(shard, question);
}

bool users_answer(struct world *world, uint8_t shard, bool everything)
{
  bool moved = false;
  if (!world->plan.users) return false;
  while (everything || percent(world, 80)) {
    struct authentication *question = shard_next_authentication(world->broker.shards[shard]);
    if (!question) break;
    world->trial.tick++;
    answer(world->broker.shards[shard], question);
    moved = true;
  }
  return moved;
}

// ---- Intruders

static void send_connect(struct shard *shard, struct connection *connection, const struct client *victim, const char *user,
                         bool clean)
{
  uint8_t bytes[256];
  const struct mqtt_packet packet = {.type = MQTT_CONNECT,
                                     .connect = {.version = MQTT_3_1_1,
                                                 .clean_start = clean,
                                                 .client_id = span_text(victim->id),
                                                 .has_user_name = user != NULL,
                                                 .user_name = span_text(user ? user : "")}};
  size_t size = mqtt_encode(MQTT_3_1_1, &packet, bytes, sizeof bytes), taken;
  enum receive_result result = shard_receive(shard, connection, span_of(bytes, size), &taken);
  if (result != RECEIVE_PAUSED) world_fail(victim->world, "a CONNECT is not asked about (%d)", (int)result);
}

// The first answer to it; it is gone then. There is no other connection.
static int read_answer(struct world *world, struct shard *shard)
{
  uint8_t *scratch = sim_alloc(SCRATCH);
  struct connection *connection;
  unsigned wants = 0;
  int code = -1;
  for (unsigned guard = 0; guard < GUARD && !world->trial.failed && (connection = shard_next_attention(shard, &wants));
       guard++) {
    size_t taken;
    if ((wants & CONNECTION_RESUME) && shard_receive(shard, connection, (struct span){0}, &taken) == RECEIVE_MIGRATE)
      world_fail(world, "nobody knows the session that an intruder has come for");
    while ((wants & CONNECTION_OUTPUT) && !(wants & CONNECTION_CLOSE)) {
      struct output output = {0};
      size_t size = connection_output(shard, connection, scratch, SCRATCH, &output);
      if (size == 0) break;
      if (code < 0 && output.parts[0].size == 4 && output.parts[0].at[0] >> 4 == MQTT_CONNACK) code = output.parts[0].at[3];
      wants = connection_sent(shard, connection, size);
    }
    if (wants & CONNECTION_CLOSE) shard_closed(shard, connection);
  }
  free(scratch);
  return code;
}

// Whether nothing but refusing is right: the session is there, and its user's.
static bool is_owned(const struct client *client)
{
  const struct session *session = client->session;
  return session && session->owned && session->known && !session->over && !session_may_be_gone(session);
}

static void intrude(struct world *world, const struct client *victim, const char *user, bool clean)
{
  enum { NOT_AUTHORIZED = 5 };  // of CONNACK in 3.1.1
  static const struct connection_origin origin = {.address = "203.0.113.66:666", .authenticate = true};
  struct shard *shard = world->broker.shards[JOURNAL_SHARD];
  TRACE(world, "%s comes for the session of client %s%s", user ? user : "somebody", victim->id, clean ? ", clean" : "");
  shard_set_time(shard, world_mono(world));
  struct connection *connection = shard_open(shard, NULL, &origin);
  if (!connection) abort();
  send_connect(shard, connection, victim, user, clean);
  users_answer(world, JOURNAL_SHARD, true);
  shard_tick(shard);
  int code = read_answer(world, shard);
  if (code != NOT_AUTHORIZED)
    world_fail(world, "session %u of client %s is given to somebody else (%d)", victim->session->number, victim->id, code);
  world->statistics.intruders++;
}

void users_intrude(struct world *world)
{
  if (!world->plan.users || world->lossy) return;
  for (unsigned i = 0; i < world->client_count && !world->trial.failed; i++) {
    const struct client *client = world->clients[i];
    if (!is_owned(client)) continue;
    char other[16];
    snprintf(other, sizeof other, "u%u", (unsigned)(client->index + 1));
    intrude(world, client, percent(world, 70) ? other : NULL, percent(world, 50));
  }
}
