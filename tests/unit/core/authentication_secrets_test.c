// Passwords in questions, and in what is kept while one is answered.
#include "bench_authentication.h"

static bool holds(struct span bytes, const char *text)
{
  return bytes.size > 0 && memmem(bytes.at, bytes.size, text, strlen(text));
}

static void passwords_are_not_kept(void **state)
{
  (void)state;
  for (size_t chunk = 0; chunk < 40; chunk++) {
    struct bench bench;
    bench_init_authentication(&bench, 1);
    struct client *client = client_open(&bench, chunk % 2 ? MQTT_5_0 : MQTT_3_1_1, 0);
    client->read_chunk = chunk;
    struct mqtt_packet packet = connect_as(client->version, "c", "ann", "s3cret");
    packet.connect.will = (struct mqtt_will){.present = true, .topic = span_text("t"), .payload = span_text("gone")};
    client_queue(client, &packet);
    client_queue_bytes(client, "\xc0\0", 2);
    bench_run(&bench);
    assert_span_text(bench_question(&bench)->password, "s3cret");
    struct span kept = buffer_peek(client->connection->input);
    assert_true(holds(kept, "ann"));
    assert_false(holds(kept, "s3cret"));
    bench_answer(&bench, &(struct answer){.user = "ann"});
    client_expect(client, MQTT_CONNACK);
    client_expect(client, MQTT_PINGRESP);
    assert_span_text(message_topic(client->connection->session->will->message), "t");
    bench_deinit(&bench);
  }
}

// ... nor while an exchange goes on, with a packet length that is longer than it need be.
static void passwords_are_not_kept_in_exchanges(void **state)
{
  struct bench *bench = bench_make_authentication(state, 1);
  struct client *client = client_open(bench, MQTT_5_0, 0);
  static const char connect[] = "\x10\x9f\0\0\4MQTT\5\xc2\0\x3c\4\x15\0\1M\0\1c\0\3ann\0\6s3cret";
  client_send_bytes(client, connect, sizeof connect - 1);
  assert_span_text(bench_question(bench)->password, "s3cret");
  assert_span_text(bench_question(bench)->method, "M");
  bench_answer(bench, &(struct answer){.reason = MQTT_CONTINUE_AUTHENTICATION});
  expect_auth(client, MQTT_CONTINUE_AUTHENTICATION, NULL);
  const struct admission *admission = admission_of(client->connection);
  assert_int_equal(admission->connect_size, sizeof connect - 1);
  assert_true(holds(span_of(admission->connect, admission->connect_size), "ann"));
  assert_false(holds(span_of(admission->connect, admission->connect_size), "s3cret"));
  struct mqtt_packet auth = auth_packet(MQTT_CONTINUE_AUTHENTICATION, "M", NULL);
  client_send(client, &auth);
  assert_span_text(bench_question(bench)->user, "ann");
  assert_false(bench_question(bench)->has_password);
  bench_answer(bench, &(struct answer){.user = "ann"});
  client_expect(client, MQTT_CONNACK);
}

static void authentications_are_copies(void **state)
{
  (void)state;
  char text[] = "abcde";
  const struct authentication parts = {.ticket = 7,
                                       .version = 5,
                                       .client_id = span_of(text, 1),
                                       .user = span_of(text + 1, 1),
                                       .password = span_of(text + 2, 1),
                                       .method = span_of(text + 3, 1),
                                       .data = span_of(text + 4, 1)};
  struct authentication *question = authentication_create(&parts);
  memset(text, 'x', sizeof text);
  assert_int_equal(question->ticket, 7);
  assert_span_text(question->client_id, "a");
  assert_span_text(question->user, "b");
  assert_span_text(question->password, "c");
  assert_span_text(question->method, "d");
  assert_span_text(question->data, "e");
  assert_int_equal(question->size, 5);
  authentication_free(question);
  question = authentication_create(&(struct authentication){.again = true});
  assert_int_equal(question->size, 0);
  assert_true(question->again);
  authentication_free(question);
  authentication_free(NULL);
  admission_free(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(passwords_are_not_kept),
      WITH_BENCH(passwords_are_not_kept_in_exchanges),
      cmocka_unit_test(authentications_are_copies),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
