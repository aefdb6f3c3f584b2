// Sequences of events into one or two shards. The input is a program of one-byte operations with their arguments:
// connections open, packets (ready-made, and raw bytes) arrive, time passes, output is taken in pieces, mails travel,
// questions are answered, connections end. Looked for: assertions, memory errors, leaks, counters that do not balance,
// output that does not decode.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/authentication.h"
#include "core/shard.h"
#include "mqtt/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINKS = 8, SCRATCH = 4096, RAW_MAX = 64, EVENTS_MAX = 4000 };

// An exchange that somebody has to free.
struct enhanced {
  char byte;
};

struct fuzz_link {
  struct connection *connection;
  uint8_t shard;
  bool paused;
};

struct program {
  const uint8_t *at, *end;
  struct memory_budget budget;
  struct log log;
  struct shard *shards[2];
  uint8_t shard_count;
  uint64_t now_ms;
  bool authenticate;
  uint8_t limits;                    // of connections: the broker's, or those of a listener with rates
  struct authentication *questions;  // the latest first
  struct fuzz_link links[LINKS];
};

static uint8_t next(struct program *program)
{
  return program->at < program->end ? *program->at++ : 0;
}

static void check(bool holds)
{
  if (!holds) abort();
}

// ---- The driver

static void end_link(struct program *program, struct fuzz_link *link)
{
  shard_closed(program->shards[link->shard], link->connection);
  *link = (struct fuzz_link){0};
}

static struct connection_origin origin_of(const struct program *program)
{
  return (struct connection_origin){.address = "fuzz",
                                    .anonymous = !program->authenticate,
                                    .authenticate = program->authenticate,
                                    .limits = program->limits};
}

static void offer(struct program *program, struct fuzz_link *link, struct span bytes)
{
  struct connection_origin origin = origin_of(program);
  struct shard *shard = program->shards[link->shard];
  size_t taken = 0;
  uint8_t *exact = malloc(bytes.size ? bytes.size : 1);
  check(exact != NULL);
  if (bytes.size) memcpy(exact, bytes.at, bytes.size);
  enum receive_result result = shard_receive(shard, link->connection, span_of(exact, bytes.size), &taken);
  free(exact);
  check(taken <= bytes.size);
  link->paused = result == RECEIVE_PAUSED;
  if (result != RECEIVE_MIGRATE) return;
  origin.admission = connection_take_admission(link->connection);
  uint8_t *input = NULL;
  size_t input_size = 0;
  link->shard = shard_detach(shard, link->connection, &input, &input_size);
  check(link->shard < program->shard_count);
  link->connection = shard_adopt(program->shards[link->shard], link, &origin, span_of(input, input_size));
  free(input);
  check(link->connection != NULL);
  link->paused = true;
}

static void take_output(struct program *program, struct fuzz_link *link, size_t most)
{
  struct shard *shard = program->shards[link->shard];
  uint8_t scratch[SCRATCH];
  unsigned wants = CONNECTION_OUTPUT;
  while (wants & CONNECTION_OUTPUT) {
    struct output output;
    size_t total = connection_output(shard, link->connection, scratch, sizeof scratch, &output);
    check(total == output.parts[0].size + output.parts[1].size);
    if (total == 0) return;
    size_t size = total < most ? total : most;
    wants = connection_sent(shard, link->connection, size);
    most -= size;
    if (size < total) break;
  }
  if (wants & CONNECTION_CLOSE) end_link(program, link);
}

static void attend(struct program *program, uint8_t index)
{
  struct shard *shard = program->shards[index];
  struct connection *connection;
  unsigned wants;
  while ((connection = shard_next_attention(shard, &wants))) {
    struct fuzz_link *link = connection_transport(connection);
    check(link->connection == connection);
    if (wants & CONNECTION_CLOSE) {
      end_link(program, link);
      continue;
    }
    if (wants & CONNECTION_RESUME) offer(program, link, span_of(NULL, 0));
    if (link->connection == connection && (wants & CONNECTION_OUTPUT)) take_output(program, link, next(program) * 16u);
  }
}

static void carry_mails(struct program *program, uint8_t from, size_t most)
{
  if (program->shard_count < 2) return;
  uint8_t to = from ^ 1;
  size_t count = 0;
  struct mail *mails = shard_outgoing(program->shards[from], to, &count);
  if (count > most) count = most;
  for (size_t i = 0; i < count; i++) {
    struct mail mail = mails[i];
    shard_mail(program->shards[to], &mail);
  }
  shard_outgoing_taken(program->shards[from], to, count);
}

// ---- Questions

static void free_exchange(struct enhanced *exchange)
{
  free(exchange);
}

static void take_questions(struct program *program)
{
  for (uint8_t i = 0; i < program->shard_count; i++) {
    for (struct authentication *question; (question = shard_next_authentication(program->shards[i]));) {
      question->next = program->questions;
      question->driver = program->shards[i];
      program->questions = question;
    }
  }
}

// Whoever the client says it is, mostly.
static void answer(struct program *program)
{
  struct authentication *question = program->questions;
  if (!question) return;
  program->questions = question->next;
  question->next = NULL;
  uint8_t choice = next(program);
  if (choice & 1 && question->method.size > 0) {
    question->reason = MQTT_CONTINUE_AUTHENTICATION;
    if (!question->enhanced) question->enhanced = calloc(1, sizeof *question->enhanced);
    check(question->enhanced != NULL);
  } else if (choice & 2) {
    question->reason = choice & 4 ? MQTT_BAD_USER_NAME_OR_PASSWORD : MQTT_SERVER_BUSY;
  } else {
    bool ends = choice & 8;
    const struct identity identity = {.user = question->user, .method = "fuzz", .expires_ms = ends};
    question->identity = identity_create(&identity);
    check(question->identity != NULL);
    if (ends) question->expires.ms = program->now_ms + (choice >> 4) * 50u;
  }
  if (choice & 0x10) {
    question->answer = calloc(1, 9);
    check(question->answer != NULL);
    question->answer_size = 9;
  }
  shard_authenticated(question->driver, question);
}

static void forget_questions(struct program *program)
{
  for (struct authentication *question; (question = program->questions);) {
    program->questions = question->next;
    free_exchange(question->enhanced);
    question->enhanced = NULL;
    authentication_free(question);
  }
}

// ---- Packets that random bytes would hardly ever form

static size_t text(uint8_t *out, const char *value)
{
  size_t size = strlen(value);
  out[0] = 0;
  out[1] = (uint8_t)size;
  memcpy(out + 2, value, size);
  return size + 2;
}

static const char *pick_topic(uint8_t choice)
{
  static const char *const topics[] = {"a", "a/b", "", "$SYS/x", "a//b", "b/c/d", "c", "a/b/c"};
  return topics[choice % 8];
}

static const char *pick_filter(uint8_t choice)
{
  static const char *const filters[] = {"#",          "a/+",        "a/#", "+/b", "$share/g/#", "$share/g/a/b",
                                        "$share/h/+", "$share//a",  "a",   "a/b", "$SYS/#",     "+/+/#",
                                        "b/#/c",      "$share/g/a", "",    "a//b"};
  return filters[choice % 16];
}

static void set_method(struct mqtt_properties *properties, uint8_t choice)
{
  properties->present |= 1ull << MQTT_PROPERTY_AUTHENTICATION_METHOD | 1ull << MQTT_PROPERTY_AUTHENTICATION_DATA;
  properties->authentication_method = span_text(choice & 0x10 ? "N" : "M");
  properties->authentication_data = span_text("data");
}

static void make_connect(struct program *program, struct mqtt_packet *packet, uint8_t more)
{
  static const enum mqtt_version versions[] = {MQTT_5_0, MQTT_3_1_1, MQTT_3_1, MQTT_5_0};
  static const char *const ids[] = {"x", "y", "z", ""};
  uint8_t flags = next(program), numbers = next(program);
  struct mqtt_connect *connect = &packet->connect;
  *packet = (struct mqtt_packet){.type = MQTT_CONNECT};
  connect->version = versions[flags & 3];
  connect->clean_start = flags & 4;
  connect->client_id = span_text(ids[flags >> 3 & 3]);
  connect->keep_alive_s = flags & 0x20 ? 1 : 0;
  connect->properties.present = 1ull << MQTT_PROPERTY_SESSION_EXPIRY;
  connect->properties.session_expiry_s = numbers & 7;
  connect->has_user_name = connect->has_password = more & 2;
  connect->user_name = span_text(!(more & 2) ? "" : more & 4 ? "ann" : "bob");
  connect->password = span_text(more & 2 ? "secret" : "");
  if (more & 8) set_method(&connect->properties, more);
  if (numbers & 8) {
    connect->properties.present |= 1ull << MQTT_PROPERTY_RECEIVE_MAXIMUM | 1ull << MQTT_PROPERTY_TOPIC_ALIAS_MAXIMUM;
    connect->properties.receive_maximum = 1;
    connect->properties.topic_alias_maximum = 2;
  }
  if (numbers & 16) {
    connect->properties.present |= 1ull << MQTT_PROPERTY_MAXIMUM_PACKET_SIZE;
    connect->properties.maximum_packet_size = 20;
  }
  connect->will.present = flags & 0x40;
  connect->will.topic = span_text("a/b");
  connect->will.payload = span_text("gone");
  connect->will.qos = numbers >> 5 & 1;
  connect->will.retain = numbers & 0x40;
  connect->will.properties.present = 1ull << MQTT_PROPERTY_WILL_DELAY;
  connect->will.properties.will_delay_s = numbers >> 6;
}

static void make_publish(struct program *program, struct mqtt_packet *packet, uint8_t *payload)
{
  uint8_t flags = next(program), numbers = next(program);
  struct mqtt_publish *publish = &packet->publish;
  *packet = (struct mqtt_packet){.type = MQTT_PUBLISH};
  publish->qos = flags & 3;
  if (publish->qos == 3) publish->qos = 0;
  publish->retain = flags & 4;
  publish->dup = publish->qos && (flags & 8);
  publish->packet_id = publish->qos ? 1 + numbers % 8 : 0;
  publish->topic = span_text(pick_topic(flags >> 4));
  publish->payload = span_of(payload, numbers >> 3 == 0 ? 0 : numbers & 0x80 ? 6000 : numbers);
  if (flags & 0x80) {
    publish->properties.present = 1ull << MQTT_PROPERTY_MESSAGE_EXPIRY | 1ull << MQTT_PROPERTY_TOPIC_ALIAS;
    publish->properties.message_expiry_s = numbers & 3;
    publish->properties.topic_alias = 1 + (numbers & 1);
  }
}

static size_t make_request(struct program *program, struct mqtt_packet *packet, uint8_t *scratch, bool unsubscribe)
{
  uint8_t choice = next(program), options = next(program);
  size_t size = text(scratch, pick_filter(choice));
  if (!unsubscribe) scratch[size++] = options & 0x3f;
  uint16_t packet_id = 1 + options % 4;
  if (unsubscribe) {
    *packet = (struct mqtt_packet){.type = MQTT_UNSUBSCRIBE,
                                   .unsubscribe = {.packet_id = packet_id, .count = 1, .payload = span_of(scratch, size)}};
  } else {
    *packet = (struct mqtt_packet){.type = MQTT_SUBSCRIBE,
                                   .subscribe = {.packet_id = packet_id, .count = 1, .payload = span_of(scratch, size)}};
  }
  return size;
}

static void send_packet(struct program *program, struct fuzz_link *link, uint8_t kind)
{
  static uint8_t const zeros[8192] = {0};
  uint8_t bytes[8192], scratch[64], payload[8192];
  memcpy(payload, zeros, sizeof payload);
  struct mqtt_packet packet = {0};
  uint8_t more = next(program);
  enum mqtt_version version = more & 1 ? MQTT_5_0 : MQTT_3_1_1;
  switch (kind % 8) {
    case 0:
      make_connect(program, &packet, more);
      version = packet.connect.version;
      break;
    case 1:
    case 2: make_publish(program, &packet, payload); break;
    case 3: (void)make_request(program, &packet, scratch, false); break;
    case 4: (void)make_request(program, &packet, scratch, true); break;
    case 5: {
      uint8_t type = next(program), id = next(program);
      packet.type = (enum mqtt_packet_type)(MQTT_PUBACK + type % 4);
      packet.ack = (struct mqtt_ack){.packet_id = (uint16_t)(1 + id % 16), .reason = id & 0x80 ? MQTT_QUOTA_EXCEEDED : 0};
      break;
    }
    case 6:
      packet.type = more & 8 ? MQTT_AUTH : MQTT_PINGREQ;
      packet.disconnect.reason = more & 2 ? MQTT_RE_AUTHENTICATE : MQTT_CONTINUE_AUTHENTICATION;
      if (more & 8) set_method(&packet.disconnect.properties, more);
      break;
    default:
      packet.type = MQTT_DISCONNECT;
      packet.disconnect.reason = next(program) & 1 ? MQTT_DISCONNECT_WITH_WILL : MQTT_SUCCESS;
      break;
  }
  size_t size = mqtt_encode(version, &packet, bytes, sizeof bytes);
  if (size > 0) offer(program, link, span_of(bytes, size));
}

// ---- The program

static void check_balance(const struct shard *shard)
{
  struct counters c;
  shard_counters(shard, &c);
  uint64_t refused = 0, dropped = 0;
  for (int i = 0; i < REFUSE_REASONS; i++) refused += c.publish_refused[i];
  for (int i = 0; i < DROP_REASONS; i++) dropped += c.dropped[i];
  check(c.publish_received == c.publish_routed + c.publish_unrouted + refused);
  check(c.copies == c.delivered + c.copies_queued + c.copies_in_flight + c.expired + dropped);
}

static void open_link(struct program *program, struct fuzz_link *link, uint8_t argument)
{
  struct connection_origin origin = origin_of(program);
  if (link->connection) return;
  *link = (struct fuzz_link){.shard = argument % program->shard_count};
  link->connection = shard_open(program->shards[link->shard], link, &origin);
  check(link->connection != NULL);
}

static void raw(struct program *program, struct fuzz_link *link)
{
  size_t size = next(program) % RAW_MAX, left = (size_t)(program->end - program->at);
  if (size > left) size = left;
  struct span bytes = span_of(program->at, size);
  program->at += size;
  offer(program, link, bytes);
}

static void step(struct program *program)
{
  uint8_t operation = next(program);
  struct fuzz_link *link = &program->links[operation >> 4 & (LINKS - 1)];
  uint8_t index = operation >> 7 & (program->shard_count - 1);
  bool readable = link->connection && !link->paused;
  switch (operation & 0x0f) {
    case 0: open_link(program, link, operation >> 7); break;
    case 1: program->now_ms += next(program) * 37u; break;
    case 2: carry_mails(program, index, 1u + next(program)); break;
    case 3:
      if (link->connection) end_link(program, link);
      break;
    case 4:
      if (link->connection) take_output(program, link, next(program));
      break;
    case 5:
      if (readable) raw(program, link);
      break;
    case 6:
      shard_tick(program->shards[index]);
      answer(program);
      break;
    case 7:
      if (link->connection) shard_disconnect(program->shards[link->shard], link->connection, MQTT_ADMINISTRATIVE_ACTION);
      break;
    default:
      if (readable) send_packet(program, link, operation & 7);
      break;
  }
  for (uint8_t i = 0; i < program->shard_count; i++) {
    shard_set_time(program->shards[i], (struct mono){program->now_ms});
    attend(program, i);
    check_balance(program->shards[i]);
  }
  take_questions(program);
}

static void finish(struct program *program)
{
  if (program->limits != BROKER_LIMITS)
    for (uint8_t i = 0; i < program->shard_count; i++) shard_set_listener_limits(program->shards[i], program->limits, NULL);
  for (unsigned i = 0; i < LINKS; i++)
    if (program->links[i].connection && i % 2) end_link(program, &program->links[i]);
  for (uint8_t i = 0; i < program->shard_count; i++) shard_destroy(program->shards[i]);
  forget_questions(program);
  check(program->budget.used_bytes == 0);
}

static void add_listener(struct program *program, struct shard *shard, const struct limits *brokers, bool disconnects)
{
  struct limits limits = *brokers;
  limits.message_rate = 3;
  limits.byte_rate = 300;
  limits.packet_size = 2000;
  limits.rate_action = disconnects ? RATE_DISCONNECT : RATE_SHAPE;
  program->limits = LIMIT_SETS - 1;
  shard_set_listener_limits(shard, program->limits, &limits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct program program = {.at = data, .end = data + size, .now_ms = 1000};
  uint8_t plan = next(&program);
  program.shard_count = 1 + (plan & 1);
  program.authenticate = plan & 0x40;
  program.budget.limit_bytes = plan & 2 ? 40000 : 1 << 30;
  log_init(&program.log, NULL, NULL, LOG_ERROR);
  struct limits limits = limits_default();
  limits.share_strategy = (enum share_strategy)(plan >> 2 & 3);
  if (plan & 16) {
    limits.queue_messages = 2;
    limits.output_bytes = 500;
    limits.retained_messages = 2;
    limits.in_flight = 2;
    limits.topic_levels = 3;
    limits.subscriptions = 3;
  }
  for (uint8_t i = 0; i < program.shard_count; i++) {
    struct shard_settings settings = {.shard = i,
                                      .shard_count = program.shard_count,
                                      .limits = limits,
                                      .seed = 42,
                                      .budget = &program.budget,
                                      .log = &program.log,
                                      .free_enhanced = free_exchange};
    program.shards[i] = shard_create(&settings, (struct mono){program.now_ms});
    check(program.shards[i] != NULL);
    if (plan & 32) add_listener(&program, program.shards[i], &limits, plan & 128);
  }
  for (unsigned events = 0; program.at < program.end && events < EVENTS_MAX; events++) step(&program);
  finish(&program);
  return 0;
}
