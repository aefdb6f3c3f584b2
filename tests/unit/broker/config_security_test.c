// The keys that decide who comes in: their values, their places in messages, and which of them need which others.
#include "broker/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "broker/config_schema.h"

static struct config load_from(const char *file, const char *text)
{
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = file};
  if (config_load_text(span_text(text), &source, &config, &diagnostics))
    fail_msg("%s", diagnostics.count ? diagnostics.texts[0] : "no message");
  return config;
}

static struct config load_good(const char *text)
{
  return load_from("broker.yaml", text);
}

// The text must give exactly these messages, one a line.
static void assert_messages(const char *text, const char *expected)
{
  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "b"};
  char all[8192] = "";
  size_t n = 0;
  if (config_load_text(span_text(text), &source, &config, &diagnostics) != ERR_INVALID) fail_msg("accepted: %s", text);
  for (size_t i = 0; i < diagnostics.count; i++)
    n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? "\n" : "", diagnostics.texts[i]);
  assert_string_equal(all, expected);
  diagnostics_deinit(&diagnostics);
}

// The text must be accepted with exactly these warnings, one a line.
static void assert_warnings(const char *text, const char *expected)
{
  struct config config = load_from("b", text);
  struct diagnostics diagnostics = {0};
  char all[2048] = "";
  size_t n = 0;
  config_warn(&config, "b", &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++)
    n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? "\n" : "", diagnostics.texts[i]);
  assert_string_equal(all, expected);
  diagnostics_deinit(&diagnostics);
  config_deinit(&config);
}

static void credentials_in_clear(void **state)
{
  (void)state;
  static const char files[] = "auth: {passwords: p, psk: k, jwt: {jwks: j}}\n";
  static const char quiet[] = "listeners:\n"
                              "  - {url: \"mqtt://127.0.0.1:1\", auth: [password]}\n"
                              "  - {url: \"mqtt://[::1]:1\", auth: [jwt]}\n"
                              "  - {url: \"unix:///run/x.sock\", auth: [password]}\n"
                              "  - {url: \"mqtts://*:2\", auth: [password], tls: {cert: c, key: k}}\n"
                              "  - {url: \"systemd://a\", auth: [password], tls: {cert: c, key: k}}\n"
                              "  - {url: \"mqtt://*:3\", auth: [scram]}\n"
                              "  - {url: \"mqtt://*:4\", anonymous: true}\n";
  static const char loud[] = "listeners:\n"
                             "  - url: \"mqtt://*:1\"\n"
                             "    auth: [scram, password]\n"
                             "  - {url: \"ws://192.0.2.1:2/mqtt\", auth: [jwt]}\n"
                             "  - {url: \"systemd://a\", auth: [jwt, password]}\n";
  char text[2048];
  snprintf(text, sizeof text, "%s%s", files, quiet);
  assert_warnings(text, "");
  snprintf(text, sizeof text, "%s%s", files, loud);
  assert_warnings(
      text, "b:4:11: listeners[0].auth: warning: passwords travel in clear to mqtt://*:1, whoever sees the packets can use "
            "them; write mqtts:// in its url, and tls\n"
            "b:5:42: listeners[1].auth: warning: tokens travel in clear to ws://192.0.2.1:2/mqtt, whoever sees the packets "
            "can use them; write wss:// in its url, and tls\n"
            "b:6:32: listeners[2].auth: warning: passwords travel in clear to systemd://a, whoever sees the packets can use "
            "them; write tls: {cert: server.pem, key: server.key}");
}

static void the_example_of_the_documentation(void **state)
{
  (void)state;
  struct config config = load_good(
      "listeners:\n"
      "  - url: \"mqtts://0.0.0.0:8883\"\n"
      "    name: floor\n"
      "    tls: {cert: server.pem, key: server.key, client_ca: ca.pem, client_cert: optional, crl: crl.pem, min_version: "
      "\"1.2\"}\n"
      "    identity: cert.cn\n"
      "    auth: [cert, password, jwt]\n"
      "auth:\n"
      "  passwords: passwd.txt\n"
      "  jwt: {jwks: keys.json, issuer: me, audience: you, username: sub, leeway: 30s}\n"
      "  psk: psk.txt\n"
      "acl:\n"
      "  - {who: \"user:ann\", allow: [publish, subscribe, receive], topics: [\"line/7/#\"]}\n"
      "  - {who: \"*\", deny: [publish], topics: [\"alarm/#\"]}    # the last\n"
      "acl_shadow: next.yaml\n"
      "acl_denied: disconnect\n"
      "control: {socket: /run/skerry/control.sock}\n");
  const struct listener_config *listener = &config.listeners[0];
  assert_true(listener->has_tls);
  assert_string_equal(config_listener_name(listener), "floor");
  assert_string_equal(listener->tls.main.cert, "server.pem");
  assert_string_equal(listener->tls.main.key, "server.key");
  assert_string_equal(listener->tls.client_ca, "ca.pem");
  assert_string_equal(listener->tls.crl, "crl.pem");
  assert_int_equal(listener->tls.client_cert, TLS_CLIENT_CERT_OPTIONAL);
  assert_int_equal(listener->tls.min_version, TLS_MIN_1_2);
  assert_int_equal(listener->tls.profile, TLS_INTERMEDIATE);
  assert_string_equal(listener->identity, "cert.cn");
  assert_int_equal(listener->auth.count, 3);
  assert_int_equal(listener->auth.items[0], AUTH_CERT);
  assert_int_equal(listener->auth.items[1], AUTH_PASSWORD);
  assert_int_equal(listener->auth.items[2], AUTH_JWT);
  assert_true(config_has_method(listener, AUTH_JWT));
  assert_false(config_has_method(listener, AUTH_PSK));
  assert_false(listener->anonymous);
  assert_string_equal(config.auth.passwords, "passwd.txt");
  assert_string_equal(config.auth.jwt.jwks, "keys.json");
  assert_string_equal(config.auth.jwt.issuer, "me");
  assert_string_equal(config.auth.jwt.audience, "you");
  assert_string_equal(config.auth.jwt.groups, "groups");
  assert_int_equal(config.auth.jwt.leeway_s, 30);
  assert_string_equal(config.auth.psk, "psk.txt");
  assert_string_equal(config.acl_shadow, "next.yaml");
  assert_int_equal(config.acl_denied, ACL_DENIED_DISCONNECT);
  assert_string_equal(config.control.socket, "/run/skerry/control.sock");
  assert_int_equal(config.control.mode, 0600);
  config_deinit(&config);
}

// What is said about a rule has to name its line and column in the file, whatever stands around the list.
static void rules_keep_their_place(void **state)
{
  (void)state;
  struct config config = load_good("\xef\xbb\xbflog: {level: info} # h\xc3\xa4\n"
                                   "acl: [{who: \"\xe2\x82\xac\"}]\n"
                                   "sys: {interval: 1s}\n");
  assert_null(config.acl.path);
  assert_string_equal(config.acl.rules, "                       \n"
                                        "     [{who: \"\xe2\x82\xac\"}]\n"
                                        "                   \n");
  config_deinit(&config);
  config = load_good("acl:\n- a: 1\n- b: 2\nlog: {}\n");
  assert_int_equal(strncmp(config.acl.rules, "    \n- a: 1\n- b: 2\n", 19), 0);
  assert_int_equal(strspn(config.acl.rules + 19, " \n"), strlen(config.acl.rules + 19));
  config_deinit(&config);
  config = load_good("acl: acl.txt\n");
  assert_string_equal(config.acl.path, "acl.txt");
  assert_null(config.acl.rules);
  config_deinit(&config);
}

static void paths_belong_to_the_files_directory(void **state)
{
  (void)state;
  struct config config = load_from(
      "/etc/skerry/broker.yaml",
      "broker: {data: ./data}\n"
      "listeners: [{url: mqtts://127.0.0.1, tls: {cert: tls/a.pem, key: /k/a.key, certificates: [{cert: b.pem, key: "
      "b.key, ocsp: b.ocsp}]}}]\n"
      "auth: {passwords: p.txt, jwt: {issuer: x}}\nacl: acl.yaml\ncontrol: {socket: c.sock}\n");
  assert_string_equal(config.broker.data, "./data");
  assert_string_equal(config.listeners[0].tls.main.cert, "/etc/skerry/tls/a.pem");
  assert_string_equal(config.listeners[0].tls.main.key, "/k/a.key");
  assert_string_equal(config.listeners[0].tls.certificates.items[0].cert, "/etc/skerry/b.pem");
  assert_string_equal(config.listeners[0].tls.certificates.items[0].ocsp, "/etc/skerry/b.ocsp");
  assert_string_equal(config.auth.passwords, "/etc/skerry/p.txt");
  assert_string_equal(config.auth.jwt.issuer, "x");
  assert_string_equal(config.acl.path, "/etc/skerry/acl.yaml");
  assert_string_equal(config.control.socket, "/etc/skerry/c.sock");
  config_deinit(&config);
}

static void settings_reach_nested_keys(void **state)
{
  (void)state;
  struct config config;
  struct diagnostics diagnostics = {0};
  const char *const settings[] = {"listeners[0].url=mqtts://127.0.0.1:1",
                                  "listeners[0].tls.cert=c",
                                  "listeners[0].tls.key=k",
                                  "listeners[0].auth=password,scram",
                                  "auth.passwords=p",
                                  "acl=rules.yaml",
                                  "auth.jwt.leeway=1m"};
  const struct config_source source = {.settings = settings, .setting_count = sizeof settings / sizeof settings[0]};
  if (config_load(&source, &config, &diagnostics)) fail_msg("%s", diagnostics.texts[0]);
  assert_string_equal(config.listeners[0].tls.main.cert, "c");
  assert_int_equal(config.listeners[0].auth.count, 2);
  assert_string_equal(config.acl.path, "rules.yaml");
  assert_int_equal(config.auth.jwt.leeway_s, 60);
  config_deinit(&config);
}

static void who_may_come_in_without_credentials(void **state)
{
  (void)state;
  struct config config = load_good("listeners:\n"
                                   "  - mqtt://127.0.0.1:1\n"
                                   "  - unix:///x\n"
                                   "  - {url: mqtt://127.0.0.1:2, auth: [password]}\n"
                                   "  - {url: mqtt://127.0.0.1:3, auth: [password], anonymous: true}\n"
                                   "  - {url: mqtt://0.0.0.0:4, auth: [password]}\n"
                                   "  - {url: mqtt://0.0.0.0:5, anonymous: true}\n"
                                   "  - {url: mqtt://127.0.0.1:6, anonymous: false}\n"
                                   "auth: {passwords: p}\n");
  static const bool expected[] = {true, true, false, true, false, true, false};
  for (size_t i = 0; i < config.listener_count; i++) assert_int_equal(config.listeners[i].anonymous, expected[i]);
  config_deinit(&config);
  assert_messages(
      "listeners:\n  - mqtt://0.0.0.0:1883\n",
      "b:2:5: listeners[0].auth: nobody can come in at mqtt://0.0.0.0:1883; write how clients show who they are, "
      "such as auth: [password], or anonymous: true to let everybody in who reaches it");
  assert_messages("listeners:\n  - {url: mqtts://*, tls: {cert: c, key: k, client_ca: a}}\n",
                  "b:2:5: listeners[0].auth: nobody can come in at mqtts://*; write how clients show who they are, "
                  "such as auth: [cert], or anonymous: true to let everybody in who reaches it");
}

static void tls_is_checked(void **state)
{
  (void)state;
  assert_messages(
      "listeners:\n  - mqtts://127.0.0.1\n",
      "b:2:5: listeners[0].tls: is needed for mqtts://127.0.0.1; write tls: {cert: server.pem, key: server.key}, "
      "or auth: [psk] for pre-shared keys alone");
  assert_messages("listeners:\n  - {url: mqtts://127.0.0.1, tls: {cert: a}}\n",
                  "b:2:42: listeners[0].tls.cert: has no key; write tls: {cert: server.pem, key: server.key}");
  assert_messages("listeners:\n  - {url: mqtts://127.0.0.1, tls: {key: a}}\n",
                  "b:2:41: listeners[0].tls.key: has no cert; write tls: {cert: server.pem, key: server.key}");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1, tls: {cert: a, key: b}}\n",
                  "b:2:41: listeners[0].tls.cert: mqtt://127.0.0.1 has no TLS; write mqtts:// in its url");
  assert_messages("listeners:\n  - {url: ws://127.0.0.1, tls: {profile: modern}}\n",
                  "b:2:42: listeners[0].tls.profile: ws://127.0.0.1 has no TLS; write wss:// in its url");
  assert_messages("listeners:\n  - {url: unix:///x, tls: {cert: a, key: b}}\n",
                  "b:2:34: listeners[0].tls.cert: unix sockets have no TLS; remove it");
  assert_messages("listeners:\n  - {url: mqtts://127.0.0.1, tls: {cert: a, key: b, min_version: \"1.1\"}}\n",
                  "b:2:66: listeners[0].tls.min_version: \"1.1\" is not one of the choices; write 1.2 or 1.3");
  assert_messages(
      "listeners:\n  - {url: mqtts://127.0.0.1, tls: {crt: a}}\n",
      "b:2:36: listeners[0].tls.crt: unknown key; did you mean \"cert\"?\n"
      "b:2:5: listeners[0].tls: is needed for mqtts://127.0.0.1; write tls: {cert: server.pem, key: server.key}, "
      "or auth: [psk] for pre-shared keys alone");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1, tls: x}\n",
                  "b:2:34: listeners[0].tls: is a value; write its keys below it, indented");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1, tls.cert: x}\n",
                  "b:2:29: listeners[0].tls.cert: is not one word; write tls: {cert: ...}");
  struct config config =
      load_good("listeners: [{url: systemd://a, anonymous: true}, {url: systemd://b, anonymous: true, tls: {cert: "
                "a, key: b}}]\n");
  assert_false(config.listeners[0].has_tls);
  assert_true(config.listeners[1].has_tls);
  config_deinit(&config);
}

static void client_certificates_are_checked(void **state)
{
  (void)state;
  assert_messages("listeners:\n  - {url: mqtts://127.0.0.1, tls: {cert: a, key: b, client_cert: required}}\n",
                  "b:2:66: listeners[0].tls.client_cert: needs the authorities that issue such certificates; write "
                  "tls.client_ca: ca.pem");
  assert_messages("listeners:\n  - {url: mqtts://127.0.0.1, tls: {cert: a, key: b, crl: c}}\n",
                  "b:2:58: listeners[0].tls.crl: needs the authorities that it is of; write tls.client_ca: ca.pem");
  assert_messages("listeners:\n  - {url: mqtts://127.0.0.1, tls: {cert: a, key: b, client_ca: c, client_cert: none}}\n",
                  "b:2:64: listeners[0].tls.client_ca: has no effect with client_cert: none; write optional or required, or "
                  "remove it");
  struct config config = load_good("listeners: [{url: mqtts://127.0.0.1, tls: {cert: a, key: b, client_ca: c}}]\n");
  assert_int_equal(config.listeners[0].tls.client_cert, TLS_CLIENT_CERT_REQUIRED);
  config_deinit(&config);
  config = load_good("listeners: [{url: mqtts://127.0.0.1, tls: {cert: a, key: b, client_ca: c}, identity: cert.ou}]\n");
  assert_true(config_has_method(&config.listeners[0], AUTH_CERT));
  assert_false(config.listeners[0].anonymous);
  config_deinit(&config);
}

static void several_certificates(void **state)
{
  (void)state;
#define LISTENER "listeners:\n  - {url: mqtts://127.0.0.1, tls: {cert: a, key: b, certificates: "
  struct config config = load_good(LISTENER "[{cert: c, key: d}, {cert: e, key: f, ocsp: g}]}}\n");
  assert_int_equal(config.listeners[0].tls.certificates.count, 2);
  assert_null(config.listeners[0].tls.certificates.items[0].ocsp);
  assert_string_equal(config.listeners[0].tls.certificates.items[1].ocsp, "g");
  config_deinit(&config);
  assert_messages(LISTENER "[{cert: c}]}}\n",
                  "b:2:68: listeners[0].tls.certificates[0]: has no key; write {cert: FILE, key: FILE}");
  assert_messages(LISTENER "[{cert: c, cert: d, key: x}]}}\n",
                  "b:2:78: listeners[0].tls.certificates[0].cert: is there twice; keep one");
  assert_messages(LISTENER "[{cert: c, kye: d}]}}\n",
                  "b:2:78: listeners[0].tls.certificates[0].kye: unknown key; known here: cert, key, ocsp");
  assert_messages(LISTENER "[{cert: c, key: [d]}]}}\n",
                  "b:2:83: listeners[0].tls.certificates[0].key: write the path of a file");
  assert_messages(LISTENER "[c]}}\n", "b:2:68: listeners[0].tls.certificates[0]: is a value; write {cert: FILE, key: FILE}");
  char text[4096];
  size_t n = (size_t)snprintf(text, sizeof text, LISTENER "[");
  for (int i = 0; i <= CONFIG_MAX_CERTIFICATES; i++) n += (size_t)snprintf(text + n, sizeof text - n, "{cert: c, key: k},");
  snprintf(text + n, sizeof text - n, "]}}\n");
  assert_messages(text, "b:2:644: listeners[0].tls.certificates[32]: one too many; at most 32 are possible");
  assert_messages(
      "listeners:\n  - {url: mqtts://127.0.0.1, auth: [psk], tls: {certificates: [{cert: a, key: b}]}}\nauth: {psk: x}\n",
      "b:2:63: listeners[0].tls.certificates: needs tls.cert for clients that name no host; write that too");
#undef LISTENER
}

static void methods_are_checked(void **state)
{
  (void)state;
  assert_messages(
      "listeners:\n  - {url: mqtt://*, auth: [cert, password, scram, jwt, psk]}\n",
      "b:2:27: listeners[0].auth: cert needs certificates of clients; write tls.client_ca: ca.pem and "
      "tls.client_cert: required (or optional)\n"
      "b:2:27: listeners[0].auth: password needs the file with the passwords; write auth: {passwords: passwd.txt} "
      "at the top\n"
      "b:2:27: listeners[0].auth: scram needs the file with the passwords; write auth: {passwords: passwd.txt} at "
      "the top\n"
      "b:2:27: listeners[0].auth: jwt needs the keys that tokens are signed by; write auth: {jwt: {jwks: "
      "keys.json}} at the top\n"
      "b:2:27: listeners[0].auth: psk is a way of TLS; write mqtts:// or wss:// in its url");
  assert_messages("listeners:\n  - {url: mqtts://*, auth: [psk]}\n",
                  "b:2:28: listeners[0].auth: psk needs the file with the keys; write auth: {psk: psk.txt} at the top");
  assert_messages(
      "listeners:\n  - {url: mqtt://*, auth: [magic]}\n",
      "b:2:27: listeners[0].auth: \"magic\" holds an unknown word; write a list of cert, password, jwt, scram or "
      "psk, such as [cert, password]\n"
      "b:2:27: listeners[0].auth: nobody can come in at mqtt://*; write how clients show who they are, such as "
      "auth: [password], or anonymous: true to let everybody in who reaches it");
  assert_messages(
      "listeners:\n  - {url: mqtt://127.0.0.1, auth: [[x]]}\n",
      "b:2:35: listeners[0].auth: holds something that is no word; write a list of cert, password, jwt, scram or "
      "psk");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1, identity: cert.cn}\n",
                  "b:2:5: listeners[0].auth: cert needs certificates of clients; write tls.client_ca: ca.pem and "
                  "tls.client_cert: required (or optional)");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1, auth: [password], identity: cert.cn}\nauth: {passwords: x}\n",
                  "b:2:57: listeners[0].identity: says how certificates name users; write auth: [cert], or remove it");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1, passwords: x}\n",
                  "b:2:40: listeners[0].passwords: is not used; write auth: [password], or remove it");
  assert_messages("listeners:\n  - {url: mqtt://127.0.0.1:1, name: a}\n  - {url: mqtt://127.0.0.1:2, name: a}\n",
                  "b:3:37: listeners[1].name: is that of listeners[0] too; write another");
  assert_messages("auth: {passwrods: x}\n", "b:1:8: auth.passwrods: unknown key; did you mean \"passwords\"?");
  assert_messages("auth: {jwt: {jwsk: x}}\n", "b:1:14: auth.jwt.jwsk: unknown key; did you mean \"jwks\"?");
  assert_messages("auth: {jwks: x}\n", "b:1:8: auth.jwks: unknown key; did you mean \"auth.jwt.jwks\"?");
  assert_messages("jwks: x\n", "b:1:1: jwks: unknown key; did you mean \"auth.jwt.jwks\"?");
  assert_messages("acl: {who: x}\n", "b:1:6: acl: is a section; write a list of rules, or the path of a file");
  assert_messages("acl:\n#  - {who: \"*\"}\nlog: {}\n",
                  "b:1:5: acl: has no rules; write [] to deny everything, or remove the key to allow everything");
  assert_messages("auth: {jwt: {jwks: x, issuer: , audience: ~}}\n",
                  "b:1:31: auth.jwt.issuer: has no value; write a text of at most 1000 bytes, or remove the key\n"
                  "b:1:43: auth.jwt.audience: has no value; write a text of at most 1000 bytes, or remove the key");
  assert_messages("listeners:\n- url: mqtts://127.0.0.1\n  tls: {cert: c, key: k, crl: }\n",
                  "b:3:31: listeners[0].tls.crl: has no value; write the path of a file, or remove the key");
  assert_messages("acl: ~\n",
                  "b:1:6: acl: has no rules; write [] to deny everything, or remove the key to allow everything");
  assert_messages("acl: a\nacl: b\n", "b:2:1: acl: is there twice; keep one");
  assert_messages("\"\": a\n", "b:1:1: : unknown key; known here: broker, listeners, auth, limits, journal, "
                               "shared_subscriptions, metrics, control, sys, log, acl, acl_shadow, acl_denied");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_example_of_the_documentation),
      cmocka_unit_test(credentials_in_clear),
      cmocka_unit_test(rules_keep_their_place),
      cmocka_unit_test(paths_belong_to_the_files_directory),
      cmocka_unit_test(settings_reach_nested_keys),
      cmocka_unit_test(who_may_come_in_without_credentials),
      cmocka_unit_test(tls_is_checked),
      cmocka_unit_test(client_certificates_are_checked),
      cmocka_unit_test(several_certificates),
      cmocka_unit_test(methods_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
