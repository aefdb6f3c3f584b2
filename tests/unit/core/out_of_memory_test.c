// Every allocation of a scenario fails once, one after the other: the shard goes on, counts right and gives all memory back.
// Where it cannot keep its word without memory it aborts; that is allowed, an assertion or a crash is not.
// The linker leads malloc, calloc, realloc and abort here (--wrap); each run is a process of its own.
#include "test.h"

#include <sys/wait.h>
#include <unistd.h>

#include "core/authentication.h"
#include "core/access.h"
#include "core/acl.h"
#include "core/shard.h"
#include "mqtt/packet.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
_Noreturn void __wrap_abort(void);

enum { PASSED = 0, WRONG = 1, NOT_REACHED = 2, ABORTED = 77, CLIENTS = 4, SECONDS = 20 };

static unsigned allocations;
static unsigned failing;       // which one; 0: none
static unsigned failing_more;  // this many behind it too

static bool fails(void)
{
  allocations++;
  return failing && allocations >= failing && allocations <= failing + failing_more;
}

void *__wrap_malloc(size_t size)
{
  return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
  return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
  return fails() ? NULL : __real_realloc(block, size);
}

void __wrap_abort(void)
{
  _exit(ABORTED);
}

// ---- A driver that allocates nothing itself

struct world {
  struct shard *shard;
  struct memory_budget budget;
  struct log log;
  struct mono now;
  struct connection *connections[CLIENTS];
  size_t chunk;  // most bytes that a transport takes; 0: all
};

static void drain(struct world *world)
{
  static uint8_t scratch[512];
  unsigned wants;
  shard_tick(world->shard);
  for (struct connection *connection; (connection = shard_next_attention(world->shard, &wants));) {
    struct connection **place = connection_transport(connection);
    if (wants & CONNECTION_OUTPUT) {
      struct output out;
      size_t size;
      while ((size = connection_output(world->shard, connection, scratch, sizeof scratch, &out)) > 0) {
        size_t taken = world->chunk && world->chunk < size ? world->chunk : size;
        wants |= connection_sent(world->shard, connection, taken) & CONNECTION_CLOSE;
        if (wants & CONNECTION_CLOSE) break;
      }
    }
    if (wants & CONNECTION_CLOSE) {
      shard_closed(world->shard, connection);
      *place = NULL;
    } else if (wants & CONNECTION_RESUME) {
      size_t used;
      shard_receive(world->shard, connection, (struct span){0}, &used);
    }
  }
}

static void send_bytes(struct world *world, unsigned client, const void *bytes, size_t size)
{
  size_t taken;
  if (world->connections[client]) shard_receive(world->shard, world->connections[client], span_of(bytes, size), &taken);
  drain(world);
}

static void send_packet(struct world *world, unsigned client, enum mqtt_version version, const struct mqtt_packet *packet)
{
  static uint8_t bytes[4096];
  size_t size = mqtt_encode(version, packet, bytes, sizeof bytes);
  if (size == 0) _exit(WRONG);
  size_t half = size / 2;
  send_bytes(world, client, bytes, half);
  send_bytes(world, client, bytes + half, size - half);
}

static void property_set(struct mqtt_properties *properties, enum mqtt_property property)
{
  properties->present |= UINT64_C(1) << property;
}

static void connect_client(struct world *world, unsigned client, enum mqtt_version version)
{
  static const char *const ids[CLIENTS] = {"a", "b", "c", "d"};
  static const struct connection_origin origin = {.address = "192.0.2.1:1", .anonymous = true};
  if (world->connections[client]) return;
  world->connections[client] = shard_open(world->shard, &world->connections[client], &origin);
  struct mqtt_packet packet = {.type = MQTT_CONNECT,
                               .connect = {.version = version, .keep_alive_s = 60, .client_id = span_text(ids[client])}};
  struct mqtt_properties *properties = &packet.connect.properties;
  property_set(properties, MQTT_PROPERTY_SESSION_EXPIRY);
  properties->session_expiry_s = 30;
  property_set(properties, MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM);
  properties->topic_alias_maximum = 2;
  property_set(properties, MQTT_PROPERTY_REQUEST_RESPONSE_INFORMATION);
  properties->request_response_information = 1;
  packet.connect.will =
      (struct mqtt_will){.present = true, .qos = 1, .retain = true, .topic = span_text("will"), .payload = span_text("w")};
  send_packet(world, client, version, &packet);
}

static void subscribe(struct world *world, unsigned client, enum mqtt_version version, const char *filter)
{
  uint8_t payload[64];
  size_t size = strlen(filter);
  payload[0] = 0;
  payload[1] = (uint8_t)size;
  memcpy(payload + 2, filter, size);
  payload[2 + size] = 2;
  struct mqtt_packet packet = {.type = MQTT_SUBSCRIBE,
                               .subscribe = {.packet_id = 9, .count = 1, .payload = span_of(payload, size + 3)}};
  property_set(&packet.subscribe.properties, MQTT_PROPERTY_SUBSCRIPTION_ID);
  packet.subscribe.properties.subscription_id = 7;
  send_packet(world, client, version, &packet);
}

static void publish(struct world *world, unsigned client, enum mqtt_version version, const char *topic, uint8_t qos,
                    size_t size)
{
  static const char payload[3000];
  static uint16_t id;
  struct mqtt_packet packet = {.type = MQTT_PUBLISH,
                               .publish = {.qos = qos,
                                           .packet_id = qos ? ++id : 0,
                                           .retain = size < 10,
                                           .topic = span_text(topic),
                                           .payload = span_of(payload, size)}};
  property_set(&packet.publish.properties, MQTT_PROPERTY_TOPIC_ALIAS);
  packet.publish.properties.topic_alias = 1;
  send_packet(world, client, version, &packet);
}

static void pass_time(struct world *world, uint64_t ms)
{
  world->now.ms += ms;
  shard_set_time(world->shard, world->now);
  drain(world);
}

static void answer(struct world *world, enum mqtt_reason reason)
{
  static const struct identity identity = {.method = "test", .user = {(const uint8_t *)"ann", 3}, .expires_ms = 1};
  for (struct authentication *question; (question = shard_next_authentication(world->shard));) {
    question->reason = reason;
    question->answer = malloc(4);
    if (question->answer) memcpy(question->answer, "data", question->answer_size = 4);
    if (reason == MQTT_SUCCESS) question->identity = identity_create(&identity);
    if (reason == MQTT_SUCCESS && !question->identity) question->reason = MQTT_SERVER_BUSY;
    question->expires = (struct mono){world->now.ms + 10000};
    shard_authenticated(world->shard, question);
  }
  drain(world);
}

static void send_auth(struct world *world, unsigned client, enum mqtt_reason reason)
{
  struct mqtt_packet packet = {.type = MQTT_AUTH, .disconnect = {.reason = reason}};
  property_set(&packet.disconnect.properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);
  packet.disconnect.properties.authentication_method = span_text("M");
  send_packet(world, client, MQTT_5_0, &packet);
}

// Steps of an exchange before and after CONNACK.
static void authenticate(struct world *world, unsigned client, const char *id)
{
  static const struct connection_origin origin = {.address = "192.0.2.1:2", .authenticate = true};
  world->connections[client] = shard_open(world->shard, &world->connections[client], &origin);
  struct mqtt_packet packet = {
      .type = MQTT_CONNECT,
      .connect = {.version = MQTT_5_0, .client_id = span_text(id), .has_password = true, .password = span_text("secret")}};
  property_set(&packet.connect.properties, MQTT_PROPERTY_AUTHENTICATION_METHOD);
  packet.connect.properties.authentication_method = span_text("M");
  send_packet(world, client, MQTT_5_0, &packet);
  answer(world, MQTT_CONTINUE_AUTHENTICATION);
  send_auth(world, client, MQTT_CONTINUE_AUTHENTICATION);
  answer(world, MQTT_SUCCESS);
  send_auth(world, client, MQTT_RE_AUTHENTICATE);
  answer(world, MQTT_CONTINUE_AUTHENTICATION);
  send_auth(world, client, MQTT_CONTINUE_AUTHENTICATION);
  answer(world, MQTT_SUCCESS);
}

static struct acl *list(const char *who, const char *denied)
{
  struct acl *acl;
  if (acl_create(&acl) != OK) return NULL;
  const struct span all = span_text("#"), some = span_text(denied);
  const struct acl_rule rules[] = {{.subject = ACL_CLIENT,
                                    .who = span_text(who),
                                    .verbs = 7,
                                    .allow = true,
                                    .qos_max = 2,
                                    .topics = &all,
                                    .topic_count = 1},
                                   {.verbs = ACL_RECEIVE, .topics = &some, .topic_count = 1, .file = "acl", .line = 2},
                                   {.verbs = 7, .allow = true, .qos_max = 2, .topics = &all, .topic_count = 1}};
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
    struct error error;
    if (acl_add(acl, &rules[i], &error) == OK) continue;
    acl_unref(acl);
    return NULL;
  }
  return acl;
}

// A list, and another one on trial beside it.
static void restrict_all(struct world *world)
{
  struct acl *acl = list("?", "a/x/#"), *trial = acl ? list("c*", "+/{client_id}/+") : NULL;
  if (acl) acl_set_shadow(acl, trial);
  access_set_list(world->shard, acl);
  acl_unref(acl);
}

static void limit_rates(struct world *world, uint32_t message_rate)
{
  struct limits limits = limits_default();
  limits.message_rate = message_rate;
  shard_set_limits(world->shard, &limits);
  drain(world);
}

static void scenario(struct world *world)
{
  restrict_all(world);
  authenticate(world, 3, "d");
  connect_client(world, 0, MQTT_5_0);
  connect_client(world, 1, MQTT_3_1_1);
  connect_client(world, 2, MQTT_5_0);
  subscribe(world, 0, MQTT_5_0, "a/+/c");
  subscribe(world, 0, MQTT_5_0, "a/#");
  subscribe(world, 0, MQTT_5_0, "$share/g/a/#");
  subscribe(world, 1, MQTT_3_1_1, "#");
  limit_rates(world, 20);
  for (unsigned i = 0; i < 40; i++) {
    world->chunk = i % 3 ? 0 : 5;
    publish(world, 2, MQTT_5_0, i % 2 ? "a/b/c" : "a/x/c/long/enough", (uint8_t)(i % 3), i % 8 ? i : 2000);
    if (i % 10 == 0) publish(world, 1, MQTT_3_1_1, "a/old", (uint8_t)(i / 10 % 3), 3);
  }
  limit_rates(world, 0);
  subscribe(world, 2, MQTT_5_0, "+/+/c");  // retained ones
  subscribe(world, 0, MQTT_5_0, "$share/g/a/#");
  send_bytes(world, 0, "\xc0\0", 2);
  send_bytes(world, 1, "\x30\1\1\1", 4);  // an error
  if (world->connections[0]) {
    shard_closed(world->shard, world->connections[0]);
    world->connections[0] = NULL;
  }
  publish(world, 2, MQTT_5_0, "a/b/c", 2, 20);
  restrict_all(world);
  limit_rates(world, 1);
  shard_publish(world->shard, span_text("$SYS/x"), span_text("1"), 0, true);
  connect_client(world, 0, MQTT_5_0);
  pass_time(world, 500);
  send_bytes(world, 2, "\xe0\0", 2);
  for (unsigned i = 0; i < 40; i++) pass_time(world, 1000);
}

static bool balanced(const struct counters *c)
{
  uint64_t refused = 0, dropped = 0;
  for (unsigned i = 0; i < REFUSE_REASONS; i++) refused += c->publish_refused[i];
  for (unsigned i = 0; i < DROP_REASONS; i++) dropped += c->dropped[i];
  return c->publish_received == c->publish_routed + c->publish_unrouted + refused &&
         c->copies == c->delivered + c->copies_queued + c->copies_in_flight + c->expired + dropped;
}

static int run(unsigned which, unsigned more)
{
  static struct world world;
  world = (struct world){.budget = {.limit_bytes = INT64_MAX}, .now = {1000}};
  log_init(&world.log, NULL, NULL, LOG_DEBUG);
  allocations = 0;
  failing = which;
  failing_more = more;
  struct shard_settings settings = {
      .shard_count = 1, .limits = limits_default(), .seed = 5, .budget = &world.budget, .log = &world.log};
  world.shard = shard_create(&settings, world.now);
  if (!world.shard) return allocations >= which ? PASSED : WRONG;
  scenario(&world);
  bool reached = allocations >= which;
  struct counters counters;
  shard_counters(world.shard, &counters);
  bool right = balanced(&counters);
  shard_destroy(world.shard);
  if (!right || world.budget.used_bytes != 0) return WRONG;
  if (!reached && counters.packets_sent[MQTT_AUTH] != 3) return WRONG;  // nothing failed, and yet
  return reached ? PASSED : NOT_REACHED;
}

static int run_apart(unsigned which, unsigned more)
{
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    alarm(SECONDS);
    _exit(run(which, more));
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (!WIFEXITED(status)) fail_msg("allocation %u: signal %d", which, WTERMSIG(status));
  return WEXITSTATUS(status);
}

static void any_allocation_may_fail(void **state)
{
  (void)state;
  for (unsigned more = 0; more <= 5; more += 5) {
    unsigned passed = 0, aborted = 0;
    for (unsigned which = 1;; which++) {
      int result = run_apart(which, more);
      if (result == NOT_REACHED) break;
      passed += result == PASSED;
      aborted += result == ABORTED;
      if (result != PASSED && result != ABORTED) fail_msg("allocation %u: %d", which, result);
    }
    assert_true(passed > 50);
    assert_true(passed > 3 * aborted);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
