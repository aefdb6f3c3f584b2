// Records: what goes in comes out, and nothing else is taken for one.
#include "test.h"

#include "core/identity.h"
#include "core/journal.h"
#include "core/message.h"
#include "core/record.h"

// The body of the only record in a buffer; checks the frame around it.
static struct span only_body(const struct buffer *records, enum record_type type)
{
  struct span bytes = buffer_peek(records);
  assert_true(bytes.size >= sizeof(struct record_header));
  assert_int_equal(bytes.size % RECORD_ALIGN, 0);
  struct record_reader reader = {.rest = bytes};
  struct record_header header;
  header.checksum = record_read_u32(&reader);
  header.size = record_read_u32(&reader);
  header.mark = record_read_u64(&reader);
  assert_int_equal(header.checksum, 0);
  assert_int_equal(record_sequence(&header), 0);
  assert_int_equal(record_type(&header), type);
  assert_int_equal(bytes.size, record_length(header.size));
  struct span body = record_read_bytes(&reader, header.size);
  assert_false(reader.failed);
  while (reader.rest.size > 0) assert_int_equal(record_read_u8(&reader), 0);
  return body;
}

// Whether a body decodes, whatever comes out.
static bool decodes(enum record_type type, struct span body)
{
  union {
    struct record_session session;
    struct record_session_end end;
    struct record_session_back back;
    struct record_session_away away;
    struct record_subscribe subscribe;
    struct record_unsubscribe unsubscribe;
    struct record_will will;
    struct record_message message;
    struct record_packet_id packet_id;
    struct record_sent sent;
    struct record_done done;
    struct record_owner owner;
  } out;
  switch ((int)type) {
    case RECORD_SESSION: return record_get_session(body, &out.session);
    case RECORD_SESSION_END: return record_get_session_end(body, &out.end);
    case RECORD_SESSION_BACK: return record_get_session_back(body, &out.back);
    case RECORD_SESSION_AWAY: return record_get_session_away(body, &out.away);
    case RECORD_SUBSCRIBE: return record_get_subscribe(body, &out.subscribe);
    case RECORD_UNSUBSCRIBE: return record_get_unsubscribe(body, &out.unsubscribe);
    case RECORD_WILL: return record_get_will(body, &out.will);
    case RECORD_MESSAGE:
    case RECORD_MESSAGE_COPY: return record_get_message(body, &out.message);
    case RECORD_RECEIVED:
    case RECORD_RELEASED: return record_get_packet_id(body, &out.packet_id);
    case RECORD_SENT: return record_get_sent(body, &out.sent);
    case RECORD_DONE: return record_get_done(body, &out.done);
    case RECORD_OWNER: return record_get_owner(body, &out.owner);
    default: return false;
  }
}

// In memory of exactly its size, so that a sanitizer sees whoever reads on.
static bool decodes_copy(enum record_type type, struct span body, size_t size, uint8_t extra)
{
  uint8_t *copy = malloc(size + extra + 1);
  assert_non_null(copy);
  uint8_t *exact = realloc(copy, size + extra > 0 ? size + extra : 1);
  assert_non_null(exact);
  memcpy(exact, body.at, size);
  memset(exact + size, 0, extra);
  bool good = decodes(type, span_of(exact, size + extra));
  free(exact);
  return good;
}

// It is whole, and neither a beginning of it nor itself and more is.
static void check_frame(struct buffer *records, enum record_type type)
{
  struct span body = only_body(records, type);
  assert_true(decodes_copy(type, body, body.size, 0));
  for (size_t size = 0; size < body.size; size++) assert_false(decodes_copy(type, body, size, 0));
  for (uint8_t extra = 1; extra < 32; extra++) assert_false(decodes_copy(type, body, body.size, extra));
}

static void sessions_come_back(void **state)
{
  (void)state;
  struct buffer records = {0};
  struct record_session in = {.session = 0x01020304, .expiry_s = UINT32_MAX, .client_id = span_text("meter-17")}, out;
  assert_ok(record_put_session(&records, &in));
  check_frame(&records, RECORD_SESSION);
  struct span body = only_body(&records, RECORD_SESSION);
  assert_memory_equal(body.at, "\4\3\2\1\xff\xff\xff\xff\10\0meter-17", body.size);
  assert_true(record_get_session(body, &out));
  assert_int_equal(out.session, in.session);
  assert_int_equal(out.expiry_s, UINT32_MAX);
  assert_span_text(out.client_id, "meter-17");
  buffer_deinit(&records);

  struct record_session_end end = {.session = 9}, end_out;
  assert_ok(record_put_session_end(&records, &end));
  check_frame(&records, RECORD_SESSION_END);
  assert_true(record_get_session_end(only_body(&records, RECORD_SESSION_END), &end_out));
  assert_int_equal(end_out.session, 9);
  buffer_deinit(&records);

  struct record_session_back back = {.session = 8, .expiry_s = 77, .window = 65535}, back_out;
  assert_ok(record_put_session_back(&records, &back));
  check_frame(&records, RECORD_SESSION_BACK);
  assert_true(record_get_session_back(only_body(&records, RECORD_SESSION_BACK), &back_out));
  assert_int_equal(back_out.session, 8);
  assert_int_equal(back_out.expiry_s, 77);
  assert_int_equal(back_out.window, 65535);
  buffer_deinit(&records);

  struct record_session_away away = {.session = 7, .expiry_s = 1, .since_ms = UINT64_MAX - 1, .sent = UINT64_C(1) << 40};
  struct record_session_away away_out;
  assert_ok(record_put_session_away(&records, &away));
  check_frame(&records, RECORD_SESSION_AWAY);
  assert_true(record_get_session_away(only_body(&records, RECORD_SESSION_AWAY), &away_out));
  assert_int_equal(away_out.session, 7);
  assert_int_equal(away_out.expiry_s, 1);
  assert_int_equal(away_out.since_ms, UINT64_MAX - 1);
  assert_int_equal(away_out.sent, UINT64_C(1) << 40);
  buffer_deinit(&records);
}

static void owners_come_back(void **state)
{
  (void)state;
  struct buffer records = {0};
  struct record_session in = {.session = 7, .expiry_s = 60, .client_id = span_text("press"), .user = span_text("ann")}, out;
  assert_ok(record_put_session(&records, &in));
  struct span body = only_body(&records, RECORD_SESSION);
  assert_memory_equal(body.at, "\7\0\0\0\74\0\0\0\5\0press\3\0ann", body.size);
  assert_true(record_get_session(body, &out));
  assert_span_text(out.client_id, "press");
  assert_span_text(out.user, "ann");
  // Without the user it is what it was before there were users; with a part of it it is nothing.
  enum { WITHOUT = 15 };
  for (size_t size = 0; size < body.size; size++)
    assert_int_equal(decodes_copy(RECORD_SESSION, body, size, 0), size == WITHOUT);
  assert_true(record_get_session(span_of(body.at, WITHOUT), &out));
  assert_int_equal(out.user.size, 0);
  for (uint8_t extra = 1; extra < 32; extra++) {
    assert_false(decodes_copy(RECORD_SESSION, body, body.size, extra));
    assert_false(decodes_copy(RECORD_SESSION, body, WITHOUT, extra));  // an empty name is none
  }
  buffer_deinit(&records);

  struct record_owner owner = {.session = 0x01020304, .user = span_text("bob")}, owner_out;
  assert_ok(record_put_owner(&records, &owner));
  check_frame(&records, RECORD_OWNER);
  body = only_body(&records, RECORD_OWNER);
  assert_memory_equal(body.at, "\4\3\2\1\3\0bob", body.size);
  assert_true(record_get_owner(body, &owner_out));
  assert_int_equal(owner_out.session, 0x01020304);
  assert_span_text(owner_out.user, "bob");
  buffer_deinit(&records);
  assert_false(record_get_owner(span_of("\1\0\0\0\0\0", 6), &owner_out));

  // The longest that there is, and a size that says more than there is.
  char *name = malloc(UINT16_MAX);
  assert_non_null(name);
  memset(name, 'x', UINT16_MAX);
  owner.user = span_of(name, UINT16_MAX);
  assert_ok(record_put_owner(&records, &owner));
  body = only_body(&records, RECORD_OWNER);
  assert_true(record_get_owner(body, &owner_out));
  assert_true(span_equal(owner_out.user, owner.user));
  assert_false(decodes_copy(RECORD_OWNER, body, body.size - 1, 0));
  buffer_deinit(&records);
  free(name);
}

// All of an identity that access control asks about.
static const struct identity *sample_maker(void)
{
  const struct span groups[] = {span_text("operators"), span_text("")};
  const struct identity_fact facts[] = {{span_text("cert.ou"), span_text("hall-2")}, {span_text("jwt.x"), span_text("")}};
  const struct identity *identity = identity_create(&(struct identity){.user = span_text("ann"),
                                                                       .method = "cert",
                                                                       .listener = span_text("plant"),
                                                                       .groups = groups,
                                                                       .group_count = 2,
                                                                       .facts = facts,
                                                                       .fact_count = 2,
                                                                       .expires_ms = 5});
  assert_non_null(identity);
  return identity;
}

static void makers_of_wills_come_back(void **state)
{
  (void)state;
  struct buffer records = {0}, maker = {0};
  const struct identity *identity = sample_maker();
  assert_ok(identity_write(&maker, identity));
  struct record_will out, in = {.session = 3,
                                .qos = 1,
                                .topic = span_text("gone"),
                                .payload = span_text("p"),
                                .properties = span_of("\1\1", 2),
                                .maker = buffer_peek(&maker)};
  assert_ok(record_put_will(&records, &in));
  check_frame(&records, RECORD_WILL);
  struct span body = only_body(&records, RECORD_WILL);
  assert_true(record_get_will(body, &out));
  assert_span_text(out.topic, "gone");
  assert_span_text(out.payload, "p");
  assert_true(span_equal(out.properties, in.properties));
  assert_true(span_equal(out.maker, in.maker));

  const struct identity *read = identity_read(out.maker);
  assert_non_null(read);
  assert_span_text(read->user, "ann");
  assert_string_equal(read->method, "restored");
  assert_span_text(read->listener, "plant");
  assert_int_equal(read->group_count, 2);
  assert_span_text(read->groups[0], "operators");
  assert_int_equal(read->groups[1].size, 0);
  assert_int_equal(read->fact_count, 2);
  assert_span_text(identity_find(read, span_text("cert.ou")), "hall-2");
  assert_span_text(read->facts[1].name, "jwt.x");
  assert_int_equal(read->expires_ms, 0);  // a will is sent after that too
  identity_unref(read);

  // No part of it is one, nor is it with something behind it, nor any with counts that cannot be.
  for (size_t size = 0; size < in.maker.size; size++) {
    uint8_t *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, in.maker.at, size);
    assert_false(identity_readable(span_of(exact, size)));
    free(exact);
  }
  assert_ok(buffer_append(&maker, "", 1));
  assert_false(identity_readable(buffer_peek(&maker)));
  assert_true(identity_readable(span_of("\0\0\0\0\0\0\0\0\0\0\0\0", 12)));
  assert_false(identity_readable(span_of("\0\0\0\0\xff\xff\xff\xff\0\0\0\0", 12)));
  assert_false(identity_readable(span_of("\0\0\0\0\0\0\0\0\xff\xff\xff\xff", 12)));
  identity_unref(identity);
  buffer_deinit(&maker);
  buffer_deinit(&records);
}

static void damaged_makers_are_refused_or_whole(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 21);
  struct buffer maker = {0};
  const struct identity *identity = sample_maker();
  assert_ok(identity_write(&maker, identity));
  struct span good = buffer_peek(&maker);
  for (unsigned round = 0; round < 20000; round++) {
    size_t size = prng_below(&prng, 2) ? good.size : 1 + prng_below(&prng, good.size);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    memcpy(bytes, good.at, size);
    for (uint64_t i = 0; i <= prng_below(&prng, 4); i++) bytes[prng_below(&prng, size)] = (uint8_t)prng_below(&prng, 256);
    if (identity_readable(span_of(bytes, size))) {
      const struct identity *read = identity_read(span_of(bytes, size));
      struct buffer again = {0};
      assert_non_null(read);
      assert_ok(identity_write(&again, read));
      assert_true(span_equal(buffer_peek(&again), span_of(bytes, size)));
      buffer_deinit(&again);
      identity_unref(read);
    }
    free(bytes);
  }
  identity_unref(identity);
  buffer_deinit(&maker);
}

static void subscriptions_come_back(void **state)
{
  (void)state;
  struct buffer records = {0};
  for (unsigned bits = 0; bits < 12; bits++) {
    struct record_subscribe out, in = {.session = 5,
                                       .id = 268435455,
                                       .qos = (uint8_t)(bits / 4),
                                       .no_local = bits & 1,
                                       .retain_as_published = bits & 2,
                                       .filter = span_text("$share/g/a/+")};
    assert_ok(record_put_subscribe(&records, &in));
    check_frame(&records, RECORD_SUBSCRIBE);
    assert_true(record_get_subscribe(only_body(&records, RECORD_SUBSCRIBE), &out));
    assert_int_equal(out.session, 5);
    assert_int_equal(out.id, 268435455);
    assert_int_equal(out.qos, in.qos);
    assert_int_equal(out.no_local, in.no_local);
    assert_int_equal(out.retain_as_published, in.retain_as_published);
    assert_span_text(out.filter, "$share/g/a/+");
    buffer_deinit(&records);
  }
  struct record_unsubscribe out, in = {.session = 6, .filter = span_text("#")};
  assert_ok(record_put_unsubscribe(&records, &in));
  check_frame(&records, RECORD_UNSUBSCRIBE);
  assert_true(record_get_unsubscribe(only_body(&records, RECORD_UNSUBSCRIBE), &out));
  assert_int_equal(out.session, 6);
  assert_span_text(out.filter, "#");
  buffer_deinit(&records);
}

static void wills_come_back(void **state)
{
  (void)state;
  struct buffer records = {0};
  struct record_will out, in = {.session = 3,
                                .delay_s = 60,
                                .expiry_s = 3600,
                                .qos = 2,
                                .retain = true,
                                .has_expiry = true,
                                .topic = span_text("gone/3"),
                                .payload = span_of("\0\1", 2),
                                .properties = span_of("\1\1", 2)};
  assert_ok(record_put_will(&records, &in));
  check_frame(&records, RECORD_WILL);
  assert_true(record_get_will(only_body(&records, RECORD_WILL), &out));
  assert_int_equal(out.session, 3);
  assert_int_equal(out.delay_s, 60);
  assert_int_equal(out.expiry_s, 3600);
  assert_int_equal(out.qos, 2);
  assert_true(out.retain);
  assert_true(out.has_expiry);
  assert_span_text(out.topic, "gone/3");
  assert_true(span_equal(out.payload, in.payload));
  assert_true(span_equal(out.properties, in.properties));
  buffer_deinit(&records);

  struct record_will none = {.session = 3};
  assert_ok(record_put_will(&records, &none));
  check_frame(&records, RECORD_WILL);
  assert_true(record_get_will(only_body(&records, RECORD_WILL), &out));
  assert_int_equal(out.topic.size, 0);
  assert_false(out.has_expiry);
  buffer_deinit(&records);
}

static void packet_ids_and_runs_come_back(void **state)
{
  (void)state;
  struct buffer records = {0};
  static const enum record_type types[] = {RECORD_RECEIVED, RECORD_RELEASED};
  for (size_t i = 0; i < 2; i++) {
    struct record_packet_id out, in = {.session = 2, .packet_id = 65535};
    assert_ok(record_put_packet_id(&records, types[i], &in));
    check_frame(&records, types[i]);
    assert_true(record_get_packet_id(only_body(&records, types[i]), &out));
    assert_int_equal(out.session, 2);
    assert_int_equal(out.packet_id, 65535);
    buffer_deinit(&records);
  }
  struct record_sent sent_out, sent = {.session = 4, .place = UINT64_C(1) << 33};
  assert_ok(record_put_sent(&records, &sent));
  check_frame(&records, RECORD_SENT);
  assert_true(record_get_sent(only_body(&records, RECORD_SENT), &sent_out));
  assert_int_equal(sent_out.session, 4);
  assert_int_equal(sent_out.place, UINT64_C(1) << 33);
  buffer_deinit(&records);

  for (unsigned outcome = 0; outcome < OUTCOMES; outcome++) {
    struct record_done out,
        in = {.session = 1, .count = UINT32_MAX, .place = 1 + outcome, .outcome = (enum record_outcome)outcome};
    assert_ok(record_put_done(&records, &in));
    check_frame(&records, RECORD_DONE);
    assert_true(record_get_done(only_body(&records, RECORD_DONE), &out));
    assert_int_equal(out.session, 1);
    assert_int_equal(out.count, UINT32_MAX);
    assert_int_equal(out.place, 1 + outcome);
    assert_int_equal(out.outcome, outcome);
    buffer_deinit(&records);
  }
}

static void impossible_values_are_refused(void **state)
{
  (void)state;
  struct record_done done;
  uint8_t body[17] = {1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, OUTCOME_DAMAGED};
  assert_true(record_get_done(span_of(body, sizeof body), &done));
  body[16] = OUTCOMES;
  assert_false(record_get_done(span_of(body, sizeof body), &done));
  body[16] = 0;
  body[4] = 0;  // a run of none
  assert_false(record_get_done(span_of(body, sizeof body), &done));
  body[4] = 2;
  memset(body + 8, 0xff, 8);  // beyond the last place
  assert_false(record_get_done(span_of(body, sizeof body), &done));
  body[4] = 1;
  assert_true(record_get_done(span_of(body, sizeof body), &done));

  struct record_packet_id id;
  assert_false(record_get_packet_id(span_of("\1\0\0\0\0\0", 6), &id));

  struct record_subscribe subscribe;
  uint8_t flags[] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 'a'};
  assert_true(record_get_subscribe(span_of(flags, sizeof flags), &subscribe));
  flags[8] = 3;
  assert_false(record_get_subscribe(span_of(flags, sizeof flags), &subscribe));
  flags[8] = 16;
  assert_false(record_get_subscribe(span_of(flags, sizeof flags), &subscribe));

  struct record_will will;
  uint8_t will_body[24] = {[12] = 2, [13] = 1, [23] = 't'};
  assert_true(record_get_will(span_of(will_body, sizeof will_body), &will));
  will_body[12] = 3;
  assert_false(record_get_will(span_of(will_body, sizeof will_body), &will));
  will_body[12] = 16;  // without the size of its maker
  assert_false(record_get_will(span_of(will_body, sizeof will_body), &will));
  will_body[12] = 32;
  assert_false(record_get_will(span_of(will_body, sizeof will_body), &will));
  will_body[12] = 0;
  will_body[18] = 0xff;  // sizes that do not add up
  assert_false(record_get_will(span_of(will_body, sizeof will_body), &will));
}

// A message with all that there is, or with the parts that `bits` names.
struct sample {
  struct buffer targets;
  struct record_message message;
};

static const uint32_t sample_ids[] = {1, 70000, 268435455};

static void sample_make(struct sample *sample, unsigned bits)
{
  *sample = (struct sample){
      .message = {.qos = (uint8_t)(bits % 3), .time_ms = 1000, .topic = span_text("plant/7"), .payload = span_text("hot")}};
  struct record_message *message = &sample->message;
  message->retain = bits & 1;
  message->store = bits & 2;
  message->expiry_ms = bits & 4 ? 99999 : 0;
  message->origin = bits & 8 ? UINT64_MAX : 0;
  message->copy_of = bits & 16 ? UINT64_C(3) << 32 | 64 : 0;
  message->has_publisher = bits & 32;
  message->publisher = bits & 32 ? 12 : 0;
  message->packet_id = bits & 32 ? 65535 : 0;
  if (bits & 64) message->properties = span_of("\3\0\1t", 4);
  message->target_count = bits & 128 ? 3 : bits & 256 ? 1 : 0;
  for (uint32_t i = 0; i < message->target_count; i++) {
    struct record_target target = {.session = i + 1,
                                   .place = UINT32_MAX - i,
                                   .group = i * 7,
                                   .qos = (uint8_t)i,
                                   .retain = i == 1,
                                   .id_count = (uint16_t)(i == 2 ? 3 : i)};
    assert_ok(record_put_target(&sample->targets, &target, sample_ids));
  }
  message->targets = buffer_peek(&sample->targets);
}

static void assert_same_message(const struct record_message *a, const struct record_message *b)
{
  assert_int_equal(a->qos, b->qos);
  assert_int_equal(a->retain, b->retain);
  assert_int_equal(a->store, b->store);
  assert_int_equal(a->has_publisher, b->has_publisher);
  assert_int_equal(a->packet_id, b->packet_id);
  assert_int_equal(a->publisher, b->publisher);
  assert_int_equal(a->time_ms, b->time_ms);
  assert_int_equal(a->expiry_ms, b->expiry_ms);
  assert_int_equal(a->origin, b->origin);
  assert_int_equal(a->copy_of, b->copy_of);
  assert_int_equal(a->target_count, b->target_count);
  assert_true(span_equal(a->targets, b->targets));
  assert_true(span_equal(a->topic, b->topic));
  assert_true(span_equal(a->payload, b->payload));
  assert_true(span_equal(a->properties, b->properties));
}

static void messages_come_back(void **state)
{
  (void)state;
  for (unsigned bits = 0; bits < 512; bits++) {
    struct sample sample;
    sample_make(&sample, bits);
    struct buffer records = {0};
    enum record_type type = bits & 16 ? RECORD_MESSAGE_COPY : RECORD_MESSAGE;
    assert_ok(record_put_message(&records, &sample.message));
    check_frame(&records, type);
    struct record_message out;
    struct span body = only_body(&records, type);
    assert_int_equal(body.size, record_message_body_size(&sample.message));
    assert_true(record_get_message(body, &out));
    assert_same_message(&out, &sample.message);

    size_t cursor = 0;
    struct record_target target;
    for (uint32_t i = 0; i < out.target_count; i++) {
      assert_true(record_next_target(out.targets, &cursor, &target));
      assert_int_equal(target.session, i + 1);
      assert_int_equal(target.place, UINT32_MAX - i);
      assert_int_equal(target.group, i * 7);
      assert_int_equal(target.qos, i);
      assert_int_equal(target.retain, i == 1);
      assert_int_equal(target.id_count, i == 2 ? 3 : i);
      for (unsigned k = 0; k < target.id_count; k++) assert_int_equal(record_target_id(&target, k), sample_ids[k]);
    }
    assert_false(record_next_target(out.targets, &cursor, &target));
    buffer_deinit(&records);
    buffer_deinit(&sample.targets);
  }
}

static void impossible_messages_are_refused(void **state)
{
  (void)state;
  struct sample sample;
  sample_make(&sample, 511);
  struct buffer records = {0};
  assert_ok(record_put_message(&records, &sample.message));
  struct span body = only_body(&records, RECORD_MESSAGE_COPY);
  uint8_t bytes[512];
  assert_true(body.size < sizeof bytes);
  memcpy(bytes, body.at, body.size);
  struct span copy = span_of(bytes, body.size);
  struct record_message out;
  assert_true(record_get_message(copy, &out));

  bytes[0] |= 3;  // QoS 3
  assert_false(record_get_message(copy, &out));
  memcpy(bytes, body.at, body.size);
  bytes[1] |= 0x80;  // a flag that does not exist
  assert_false(record_get_message(copy, &out));
  memcpy(bytes, body.at, body.size);
  bytes[7] = 0xff;  // four thousand million targets
  assert_false(record_get_message(copy, &out));
  memcpy(bytes, body.at, body.size);
  bytes[19] = 0xff;  // a payload of 4 GB
  assert_false(record_get_message(copy, &out));
  memcpy(bytes, body.at, body.size);
  size_t first_target = (size_t)(out.targets.at - bytes);
  memcpy(bytes, body.at, body.size);
  bytes[first_target + 12] = 3;  // QoS 3 to a target
  assert_false(record_get_message(copy, &out));
  bytes[first_target + 12] = 8;
  assert_false(record_get_message(copy, &out));
  memcpy(bytes, body.at, body.size);
  bytes[first_target + 13] = 1;
  assert_false(record_get_message(copy, &out));
  memcpy(bytes, body.at, body.size);
  bytes[first_target + 15] = 0xff;  // more subscription identifiers than bytes
  assert_false(record_get_message(copy, &out));
  buffer_deinit(&records);
  buffer_deinit(&sample.targets);
}

static void a_record_weighs_what_the_message_does(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  static const uint8_t properties[] = {0x03, 0, 1, 't'};
  struct message_parts parts = {
      .topic = span_text("a/b"), .payload = span_text("twenty-one"), .raw_properties = span_of(properties, 4)};
  struct message *message = message_create(&memory.pool, &parts);
  assert_non_null(message);
  struct record_message record = {.topic = parts.topic, .payload = parts.payload, .properties = message_properties(message)};
  assert_int_equal(record_message_weight(&record), message_size(message));
  message_unref(&memory.pool, message);
  counted_pool_deinit(&memory);
}

static void bytes_at_random_are_harmless(void **state)
{
  (void)state;
  static const enum record_type types[] = {RECORD_SESSION,   RECORD_SESSION_END, RECORD_SESSION_BACK, RECORD_SESSION_AWAY,
                                           RECORD_SUBSCRIBE, RECORD_UNSUBSCRIBE, RECORD_WILL,         RECORD_MESSAGE,
                                           RECORD_RECEIVED,  RECORD_SENT,        RECORD_DONE,         RECORD_OWNER};
  struct prng prng;
  prng_seed(&prng, 20);
  for (int round = 0; round < 20000; round++) {
    size_t size = prng_below(&prng, 96);
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++) bytes[i] = prng_below(&prng, 2) ? 0 : (uint8_t)prng_below(&prng, 256);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) (void)decodes(types[i], span_of(bytes, size));
    free(bytes);
  }

  // And good ones with some bytes changed.
  for (unsigned round = 0; round < 20000; round++) {
    struct sample sample;
    sample_make(&sample, (unsigned)prng_below(&prng, 512));
    size_t size = (size_t)record_message_body_size(&sample.message);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    assert_true(record_write_message(bytes, &sample.message) == bytes + size);
    for (uint64_t i = 0; i <= prng_below(&prng, 3); i++) bytes[prng_below(&prng, size)] = (uint8_t)prng_below(&prng, 256);
    struct record_message out;
    if (record_get_message(span_of(bytes, size), &out)) {
      struct record_target target;
      size_t cursor = 0;
      uint32_t count = 0, sum = 0;
      for (; record_next_target(out.targets, &cursor, &target); count++)
        for (unsigned k = 0; k < target.id_count; k++) sum += record_target_id(&target, k);
      assert_int_equal(count, out.target_count);
      assert_int_equal(cursor, out.targets.size);
      (void)sum;
    }
    free(bytes);
    buffer_deinit(&sample.targets);
  }
}

static void outcomes_have_names(void **state)
{
  (void)state;
  assert_string_equal(record_outcome_name(OUTCOME_DELIVERED), "delivered");
  assert_string_equal(record_outcome_name(OUTCOME_SESSION_ENDED), "session_ended");
  for (unsigned a = 0; a < OUTCOMES; a++)
    for (unsigned b = 0; b < a; b++)
      assert_string_not_equal(record_outcome_name((enum record_outcome)a), record_outcome_name((enum record_outcome)b));
}

static void records_follow_each_other(void **state)
{
  (void)state;
  struct buffer records = {0};
  assert_ok(record_put(&records, RECORD_BATCH, span_text("123456789")));
  struct record_sent sent = {.session = 1, .place = 2};
  assert_ok(record_put_sent(&records, &sent));
  struct span bytes = buffer_peek(&records);
  assert_int_equal(bytes.size, record_length(9) + record_length(12));
  assert_int_equal(record_length(9), 32);
  assert_int_equal(record_length(0), 16);
  assert_int_equal(record_length(UINT32_MAX), UINT64_C(0x100000010));
  struct record_reader reader = {.rest = span_from(bytes, 32)};
  record_read_u32(&reader);
  assert_int_equal(record_read_u32(&reader), 12);
  assert_int_equal(record_read_u64(&reader), (uint64_t)RECORD_SENT << RECORD_SEQUENCE_BITS);
  buffer_deinit(&records);
}

// ---- Loaded entries (journal_entry.c)

static void entries_carry_their_own_target(void **state)
{
  (void)state;
  struct sample sample;
  sample_make(&sample, 128 | 64 | 4 | 1);
  uint8_t body[512];
  struct span bytes = span_of(body, (size_t)record_message_body_size(&sample.message));
  assert_true(bytes.size <= sizeof body);
  record_write_message(body, &sample.message);

  struct journal_loaded *loaded = calloc(1, sizeof *loaded);
  assert_non_null(loaded);
  loaded->session = 3;
  uint64_t place = (UINT64_C(5) << 32) + UINT32_MAX - 2;
  assert_ok(journal_put_entry(loaded, place, LOADED_WAITING, bytes));
  assert_ok(journal_put_entry(loaded, place + 1, LOADED_SENT, (struct span){0}));
  assert_ok(journal_put_entry(loaded, place + 2, LOADED_WAITING, bytes));                          // not the place it is for
  assert_ok(journal_put_entry(loaded, place + 3, LOADED_WAITING, span_of(body, bytes.size - 1)));  // not a message
  assert_ok(journal_put_entry(loaded, place + 4, LOADED_DAMAGED, (struct span){0}));
  assert_int_equal(loaded->count, 5);

  size_t cursor = 0;
  struct journal_entry entry;
  assert_true(journal_next_entry(loaded, &cursor, &entry));
  assert_int_equal(entry.place, place);
  assert_int_equal(entry.state, LOADED_WAITING);
  assert_int_equal(entry.target.session, 3);
  assert_int_equal(entry.target.id_count, 3);
  assert_int_equal(record_target_id(&entry.target, 1), 70000);
  assert_int_equal(entry.message.target_count, 1);
  assert_int_equal(entry.message.expiry_ms, 99999);
  assert_true(entry.message.retain);
  assert_span_text(entry.message.topic, "plant/7");
  assert_span_text(entry.message.payload, "hot");
  assert_int_equal(entry.message.properties.size, 4);
  static const enum loaded_state states[] = {LOADED_SENT, LOADED_DAMAGED, LOADED_DAMAGED, LOADED_DAMAGED};
  for (uint64_t i = 0; i < 4; i++) {
    assert_true(journal_next_entry(loaded, &cursor, &entry));
    assert_int_equal(entry.place, place + 1 + i);
    assert_int_equal(entry.state, states[i]);
  }
  assert_false(journal_next_entry(loaded, &cursor, &entry));
  journal_loaded_free(loaded);
  journal_loaded_free(NULL);
  journal_batch_free(NULL);
  buffer_deinit(&sample.targets);
}

static void states_have_names(void **state)
{
  (void)state;
  assert_string_equal(journal_state_name(JOURNAL_OK), "ok");
  assert_string_equal(journal_state_name(JOURNAL_FULL), "full");
  assert_string_equal(journal_state_name(JOURNAL_FAILING), "failing");
}

int main(void)
{
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(sessions_come_back),
      cmocka_unit_test(owners_come_back),
      cmocka_unit_test(makers_of_wills_come_back),
      cmocka_unit_test(damaged_makers_are_refused_or_whole),
      cmocka_unit_test(subscriptions_come_back),
      cmocka_unit_test(wills_come_back),
      cmocka_unit_test(packet_ids_and_runs_come_back),
      cmocka_unit_test(impossible_values_are_refused),
      cmocka_unit_test(messages_come_back),
      cmocka_unit_test(impossible_messages_are_refused),
      cmocka_unit_test(a_record_weighs_what_the_message_does),
      cmocka_unit_test(bytes_at_random_are_harmless),
      cmocka_unit_test(outcomes_have_names),
      cmocka_unit_test(records_follow_each_other),
      cmocka_unit_test(entries_carry_their_own_target),
      cmocka_unit_test(states_have_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
