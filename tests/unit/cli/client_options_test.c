#include "cli/client_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORDS_MAX = 24, LINE_SIZE = 512 };

struct parsed {
  struct client_options options;
  struct client_settings settings;
  struct error error;
  enum status status;
  char line[LINE_SIZE];
};

// Words are separated by one space each; the result is the caller's to give to release().
static struct parsed *parse(const char *line)
{
  struct parsed *parsed = calloc(1, sizeof *parsed);
  assert_non_null(parsed);
  assert_true(strlen(line) < LINE_SIZE);
  strcpy(parsed->line, line);
  parsed->options.command = "test";
  char name[] = "test";
  char *argv[WORDS_MAX] = {name};
  int argc = 1;
  char *rest = NULL;
  for (char *word = strtok_r(parsed->line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) argv[argc++] = word;
  const struct option_section sections[] = {client_connection_section(&parsed->options),
                                            client_session_section(&parsed->options), client_will_section(&parsed->options),
                                            client_tls_section(&parsed->options.tls)};
  const struct option_command command = {.name = "test", .sections = sections, .section_count = 4};
  int positional = 0;
  parsed->status = options_parse(&command, argc, argv, &positional, &parsed->error);
  if (parsed->status == OK) parsed->status = client_options_settings(&parsed->options, &parsed->settings, &parsed->error);
  return parsed;
}

static void release(struct parsed *parsed)
{
  client_options_deinit(&parsed->options);
  free(parsed);
}

static struct parsed *taken(const char *line)
{
  struct parsed *parsed = parse(line);
  if (parsed->status != OK) fail_msg("%s: %s", line, parsed->error.text);
  return parsed;
}

static void refuse(const char *line, const char *wanted)
{
  struct parsed *parsed = parse(line);
  assert_int_equal(parsed->status, ERR_INVALID);
  if (!strstr(parsed->error.text, wanted)) fail_msg("%s: %s", line, parsed->error.text);
  release(parsed);
}

static void described(const char *line, const char *wanted)
{
  char text[300];
  struct parsed *parsed = taken(line);
  client_options_describe(&parsed->settings, text, sizeof text);
  assert_string_equal(text, wanted);
  release(parsed);
}

static void addresses(void **state)
{
  (void)state;
  described("", "localhost:1883");
  described("-h sun -p 5", "sun:5");
  described("-h ::1", "[::1]:1883");
  described("--unix /run/s", "/run/s");
  described("-L mqtt://sun:7/t", "sun:7");
  described("-L ws://sun:8083", "ws://sun:8083/mqtt");
  described("-L ws://sun:8083/x", "ws://sun:8083/x");
  described("-L unix:///run/s", "/run/s");
  refuse("-L mqtt://a -h b", "leave out -h");
  refuse("--unix /s -p 5", "leave out -h");
  refuse("-L http://a", "no address of a broker");
}

static void secured_addresses(void **state)
{
  (void)state;
  described("-L mqtts://b", "mqtts://b:8883");
  described("-L wss://b:8443", "wss://b:8443/mqtt");
  described("-h b --tls", "mqtts://b:8883");
  described("-h b -p 8884 --cafile ca.pem", "mqtts://b:8884");
  described("--cert c.pem --key c.key", "mqtts://localhost:8883");
  described("--tls-version tlsv1.2 -h b", "mqtts://b:8883");
  described("--psk-file psk.txt --psk-identity a", "mqtts://localhost:8883");
  // What asks for TLS never gets a plain connection.
  refuse("-L mqtt://b --cafile ca.pem", "begins with mqtts:// or wss://");
  refuse("-L ws://b --insecure", "begins with mqtts:// or wss://");
  refuse("--unix /b.sock --tls", "not spoken over a Unix socket");
  refuse("--cert c.pem", "--cert and --key belong together");
  refuse("--key c.key", "--cert and --key belong together");
  refuse("--psk-identity a", "--psk-identity needs --psk-file");
  refuse("--psk-file p --cafile c", "with a pre-shared key");
  refuse("--insecure --cafile c", "--insecure checks nothing");
  refuse("--tls-version 1.1", "\"1.1\" is no version of TLS that is spoken here; known are 1.2 and 1.3");
}

static void versions_of_tls(void **state)
{
  (void)state;
  static const struct {
    const char *line;
    enum tls_versions versions;
  } cases[] = {{"--tls", TLS_1_2_OR_1_3},
               {"--tls-version 1.2", TLS_1_2_ONLY},
               {"--tls-version 1.3", TLS_1_3_ONLY},
               {"--tls-version TLSv1.3", TLS_1_3_ONLY}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct parsed *parsed = taken(cases[i].line);
    assert_int_equal(parsed->options.tls.versions, cases[i].versions);
    release(parsed);
  }
}

static void passwords_from_files(void **state)
{
  (void)state;
  static char longest[MQTT_MAX_STRING + sizeof "\r\nmore"], too_long[MQTT_MAX_STRING + 2];
  memset(longest, 'x', MQTT_MAX_STRING);
  char *password = strdup(longest);
  memcpy(longest + MQTT_MAX_STRING, "\r\nmore", sizeof "\r\nmore");
  memset(too_long, 'x', MQTT_MAX_STRING + 1);
  const struct {
    const char *content;
    const char *password;  // NULL: refused
    const char *why;
  } cases[] = {{"secret", "secret", NULL},       {"se cret\r\nmore\n", "se cret", NULL},
               {longest, password, NULL},        {"", NULL, "is empty"},
               {"\nsecret\n", NULL, "is empty"}, {too_long, NULL, "is longer than 65535 bytes"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char path[] = "/tmp/skerry-options-XXXXXX", line[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, cases[i].content, strlen(cases[i].content)), strlen(cases[i].content));
    close(fd);
    snprintf(line, sizeof line, "-u ann --pw-file %s", path);
    struct parsed *parsed = taken(line);
    enum status status = client_options_read(&parsed->options, &parsed->settings, &parsed->error);
    assert_int_equal(status, cases[i].password ? OK : ERR_INVALID);
    if (cases[i].password) {
      assert_true(parsed->settings.has_password);
      assert_true(span_equal(parsed->settings.password, span_text(cases[i].password)));
    } else {
      assert_non_null(strstr(parsed->error.text, cases[i].why));
      assert_non_null(strstr(parsed->error.text, ": expected the password there"));
    }
    release(parsed);
    unlink(path);
  }
  free(password);
  refuse("-u ann -P secret --pw-file p", "the password is given twice");
  refuse("-V 3.1.1 --pw-file p", "needs a user name");
}

static void defaults(void **state)
{
  (void)state;
  struct parsed *parsed = taken("");
  const struct client_settings *settings = &parsed->settings;
  assert_int_equal(settings->version, MQTT_5_0);
  assert_int_equal(settings->keep_alive_s, 60);
  assert_true(settings->clean_start);
  assert_false(settings->has_user_name || settings->has_password || settings->will.present);
  assert_int_equal(settings->connect_properties.present, 0);
  assert_int_equal(settings->client_id.size, strlen("skerry-test-01234567"));
  struct parsed *other = taken("");
  assert_false(span_equal(settings->client_id, other->settings.client_id));
  release(other);
  release(parsed);
}

static void versions(void **state)
{
  (void)state;
  static const struct {
    const char *line;
    enum mqtt_version version;
  } cases[] = {{"-V 5", MQTT_5_0},          {"-V mqttv5", MQTT_5_0}, {"-V 3.1.1", MQTT_3_1_1}, {"-V 311", MQTT_3_1_1},
               {"-V MQTTv311", MQTT_3_1_1}, {"-V 3.1", MQTT_3_1},    {"-V mqttv31", MQTT_3_1}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct parsed *parsed = taken(cases[i].line);
    assert_int_equal(parsed->settings.version, cases[i].version);
    release(parsed);
  }
  refuse("-V 4", "known are 5, 3.1.1 and 3.1");
  refuse("-V 3.1 -i a-name-of-more-than-23-bytes", "1 to 23");
}

static void sessions(void **state)
{
  (void)state;
  struct parsed *parsed = taken("-c -i me");
  assert_false(parsed->settings.clean_start);
  assert_int_equal(parsed->settings.connect_properties.session_expiry_s, UINT32_MAX);
  release(parsed);
  parsed = taken("-c -i me -x 60");
  assert_int_equal(parsed->settings.connect_properties.session_expiry_s, 60);
  release(parsed);
  parsed = taken("-x -1");
  assert_true(parsed->settings.clean_start);
  assert_int_equal(parsed->settings.connect_properties.session_expiry_s, UINT32_MAX);
  release(parsed);
  parsed = taken("-c -i me -V 311");
  assert_false(parsed->settings.clean_start);
  assert_int_equal(parsed->settings.connect_properties.present, 0);
  release(parsed);
  refuse("-c", "needs a client identifier");
  refuse("-i a -I b", "exclude each other");
  refuse("-V 311 -x 5", "need MQTT 5.0");
  refuse("-x 5 -D connect session-expiry-interval 5", "given twice");
}

static void users(void **state)
{
  (void)state;
  struct parsed *parsed = taken("-u joe -P secret");
  assert_true(span_equal(parsed->settings.user_name, span_text("joe")));
  assert_true(span_equal(parsed->settings.password, span_text("secret")));
  release(parsed);
  parsed = taken("-L mqtt://joe:se%20cret@h");
  assert_true(span_equal(parsed->settings.password, span_text("se cret")));
  release(parsed);
  parsed = taken("-P token");
  assert_false(parsed->settings.has_user_name);
  release(parsed);
  refuse("-P token -V 311", "needs a user name");
  refuse("-u ann\xff", "the user name is not UTF-8");
}

static void wills(void **state)
{
  (void)state;
  struct parsed *parsed =
      taken("--will-topic w --will-payload p --will-qos 2 --will-retain --will-delay 9 -D will content-type x");
  const struct mqtt_will *will = &parsed->settings.will;
  assert_true(will->present && will->retain);
  assert_int_equal(will->qos, 2);
  assert_int_equal(will->properties.will_delay_s, 9);
  assert_true(span_equal(will->payload, span_text("p")));
  assert_true(span_equal(will->properties.content_type, span_text("x")));
  release(parsed);
  refuse("--will-payload p", "needs --will-topic");
  refuse("--will-topic a/#", "wildcard");
  refuse("--will-topic a\xff", "not UTF-8");
  refuse("--will-qos 3 --will-topic a", "out of range");
  refuse("-V 311 --will-topic a --will-delay 1", "need MQTT 5.0");
}

static void properties(void **state)
{
  (void)state;
  struct parsed *parsed = taken("-D connect receive-maximum 7 -D connect user-property a b -D publish topic-alias 3 -k 5");
  assert_int_equal(parsed->settings.connect_properties.receive_maximum, 7);
  assert_int_equal(parsed->settings.connect_properties.user.size, 7);
  assert_int_equal(parsed->settings.keep_alive_s, 5);
  release(parsed);
  refuse("-D connect", "needs PACKET NAME VALUE");
  refuse("-D connect user-property a", "needs PACKET NAME VALUE");
  refuse("-D connect receive-maximum 0", "-D: receive-maximum: 0 is out of range");
  refuse("-V 311 -D connect receive-maximum 7", "need MQTT 5.0");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(addresses),       cmocka_unit_test(secured_addresses),
      cmocka_unit_test(versions_of_tls), cmocka_unit_test(passwords_from_files),
      cmocka_unit_test(defaults),        cmocka_unit_test(versions),
      cmocka_unit_test(sessions),        cmocka_unit_test(users),
      cmocka_unit_test(wills),           cmocka_unit_test(properties),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
