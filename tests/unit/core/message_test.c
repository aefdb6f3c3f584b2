// The one allocation of a message: layout, references, expiry.
#include "test.h"

#include "core/message.h"

static void parts_lie_as_on_the_wire(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  struct message_parts parts = {.topic = span_text("plant/1"),
                                .payload = span_text("hot"),
                                .topic_hash = 77,
                                .origin = 5,
                                .expiry_ms = 1000,
                                .qos = 2,
                                .retain = true};
  struct message *message = message_create(&memory.pool, &parts);
  assert_non_null(message);
  assert_span_text(message_topic(message), "plant/1");
  assert_span_text(message_payload(message), "hot");
  assert_int_equal(message_properties(message).size, 0);
  assert_memory_equal(message->body, "\0\7plant/1hot", 12);
  assert_int_equal(message_size(message), sizeof *message + 12);
  assert_int_equal(message->topic_hash, 77);
  assert_int_equal(message->origin, 5);
  assert_int_equal(message->qos, 2);
  assert_true(message->retain);
  assert_false(message->shared);
  assert_false(message_expired(message, (struct mono){999}));
  assert_true(message_expired(message, (struct mono){1000}));
  message->expiry_ms = 0;
  assert_false(message_expired(message, (struct mono){UINT64_MAX}));
  message_unref(&memory.pool, message);
  counted_pool_deinit(&memory);
}

// Only what a server forwards is kept, in its order.
static void properties_are_filtered(void **state)
{
  (void)state;
  static const uint8_t raw[] = {0x23, 0, 9,                  // topic alias
                                0x01, 1,                     // payload format
                                0x26, 0, 1, 'a', 0, 1, 'b',  // user property
                                0x02, 0, 0, 0,   9,          // message expiry
                                0x03, 0, 1, 't'};            // content type
  static const uint8_t kept[] = {0x01, 1, 0x26, 0, 1, 'a', 0, 1, 'b', 0x03, 0, 1, 't'};
  struct counted_pool memory;
  counted_pool_init(&memory);
  struct message_parts parts = {.topic = span_text("t"), .raw_properties = span_of(raw, sizeof raw)};
  struct message *message = message_create(&memory.pool, &parts);
  assert_non_null(message);
  assert_int_equal(message_payload(message).size, 0);
  assert_true(span_equal(message_properties(message), span_of(kept, sizeof kept)));
  message_unref(&memory.pool, message);
  counted_pool_deinit(&memory);
}

static void longest_topic(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  char *topic = malloc(65535);
  assert_non_null(topic);
  memset(topic, 'x', 65535);
  struct message_parts parts = {.topic = span_of(topic, 65535)};
  struct message *message = message_create(&memory.pool, &parts);
  assert_non_null(message);
  assert_int_equal(message->body[0], 0xff);
  assert_int_equal(message->body[1], 0xff);
  assert_true(span_equal(message_topic(message), parts.topic));
  message_unref(&memory.pool, message);
  free(topic);
  counted_pool_deinit(&memory);
}

static void last_reference_frees(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  for (unsigned shared = 0; shared < 2; shared++) {
    struct message_parts parts = {.topic = span_text("t")};
    struct message *message = message_create(&memory.pool, &parts);
    assert_non_null(message);
    if (shared) message_share(message);
    message_ref(message, 3);
    assert_int_equal(atomic_load(&message->refs), 4);
    for (uint32_t left = 3; left > 0; left--) {
      message_unref(&memory.pool, message);
      assert_int_equal(atomic_load(&message->refs), left);
    }
    assert_true(counted_pool_used(&memory) > 0);
    message_unref(&memory.pool, message);
    assert_int_equal(counted_pool_used(&memory), 0);
  }
  counted_pool_deinit(&memory);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parts_lie_as_on_the_wire),
      cmocka_unit_test(properties_are_filtered),
      cmocka_unit_test(longest_topic),
      cmocka_unit_test(last_reference_frees),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
