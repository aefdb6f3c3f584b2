// From the text of a mosquitto.conf to ours: its lines, its directives, what becomes of listeners, and what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mosquitto_plan.h"

#include <cmocka.h>

struct imported {
  struct mosquitto_conf conf;
  struct mosquitto_settings *settings;
  struct mosquitto_plan *plan;
  struct buffer text;  // NUL-terminated
};

static const struct mosquitto_place place = {.base = "/base", .ipv6 = true};
static const struct mosquitto_place root_place = {.base = "/", .default_user = "nobody", .copies = true};

static void import_at(struct imported *imported, const struct mosquitto_place *at, const char *text)
{
  *imported =
      (struct imported){.settings = calloc(1, sizeof *imported->settings), .plan = calloc(1, sizeof *imported->plan)};
  assert_non_null(imported->settings);
  assert_non_null(imported->plan);
  struct span rest = span_text(text);
  unsigned number = 0;
  const char *name = mosquitto_conf_file(&imported->conf, "m.conf");
  assert_non_null(name);
  mosquitto_conf_read(&imported->conf, name, &rest, &number, NULL);
  mosquitto_settings_read(&imported->conf, imported->settings);
  mosquitto_plan_make(&imported->conf, imported->settings, at, imported->plan);
  if (imported->conf.counts[MOSQUITTO_ERROR] == 0)
    assert_int_equal(mosquitto_write(imported->plan, &imported->conf, &imported->text), OK);
  assert_int_equal(buffer_append(&imported->text, "", 1), OK);
  assert_false(imported->conf.short_of_memory);
}

static void let_go(struct imported *imported)
{
  mosquitto_plan_deinit(imported->plan);
  mosquitto_settings_deinit(imported->settings);
  free(imported->plan);
  free(imported->settings);
  buffer_deinit(&imported->text);
  mosquitto_conf_deinit(&imported->conf);
}

static bool found(const struct imported *imported, enum mosquitto_gravity gravity, const char *part)
{
  for (size_t i = 0; i < imported->conf.finding_count; i++)
    if (imported->conf.findings[i].gravity == gravity && strstr(imported->conf.findings[i].text, part)) return true;
  return false;
}

static void expect_part(const struct imported *imported, const char *part)
{
  const char *text = (const char *)buffer_peek(&imported->text).at;
  if (!strstr(text, part)) fail_msg("\"%s\" is not in:\n%s", part, text);
}

// `parts`: what the result has to have, NULL at the end.
static void expect(const char *text, const char *const *parts)
{
  struct imported imported;
  import_at(&imported, &place, text);
  for (size_t i = 0; i < imported.conf.finding_count; i++)
    if (imported.conf.findings[i].gravity == MOSQUITTO_ERROR) fail_msg("%s", imported.conf.findings[i].text);
  for (; *parts; parts++) expect_part(&imported, *parts);
  let_go(&imported);
}

static void expect_finding(const char *text, enum mosquitto_gravity gravity, const char *part)
{
  struct imported imported;
  import_at(&imported, &place, text);
  if (!found(&imported, gravity, part)) {
    for (size_t i = 0; i < imported.conf.finding_count; i++) print_error("%s\n", imported.conf.findings[i].text);
    fail_msg("not found for \"%s\": %s", text, part);
  }
  let_go(&imported);
}

#define EXPECT(text, ...) expect(text, (const char *const[]){__VA_ARGS__, NULL})
#define OPEN "listener 1883\nallow_anonymous true\n"

// ---- Lines

static void lines_are_read_as_mosquitto_does(void **state)
{
  (void)state;
  struct mosquitto_conf conf = {0};
  struct span rest = span_text("# comment\n\n   \r\n port  1884 \r\npid_file /a b/c\nsolo\ntab\there");
  unsigned number = 0;
  mosquitto_conf_read(&conf, mosquitto_conf_file(&conf, "m"), &rest, &number, NULL);
  assert_int_equal(conf.line_count, 4);
  assert_string_equal(conf.lines[0].name, "port");
  assert_string_equal(conf.lines[0].value, "1884");
  assert_int_equal(conf.lines[0].number, 4);
  assert_string_equal(conf.lines[1].value, "/a b/c");
  assert_string_equal(conf.lines[2].name, "solo");
  assert_string_equal(conf.lines[2].value, "");
  assert_string_equal(conf.lines[3].name, "tab\there");
  assert_int_equal(conf.finding_count, 0);
  mosquitto_conf_deinit(&conf);
}

static void reading_stops_at_includes_of_the_first_file_only(void **state)
{
  (void)state;
  struct mosquitto_conf conf = {0};
  struct span rest = span_text("port 1\ninclude_dir d\nport 2\n");
  unsigned number = 0;
  size_t at = 0;
  const char *name = mosquitto_conf_file(&conf, "m");
  mosquitto_conf_read(&conf, name, &rest, &number, &at);
  assert_int_equal(at, 1);
  mosquitto_conf_read(&conf, name, &rest, &number, &at);
  assert_true(at == SIZE_MAX);
  assert_int_equal(conf.lines[2].number, 3);
  rest = span_text("include_dir d\nport 2\n");
  number = 0;
  mosquitto_conf_read(&conf, name, &rest, &number, NULL);
  assert_int_equal(conf.line_count, 5);
  mosquitto_conf_deinit(&conf);
}

static void bytes_that_are_no_text_are_refused(void **state)
{
  (void)state;
  expect_finding(OPEN "user \xff\n", MOSQUITTO_ERROR, "m.conf:3: is not UTF-8 text");
}

static void included_files_have_mosquittos_order(void **state)
{
  (void)state;
  static const char *const order[] = {"00.conf", "01.conf", "A.conf", "a.conf", "B.conf", "b.conf"};
  for (size_t i = 0; i < 6; i++)
    for (size_t j = 0; j < 6; j++) assert_true((mosquitto_compare_names(order[i], order[j]) < 0) == (i < j));
}

static void included_files_begin_at_the_default_listener(void **state)
{
  (void)state;
  struct imported imported = {.settings = calloc(1, sizeof *imported.settings)};
  struct mosquitto_conf *conf = &imported.conf;
  struct span main_text = span_text("listener 1001\ninclude_dir d\nmax_connections 7\n"),
              other = span_text("max_connections 9\n");
  unsigned number = 0, other_number = 0;
  size_t at;
  const char *main_file = mosquitto_conf_file(conf, "m"), *other_file = mosquitto_conf_file(conf, "o");
  mosquitto_conf_read(conf, main_file, &main_text, &number, &at);
  mosquitto_conf_read(conf, other_file, &other, &other_number, NULL);
  mosquitto_conf_read(conf, main_file, &main_text, &number, &at);
  mosquitto_settings_read(conf, imported.settings);
  assert_int_equal(imported.settings->listener_count, 2);
  assert_int_equal(imported.settings->listeners[0].max_connections.number, 9);
  assert_true(imported.settings->listeners[0].opened);
  assert_int_equal(imported.settings->listeners[1].max_connections.number, 7);
  mosquitto_settings_deinit(imported.settings);
  free(imported.settings);
  mosquitto_conf_deinit(conf);
}

// ---- Directives

static void every_directive_says_what_becomes_of_it(void **state)
{
  (void)state;
  for (size_t i = 0; i < mosquitto_directive_count; i++) {
    const struct mosquitto_directive *directive = &mosquitto_directives[i];
    assert_true(directive->fate == DIRECTIVE_TAKEN || directive->why != NULL);
    for (size_t k = 0; k < i; k++) assert_string_not_equal(directive->name, mosquitto_directives[k].name);
  }
}

static void what_guards_is_an_error(void **state)
{
  (void)state;
  static const char *const lines[] = {"plugin /x.so",
                                      "auth_plugin /x.so",
                                      "auth_opt_a b",
                                      "mount_point a/",
                                      "clientid_prefixes s-",
                                      "use_subject_as_username true",
                                      "use_username_as_clientid true",
                                      "tls_engine pkcs11",
                                      "tls_keyform engine",
                                      "bind_interface eth0",
                                      "allow_zero_length_clientid false"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    char text[200];
    snprintf(text, sizeof text, OPEN "%s\n", lines[i]);
    expect_finding(text, MOSQUITTO_ERROR, "m.conf:3: ");
  }
  EXPECT(OPEN "use_subject_as_username false\nuse_username_as_clientid 0\nallow_zero_length_clientid 1\ntls_keyform pem\n",
         "mqtt://*:1883");
}

static void what_is_lost_is_named(void **state)
{
  (void)state;
  expect_finding(OPEN "queue_qos0_messages true\n", MOSQUITTO_LOST, "m.conf:3: queue_qos0_messages: ");
  expect_finding(OPEN "log_dest syslog\n", MOSQUITTO_LOST, "m.conf:3: log_dest: ");
  expect_finding(OPEN "connection up\naddress 10.0.0.1\ntopic # out\n", MOSQUITTO_LOST, "m.conf:5: topic: bridges");
  expect_finding(OPEN "autosave_interval 5\n", MOSQUITTO_IDLE, "m.conf:3: autosave_interval: ");
  struct imported imported;
  import_at(&imported, &place, OPEN "queue_qos0_messages false\nretain_available true\nmax_qos 2\n");
  assert_int_equal(imported.conf.counts[MOSQUITTO_LOST], 0);
  let_go(&imported);
}

static void mistakes_are_named(void **state)
{
  (void)state;
  expect_finding(OPEN "allow_anonimous true\n", MOSQUITTO_ERROR, "did it mean \"allow_anonymous\"?");
  expect_finding(OPEN "address 10.0.0.1\n", MOSQUITTO_ERROR, "outside of a bridge");
  expect_finding(OPEN "password_file\n", MOSQUITTO_ERROR, "has no value");
  expect_finding(OPEN "password_file a\npassword_file b\n", MOSQUITTO_ERROR, "is given twice; it stands in line 3");
  expect_finding(OPEN "max_inflight_messages x\n", MOSQUITTO_ERROR, "from 0 to 65535");
  expect_finding("listener 70000\n", MOSQUITTO_ERROR, "is no port");
  expect_finding("listener 0\n", MOSQUITTO_ERROR, "is no port");
  expect_finding("listener 1883\nallow_anonymous TRUE\n", MOSQUITTO_ERROR, "neither true nor false");
  expect_finding(OPEN "persistent_client_expiration 5s\n", MOSQUITTO_ERROR, "one of h, d, w, m, y");
  expect_finding("password_file a\nper_listener_settings true\n", MOSQUITTO_ERROR, "has to stand in front");
  expect_finding("per_listener_settings true\nlistener 1\nallow_anonymous true\nper_listener_settings false\n"
                 "password_file p\nallow_anonymous false\n",
                 MOSQUITTO_ERROR, "m.conf:4: per_listener_settings: has to stand in front");
  EXPECT("per_listener_settings false\n" OPEN "per_listener_settings false\n", "anonymous: true");
}

// ---- Listeners

static void listeners_become_urls(void **state)
{
  (void)state;
  EXPECT("", "url: \"mqtt://127.0.0.1:1883\"", "url: \"mqtt://[::1]:1883\"", "anonymous: true");
  EXPECT("port 1884\nallow_anonymous true\nbind_address 10.0.0.1\n", "url: \"mqtt://10.0.0.1:1884\"");
  EXPECT("allow_anonymous true\nlistener 1884\nport 1885\nbind_address 10.0.0.1\n", "url: \"mqtt://*:1884\"",
         "url: \"mqtt://10.0.0.1:1885\"  # the default listener");
  EXPECT("allow_anonymous true\nlistener 1883 ::1\nprotocol websockets\n", "url: \"ws://[::1]:1883\"");
  EXPECT(OPEN "socket_domain ipv6\nmax_connections 20\n", "url: \"mqtt://[::]:1883\"", "ipv6_only: true",
         "max_connections: 20");
  EXPECT(OPEN "socket_domain ipv4\nmax_connections -1\n", "url: \"mqtt://0.0.0.0:1883\"");
  EXPECT("allow_anonymous true\nlistener 0 run/m.sock\n", "url: \"unix:///base/run/m.sock\"", "mode: \"0600\"");
  EXPECT("allow_anonymous true\nlistener 1883 # all\nlistener 1884  10.0.0.1 # one\nlistener 0 /a b\n",
         "url: \"mqtt://*:1883\"", "url: \"mqtt://10.0.0.1:1884\"", "url: \"unix:///a\"");
  expect_finding("allow_anonymous true\nlistener 0 # none\n", MOSQUITTO_ERROR, "is no port");
}

static void who_comes_in_is_the_same(void **state)
{
  (void)state;
  EXPECT("listener 1883\npassword_file pw\n", "auth: [password]", "passwords: \"/base/pw\"", "anonymous: false");
  EXPECT(OPEN "password_file pw\n", "auth: [password]", "anonymous: true");
  expect_finding("listener 1883\n", MOSQUITTO_ERROR, "m.conf:1: listener: nobody can come in");
  expect_finding("per_listener_settings true\nallow_anonymous true\nlistener 1883\n", MOSQUITTO_ERROR,
                 "m.conf:3: listener: nobody can come in");
  EXPECT("per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\npassword_file /p\n",
         ":1\"  # listener, line 2\n    anonymous: true",
         "passwords: \"/p\"  # password_file, line 5\n    anonymous: false");
}

#define TLS "listener 8883\ncertfile c.pem\nkeyfile /k.pem\n"

static void tls_is_carried_over(void **state)
{
  (void)state;
  EXPECT(TLS "allow_anonymous true\ntls_version tlsv1.3\n", "mqtts://*:8883", "cert: \"/base/c.pem\"", "key: \"/k.pem\"",
         "min_version: \"1.3\"");
  EXPECT(TLS "cafile ca\ncrlfile crl\nrequire_certificate true\nuse_identity_as_username true\n", "client_ca: \"/base/ca\"",
         "client_cert: required", "crl: \"/base/crl\"", "auth: [cert]\n    identity: cert.cn", "anonymous: false");
  EXPECT(TLS "cafile ca\nrequire_certificate true\npassword_file p\n", "client_cert: required", "auth: [password]");
  expect_finding(TLS "allow_anonymous true\ncafile ca\n", MOSQUITTO_IDLE, "does not ask clients for certificates");
  expect_finding(TLS "use_identity_as_username true\n", MOSQUITTO_ERROR, "lets nobody in without require_certificate");
  expect_finding(TLS "require_certificate true\npassword_file p\n", MOSQUITTO_ERROR, "there is no cafile");
  expect_finding(OPEN "certfile c.pem\n", MOSQUITTO_ERROR, "are not encrypted");
  expect_finding(OPEN "require_certificate true\n", MOSQUITTO_ERROR, "has no effect without certfile");
}

static void ciphers_that_are_stricter_than_ours_are_refused(void **state)
{
  (void)state;
  expect_finding(TLS "allow_anonymous true\nciphers HIGH:!aNULL:!MD5\n", MOSQUITTO_IDLE, "ciphers: ");
  expect_finding(TLS "allow_anonymous true\nciphers HIGH:!SHA256\n", MOSQUITTO_ERROR, "ciphers: ");
  expect_finding(TLS "allow_anonymous true\nciphers HIGH:AES;!SHA256\n", MOSQUITTO_ERROR, "ciphers: ");
  expect_finding(TLS "allow_anonymous true\nciphers ECDHE-RSA-AES256-GCM-SHA384\n", MOSQUITTO_ERROR, "ciphers: ");
  expect_finding(TLS "allow_anonymous true\nciphers_tls1.3 TLS_AES_256_GCM_SHA384\n", MOSQUITTO_ERROR, "ciphers_tls1.3: ");
  expect_finding(TLS "allow_anonymous true\nciphers_tls1.3 "
                     "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256\n",
                 MOSQUITTO_IDLE, "ciphers_tls1.3: ");
}

static void shared_keys_alone_do_not_replace_a_password(void **state)
{
  (void)state;
  EXPECT("psk_file k\nlistener 8883\npsk_hint x\nuse_identity_as_username true\n", "mqtts://*:8883", "psk: \"/base/k\"",
         "auth: [psk]", "anonymous: false");
  expect_finding("psk_file k\npassword_file p\nlistener 8883\npsk_hint x\n", MOSQUITTO_ERROR, "for a password as well");
  expect_finding("allow_anonymous true\npsk_file k\nacl_file a\nlistener 8883\npsk_hint x\n", MOSQUITTO_ERROR,
                 "would mean something else");
  expect_finding("listener 8883\npsk_hint x\nallow_anonymous true\n", MOSQUITTO_ERROR, "there is no psk_file");
}

// ---- Access control

static void one_list_is_for_all_listeners(void **state)
{
  (void)state;
  EXPECT("acl_file a\nallow_anonymous true\nlistener 1\nlistener 2\n", "acl: \"/base/a\"");
  expect_finding(
      "per_listener_settings true\nlistener 1\nallow_anonymous true\nacl_file a\nlistener 2\nallow_anonymous true\n",
      MOSQUITTO_ERROR, "m.conf:4: acl_file: there is one access control list");
  expect_finding(
      "per_listener_settings true\nlistener 1\nallow_anonymous true\nacl_file a\nlistener 2\nallow_anonymous true\n"
      "acl_file b\n",
      MOSQUITTO_ERROR, "m.conf:7: acl_file: there is one access control list");
  expect_finding(OPEN "acl_file a\ncheck_retain_source true\n", MOSQUITTO_ERROR, "check_retain_source: ");
  expect_finding(OPEN "acl_file a\n", MOSQUITTO_NOTE, "(check_retain_source)");
  EXPECT(OPEN "check_retain_source true\n", "listeners:");
}

// ---- The rest

static void limits_are_carried_over(void **state)
{
  (void)state;
  EXPECT(OPEN "max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 100\nmax_keepalive 60\nmax_packet_size 100\n"
              "max_topic_alias 5\npersistent_client_expiration 2d\nsys_interval 0\nmemory_limit 1\nlog_type error\nlog_type "
              "warning\n",
         "in_flight: 65535", "queue_messages: unlimited", "queue_bytes: 1024", "keep_alive_max: 60s", "packet_size: 256",
         "topic_alias: 5", "session_expiry_max: 172800s", "sys:\n  interval: off", "memory_limit: 4194304",
         "level: warning");
  EXPECT("allow_anonymous true\nlistener 1\nmax_topic_alias 5\nlistener 2\nmax_topic_alias 0\n",
         "    limits:\n      topic_alias: 5  # max_topic_alias, line 3",
         "    limits:\n      topic_alias: 0  # max_topic_alias, line 5");
  EXPECT(OPEN "message_size_limit 1000\nmax_packet_size 5000\n", "packet_size: 2024");
  EXPECT(OPEN, "queue_age: unlimited", "keep_alive_max: unlimited", "session_expiry_max: never");
  EXPECT(OPEN "max_connections 20000\nsys_interval 20\n", "connections: 20000", "interval: 20s");
}

static void persistence_is_carried_over(void **state)
{
  (void)state;
  EXPECT(OPEN "persistence true\npersistence_location /var/lib/mosquitto/\n", "data: \"/var/lib/mosquitto/skerry\"");
  EXPECT(OPEN "persistence true\n", "data: \"/base/skerry\"");
  EXPECT(OPEN "persistence true\nmax_packet_size 100000000\n", "segment: 256MiB", "reserve: 512MiB");
}

static void users_and_copies_come_from_the_place(void **state)
{
  (void)state;
  struct imported imported;
  import_at(&imported, &root_place, "listener 1\npassword_file etc/a \"b\"\nacl_file /acl\n");
  expect_part(&imported, "user: \"nobody\"");
  expect_part(&imported, "passwords: \"passwd.txt\"");
  expect_part(&imported, "acl: \"acl.txt\"");
  assert_int_equal(imported.plan->file_count, 2);
  assert_string_equal(imported.plan->files[0].path, "/etc/a \"b\"");
  let_go(&imported);
  import_at(&imported, &root_place, OPEN "user root\n");
  assert_null(strstr((const char *)buffer_peek(&imported.text).at, "user:"));
  let_go(&imported);
}

static void nothing_in_a_path_escapes_its_quotes(void **state)
{
  (void)state;
  EXPECT("listener 1\npassword_file /a\"b\\c\td\n", "passwords: \"/a\\\"b\\\\c\\x09d\"");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_are_read_as_mosquitto_does),
      cmocka_unit_test(reading_stops_at_includes_of_the_first_file_only),
      cmocka_unit_test(bytes_that_are_no_text_are_refused),
      cmocka_unit_test(included_files_have_mosquittos_order),
      cmocka_unit_test(included_files_begin_at_the_default_listener),
      cmocka_unit_test(every_directive_says_what_becomes_of_it),
      cmocka_unit_test(what_guards_is_an_error),
      cmocka_unit_test(what_is_lost_is_named),
      cmocka_unit_test(mistakes_are_named),
      cmocka_unit_test(listeners_become_urls),
      cmocka_unit_test(who_comes_in_is_the_same),
      cmocka_unit_test(tls_is_carried_over),
      cmocka_unit_test(ciphers_that_are_stricter_than_ours_are_refused),
      cmocka_unit_test(shared_keys_alone_do_not_replace_a_password),
      cmocka_unit_test(one_list_is_for_all_listeners),
      cmocka_unit_test(limits_are_carried_over),
      cmocka_unit_test(persistence_is_carried_over),
      cmocka_unit_test(users_and_copies_come_from_the_place),
      cmocka_unit_test(nothing_in_a_path_escapes_its_quotes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
