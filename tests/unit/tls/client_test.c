// The client's side, against sessions of ours and against OpenSSL's servers.
#include "tls/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "tls/session_internal.h"
#include "world.h"

enum { STEPS_MAX = 100 };

static struct wall now(void)
{
  return (struct wall){.ms = (int64_t)time(NULL) * 1000};
}

static struct tls_client *load_client(const struct tls_client_settings *settings)
{
  struct tls_client *client = NULL;
  struct error error = {0};
  if (tls_client_load(settings, now(), &client, &error) != OK) fail_msg("%s", error.text);
  return client;
}

static void refuse_client(const struct tls_client_settings *settings, enum status status, const char *why)
{
  struct tls_client *client = NULL;
  struct error error = {0};
  assert_int_equal(tls_client_load(settings, now(), &client, &error), status);
  assert_null(client);
  if (!strstr(error.text, why)) fail_msg("%s", error.text);
}

// ---- Two sides of a socket pair: a session of ours, and an SSL of OpenSSL's or another session of ours

struct link_up {
  int fds[2];
  struct tls_session *session, *ours;  // the client; the server, when it is one of ours
  SSL *ssl;                            // the server, when it is OpenSSL's
  enum tls_result result, server_result;
  const char *why, *server_why;
};

static void open_link(struct link_up *link, struct tls_client *client, const char *host)
{
  *link = (struct link_up){.result = TLS_AGAIN, .server_result = TLS_AGAIN};
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, link->fds), 0);
  link->session = tls_client_session(client, host, link->fds[0]);
  assert_non_null(link->session);
}

static void serve_once(struct link_up *link)
{
  if (link->server_result != TLS_AGAIN) return;
  if (link->ours) {
    link->server_result = tls_session_handshake(link->ours, &link->server_why);
    return;
  }
  ERR_clear_error();
  int returned = SSL_do_handshake(link->ssl);
  if (returned == 1)
    link->server_result = TLS_DONE;
  else if (SSL_get_error(link->ssl, returned) != SSL_ERROR_WANT_READ)
    link->server_result = TLS_FAILED;
}

static void shake(struct link_up *link)
{
  for (int i = 0; i < STEPS_MAX; i++) {
    if (link->result == TLS_AGAIN) link->result = tls_session_handshake(link->session, &link->why);
    serve_once(link);
    if (link->result != TLS_AGAIN && link->server_result != TLS_AGAIN) return;
    if (link->result == TLS_FAILED) return;
  }
}

static void close_link(struct link_up *link)
{
  tls_session_free(link->session);
  tls_session_free(link->ours);
  SSL_free(link->ssl);
  close(link->fds[0]);
  close(link->fds[1]);
  ERR_clear_error();
}

static void expect_linked(const struct link_up *link)
{
  if (link->result == TLS_FAILED) fail_msg("%s", link->why);
  if (link->server_result == TLS_FAILED) fail_msg("server: %s", link->server_why ? link->server_why : "failed");
  assert_int_equal(link->result, TLS_DONE);
  assert_int_equal(link->server_result, TLS_DONE);
}

// To a server of OpenSSL's.
static void connect_foreign(struct link_up *link, struct tls_client *client, SSL_CTX *server, const char *host)
{
  open_link(link, client, host);
  link->ssl = SSL_new(server);
  SSL_set_fd(link->ssl, link->fds[1]);
  SSL_set_accept_state(link->ssl);
  shake(link);
}

// With a client of these settings, and a server that is the link's from now on.
static struct link_up reach_foreign(const struct tls_client_settings *settings, SSL_CTX *server, const char *host)
{
  struct tls_client *client = load_client(settings);
  struct link_up link;
  connect_foreign(&link, client, server, host);
  tls_client_unref(client);
  SSL_CTX_free(server);
  return link;
}

// To one of ours.
static struct link_up reach_own(const struct tls_client_settings *settings, struct tls_credentials *server)
{
  struct tls_client *client = load_client(settings);
  struct link_up link;
  open_link(&link, client, "broker.example");
  link.ours = tls_session_create(server, link.fds[1]);
  shake(&link);
  tls_client_unref(client);
  return link;
}

// ... and both are through.
static struct link_up meet_foreign(const struct tls_client_settings *settings, SSL_CTX *server)
{
  struct link_up link = reach_foreign(settings, server, "broker.example");
  expect_linked(&link);
  return link;
}

static struct link_up meet_own(const struct tls_client_settings *settings, struct tls_credentials *server)
{
  struct link_up link = reach_own(settings, server);
  expect_linked(&link);
  return link;
}

// With the intermediate certificate, whether it belongs there or not.
static SSL_CTX *foreign(const struct world *world, const struct identified *shown)
{
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_session_id_context(context, (const unsigned char *)"test", 4);
  if (!shown) return context;
  SSL_CTX_use_certificate(context, shown->certificate);
  SSL_CTX_use_PrivateKey(context, shown->key);
  SSL_CTX_add1_chain_cert(context, world->intermediate.certificate);
  return context;
}

static struct tls_client_settings with_device(const struct world *world)
{
  struct tls_client_settings settings = world->client;
  settings.cert = write_certificate("device.pem", world->device.certificate);
  settings.key = write_key("device.key", world->device.key);
  return settings;
}

static void echo_foreign(struct world *world, struct link_up *link)
{
  size_t size;
  const char *why;
  char back[64];
  const struct span parts[2] = {span_text("good"), span_text("bye")};
  assert_int_equal(tls_session_write(link->session, parts, &size), TLS_DONE);
  assert_int_equal(size, 7);
  int first = SSL_read(link->ssl, back, sizeof back);
  assert_in_range(first, 1, 7);
  if (first < 7) assert_int_equal(SSL_read(link->ssl, back + first, (int)sizeof back - first), 7 - first);
  assert_memory_equal(back, "goodbye", 7);
  assert_int_equal(SSL_write(link->ssl, "hello", 5), 5);
  // Tickets may come before.
  enum tls_result result = tls_session_read(link->session, world->buffer, BUFFER_SIZE, &size, &why);
  if (result == TLS_AGAIN) result = tls_session_read(link->session, world->buffer, BUFFER_SIZE, &size, &why);
  if (result == TLS_FAILED) fail_msg("%s", why);
  assert_int_equal(result, TLS_DONE);
  assert_int_equal(size, 5);
  assert_memory_equal(world->buffer, "hello", 5);
}

static void echo_own(struct world *world, struct link_up *link)
{
  size_t size, got;
  const char *why;
  struct tls_session *from = link->session, *to = link->ours;
  for (int i = 0; i < 2; i++, from = link->ours, to = link->session) {
    const struct span parts[2] = {span_text("over"), span_text(" there")};
    assert_int_equal(tls_session_write(from, parts, &size), TLS_DONE);
    enum tls_result result = tls_session_read(to, world->buffer, BUFFER_SIZE, &got, &why);
    if (result == TLS_FAILED) fail_msg("%s", why);
    assert_int_equal(result, TLS_DONE);
    assert_int_equal(got, 10);
    assert_memory_equal(world->buffer, "over there", 10);
  }
}

// ---- Handshakes

static void both_versions_and_all_suites_carry_data(void **state)
{
  struct world *world = *state;
  static const struct {
    int version;
    const char *cipher;
  } cases[] = {{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},        {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
               {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},  {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
               {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"}, {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"}};
  struct tls_client *client = load_client(&world->client);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    SSL_CTX *server = foreign(world, &world->leaf);
    SSL_CTX_set_max_proto_version(server, cases[i].version);
    if (cases[i].version == TLS1_3_VERSION)
      SSL_CTX_set_ciphersuites(server, cases[i].cipher);
    else
      SSL_CTX_set_cipher_list(server, cases[i].cipher);
    struct link_up link;
    connect_foreign(&link, client, server, "broker.example");
    expect_linked(&link);
    struct tls_facts facts;
    tls_session_facts(link.session, &facts);
    assert_string_equal(facts.version, cases[i].version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    assert_string_equal(facts.cipher, cases[i].cipher);
    assert_string_equal(SSL_get_servername(link.ssl, TLSEXT_NAMETYPE_host_name), "broker.example");
    // OpenSSL's part, 14 KB of it, is gone.
    assert_null(link.session->ssl);
    echo_foreign(world, &link);
    echo_foreign(world, &link);
    tls_session_goodbye(link.session);
    char byte;
    assert_int_equal(SSL_get_error(link.ssl, SSL_read(link.ssl, &byte, 1)), SSL_ERROR_ZERO_RETURN);
    close_link(&link);
    SSL_CTX_free(server);
  }
  tls_client_unref(client);
}

static void our_own_broker_is_met_in_either_version(void **state)
{
  struct world *world = *state;
  struct tls_credentials *server = load(&world->settings);
  for (enum tls_versions versions = TLS_1_2_OR_1_3; versions <= TLS_1_3_ONLY; versions++) {
    struct tls_client_settings settings = world->client;
    settings.versions = versions;
    struct link_up link = meet_own(&settings, server);
    struct tls_facts facts;
    tls_session_facts(link.session, &facts);
    assert_string_equal(facts.version, versions == TLS_1_2_ONLY ? "TLSv1.2" : "TLSv1.3");
    echo_own(world, &link);
    close_link(&link);
  }
  tls_credentials_unref(server);
}

// The broker's certificate when it has addresses, too.
static struct identified with_addresses(const struct world *world)
{
  return certify(&(struct wanted){
      .name = "broker", .alternative = "DNS:broker.example,IP:192.0.2.7,IP:2001:db8::7", .issuer = &world->root});
}

static void hosts_are_names_or_addresses(void **state)
{
  struct world *world = *state;
  static const struct {
    const char *host, *named;
  } cases[] = {{"broker.example", "broker.example"},
               {"BROKER.example.", "BROKER.example"},
               {"192.0.2.7", NULL},
               {"2001:db8::7", NULL}};
  struct identified leaf = with_addresses(world);
  SSL_CTX *server = foreign(world, &leaf);
  struct tls_client *client = load_client(&world->client);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct link_up link;
    connect_foreign(&link, client, server, cases[i].host);
    expect_linked(&link);
    const char *named = SSL_get_servername(link.ssl, TLSEXT_NAMETYPE_host_name);
    if (cases[i].named)
      assert_string_equal(named, cases[i].named);
    else
      assert_null(named);
    close_link(&link);
  }
  tls_client_unref(client);
  SSL_CTX_free(server);
  identified_free(&leaf);
}

// ---- Certificates of servers

// Takes the server.
static void expect_reason(const struct tls_client_settings *settings, SSL_CTX *server, const char *host, const char *why)
{
  struct link_up link = reach_foreign(settings, server, host);
  assert_int_equal(link.result, TLS_FAILED);
  if (!strstr(link.why, why)) fail_msg("%s", link.why);
  // It stays said.
  const char *again;
  assert_int_equal(tls_session_handshake(link.session, &again), TLS_FAILED);
  assert_string_equal(again, link.why);
  close_link(&link);
}

// By the world's client, of a server that shows this.
static void expect_refused(const struct world *world, const struct identified *shown, const char *host, const char *why)
{
  expect_reason(&world->client, foreign(world, shown), host, why);
}

static void an_unknown_authority_is_named(void **state)
{
  struct world *world = *state;
  struct identified stranger = certify(&(struct wanted){.name = "Stranger", .authority = true});
  struct identified leaf = certify(&(struct wanted){.name = "b", .alternative = "DNS:b.example", .issuer = &stranger});
  expect_refused(world, &leaf, "b.example", "(CN=b, OU=Line 7) is issued by CN=Stranger, OU=Line 7, which");
  expect_refused(world, &leaf, "b.example", "CN=Stranger");
  expect_refused(world, &leaf, "b.example", "which is not in /tmp/skerry-tls-");
  struct tls_client_settings settings = {.protocol = "mqtt"};
  expect_reason(&settings, foreign(world, &leaf), "b.example",
                "which is not in what this system trusts: expected a CA file");
  // One that has signed itself.
  expect_refused(world, &stranger, "b.example", "CN=Stranger");
  // Unchecked it is taken.
  settings.unchecked = true;
  struct link_up link = reach_foreign(&settings, foreign(world, &stranger), "other.example");
  expect_linked(&link);
  echo_foreign(world, &link);
  close_link(&link);
  identified_free(&leaf);
  identified_free(&stranger);
}

static void another_host_is_named(void **state)
{
  struct world *world = *state;
  struct identified leaf = with_addresses(world);
  expect_refused(world, &leaf, "other.example",
                 "the broker's certificate is not for other.example, but for broker.example, 192.0.2.7, 2001:db8::7: "
                 "connect to a name that it is for");
  expect_refused(world, &leaf, "192.0.2.8", "is not for 192.0.2.8, but for broker.example");
  struct identified nameless = certify(&(struct wanted){.name = "just.a.name", .issuer = &world->root});
  expect_refused(world, &nameless, "other.example", "but for just.a.name");
  identified_free(&nameless);
  identified_free(&leaf);
}

static void the_time_is_compared(void **state)
{
  struct world *world = *state;
  struct identified old = certify(&(struct wanted){
      .name = "old", .alternative = "DNS:b.example", .issuer = &world->root, .from_s = -7200, .until_s = -3600});
  struct identified early = certify(&(struct wanted){
      .name = "early", .alternative = "DNS:b.example", .issuer = &world->root, .from_s = 3600, .until_s = 7200});
  expect_refused(world, &old, "b.example", "(CN=old, OU=Line 7) has ended on 2");
  expect_refused(world, &early, "b.example", "(CN=early, OU=Line 7) is valid from 2");
  identified_free(&old);
  identified_free(&early);
}

static void a_server_is_no_client(void **state)
{
  struct world *world = *state;
  struct identified device =
      certify(&(struct wanted){.name = "d", .alternative = "DNS:b.example", .usage = "clientAuth", .issuer = &world->root});
  expect_refused(world, &device, "b.example", "is refused: unsuitable certificate purpose");
  identified_free(&device);
}

// ---- What servers refuse

static int select_other(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *offered,
                        unsigned offered_size, void *argument)
{
  (void)ssl, (void)out, (void)out_size, (void)argument;
  assert_int_equal(offered_size, 5);
  assert_memory_equal(offered, "\4mqtt", 5);
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void alerts_are_explained(void **state)
{
  struct world *world = *state;
  struct tls_client_settings settings = world->client;
  SSL_CTX *server = foreign(world, &world->leaf);
  SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
  settings.versions = TLS_1_3_ONLY;
  SSL_CTX_up_ref(server);
  expect_reason(&settings, server, "broker.example", "the broker does not speak this version of TLS");
  settings.versions = TLS_1_2_OR_1_3;
  SSL_CTX_set_cipher_list(server, "ECDHE-RSA-AES128-GCM-SHA256");
  expect_reason(&settings, server, "broker.example", "the broker has no cipher, no kind of key");
  server = foreign(world, &world->leaf);
  SSL_CTX_set_alpn_select_cb(server, select_other, NULL);
  expect_reason(&settings, server, "broker.example", "does not take the protocol that we offer (ALPN)");
}

static void what_is_no_tls_is_named(void **state)
{
  struct world *world = *state;
  struct tls_client *client = load_client(&world->client);
  struct link_up link;
  open_link(&link, client, "broker.example");
  assert_int_equal(tls_session_handshake(link.session, &link.why), TLS_AGAIN);
  assert_int_equal(write(link.fds[1], "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 28);
  assert_int_equal(tls_session_handshake(link.session, &link.why), TLS_FAILED);
  assert_string_equal(link.why, "this is not TLS: is it a port without TLS?");
  close_link(&link);
  open_link(&link, client, "broker.example");
  assert_int_equal(tls_session_handshake(link.session, &link.why), TLS_AGAIN);
  shutdown(link.fds[1], SHUT_RDWR);
  assert_int_equal(tls_session_handshake(link.session, &link.why), TLS_CLOSED);
  close_link(&link);
  tls_client_unref(client);
}

// ---- Certificates of clients

static void a_certificate_is_shown(void **state)
{
  struct world *world = *state;
  struct tls_settings asks = world->settings;
  asks.client_ca = world->root_file;
  asks.client_cert = TLS_CLIENT_CERT_REQUIRED;
  struct tls_credentials *server = load(&asks);
  for (enum tls_versions versions = TLS_1_2_ONLY; versions <= TLS_1_3_ONLY; versions++) {
    struct tls_client_settings settings = with_device(world);
    settings.versions = versions;
    struct link_up link = meet_own(&settings, server);
    struct tls_facts facts;
    tls_session_facts(link.ours, &facts);
    bool found = false;
    for (size_t i = 0; i < facts.fact_count; i++)
      found = found || (span_equal(facts.facts[i].name, span_text("cert.cn")) &&
                        span_equal(facts.facts[i].value, span_text("device-1")));
    assert_true(found);
    echo_own(world, &link);
    close_link(&link);

    // Without: in 1.3 the broker says so when our part is over.
    settings.cert = settings.key = NULL;
    link = reach_own(&settings, server);
    size_t size;
    if (versions == TLS_1_3_ONLY) {
      assert_int_equal(link.result, TLS_DONE);
      assert_int_equal(tls_session_read(link.session, world->buffer, BUFFER_SIZE, &size, &link.why), TLS_FAILED);
      assert_string_equal(link.why, "the broker wants a certificate of ours: give one, with its key");
    } else {
      assert_int_equal(link.result, TLS_FAILED);
      assert_string_equal(link.why, "the broker has no cipher, no kind of key or no way to log in, in common with us");
    }
    close_link(&link);
  }
  tls_credentials_unref(server);
}

// ---- Pre-shared keys

static void keys_are_shared(void **state)
{
  struct world *world = *state;
  static const char lines[] = "one:" PSK_HEX "\ntwo:ff" PSK_HEX "\n";
  const char *both = scratch_file("both.txt", lines, sizeof lines - 1);
  const char *one = scratch_file("one.txt", lines, strlen("one:" PSK_HEX));
  static const char wrong_line[] = "one:ff" PSK_HEX;
  const char *wrong = scratch_file("wrong.txt", wrong_line, sizeof wrong_line - 1);
  struct tls_settings alone = {.psk = both};
  struct tls_credentials *server = load(&alone);
  for (enum tls_versions versions = TLS_1_2_ONLY; versions <= TLS_1_3_ONLY; versions++) {
    struct tls_client_settings settings = {.psk = one, .protocol = "mqtt", .versions = versions};
    struct link_up link = meet_own(&settings, server);
    struct tls_facts facts;
    tls_session_facts(link.ours, &facts);
    assert_string_equal(facts.psk_identity, "one");
    echo_own(world, &link);
    close_link(&link);
    settings.psk = both;
    settings.psk_identity = "two";
    link = meet_own(&settings, server);
    tls_session_facts(link.ours, &facts);
    assert_string_equal(facts.psk_identity, "two");
    close_link(&link);
    settings.psk = wrong;
    settings.psk_identity = NULL;
    link = reach_own(&settings, server);
    assert_int_equal(link.result, TLS_FAILED);
    assert_string_equal(link.why, "the broker cannot verify what we have sent: another pre-shared key?");
    close_link(&link);
  }
  tls_credentials_unref(server);
  // A server that does not know it cannot take its place with a certificate, however good that is.
  struct tls_client_settings settings = {.psk = one};
  expect_reason(&settings, foreign(world, &world->leaf), "broker.example",
                "does not know our pre-shared key, and shows a certificate instead");
}

static unsigned know_key(SSL *ssl, const char *identity, unsigned char *key, unsigned key_max)
{
  (void)ssl, (void)identity, (void)key_max;
  for (unsigned char i = 0; i < 16; i++) key[i] = i;
  return 16;
}

// Suites that are not AEAD stay with OpenSSL.
static void old_brokers_with_keys_are_met(void **state)
{
  struct world *world = *state;
  static const char line[] = "one:" PSK_HEX;
  SSL_CTX *server = foreign(world, NULL);
  SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(server, "PSK-AES128-CBC-SHA256");
  SSL_CTX_set_psk_server_callback(server, know_key);
  struct tls_client_settings settings = {.psk = scratch_file("old.txt", line, sizeof line - 1)};
  struct link_up link = meet_foreign(&settings, server);
  assert_non_null(link.session->ssl);
  echo_foreign(world, &link);
  close_link(&link);
}

// ---- What comes between

static void tickets_are_left_out_however_they_are_cut(void **state)
{
  struct world *world = *state;
  // The client's certificate goes into each ticket, which is then larger than a record may be.
  for (size_t fragment = 512; fragment <= 16384; fragment *= 32) {
    SSL_CTX *server = foreign(world, &world->leaf);
    SSL_CTX_load_verify_locations(server, world->root_file, NULL);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_num_tickets(server, 5);
    SSL_CTX_set_max_send_fragment(server, (long)fragment);
    struct tls_client_settings settings = with_device(world);
    struct link_up link = meet_foreign(&settings, server);
    echo_foreign(world, &link);
    for (int i = 0; i < 3; i++) {
      assert_int_equal(SSL_new_session_ticket(link.ssl), 1);
      assert_int_equal(SSL_do_handshake(link.ssl), 1);
      echo_foreign(world, &link);
    }
    assert_int_equal(SSL_key_update(link.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    echo_foreign(world, &link);
    echo_foreign(world, &link);
    close_link(&link);
  }
}

static void count_updates(int out, int version, int type, const void *bytes, size_t size, SSL *ssl, void *argument)
{
  (void)version, (void)ssl;
  int *count = argument;
  if (!out && type == SSL3_RT_HANDSHAKE && size > 0 && *(const uint8_t *)bytes == SSL3_MT_KEY_UPDATE) ++*count;
}

// OpenSSL reads what we write over many changes of our key, and we what it writes.
static void keys_wear_out(void **state)
{
  struct world *world = *state;
  SSL_CTX *server = foreign(world, &world->leaf);
  int updates = 0;
  struct link_up link = meet_foreign(&world->client, server);
  SSL_set_msg_callback(link.ssl, count_updates);
  SSL_set_msg_callback_arg(link.ssl, &updates);
  for (int i = 0; i < 5; i++) echo_foreign(world, &link);
  assert_int_equal(updates, 0);  // 2^23 records is some time
  records_wear(link.session->records, 3);
  for (int i = 0; i < 12; i++) echo_foreign(world, &link);
  // The key of five records is worn at once; then each of three.
  assert_int_equal(updates, 4);
  // What is longer than one send: the key changes between two.
  static uint8_t bytes[300000], back[sizeof bytes];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7 + i / 251);
  size_t sent = 0, got = 0, size;
  updates = 0;
  while (got < sizeof bytes) {
    const struct span parts[2] = {span_of(bytes + sent, sizeof bytes - sent), {0}};
    enum tls_result result = tls_session_write(link.session, parts, &size);
    assert_true(result == TLS_DONE || result == TLS_AGAIN);
    sent += size;
    int now_read;
    while ((now_read = SSL_read(link.ssl, back + got, (int)(sizeof back - got))) > 0) got += (size_t)now_read;
    assert_int_equal(SSL_get_error(link.ssl, now_read),
                     got < sizeof bytes || now_read < 0 ? SSL_ERROR_WANT_READ : SSL_ERROR_NONE);
  }
  assert_memory_equal(bytes, back, sizeof bytes);
  assert_in_range(updates, 4, 7);
  close_link(&link);
}

static void keys_of_the_broker_wear_out_too(void **state)
{
  struct world *world = *state;
  struct meeting meeting;
  struct peer *peer = meet(&meeting, world, 0);
  int updates = 0;
  SSL_set_msg_callback(peer->ssl, count_updates);
  SSL_set_msg_callback_arg(peer->ssl, &updates);
  records_wear(peer->session->records, 3);
  for (int i = 0; i < 12; i++) {
    size_t size;
    char back[16];
    const struct span parts[2] = {span_text("over"), span_text(" there")};
    assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_DONE);
    assert_int_equal(peer_client_reads(peer, back, sizeof back), 10);
    assert_memory_equal(back, "over there", 10);
  }
  assert_int_equal(updates, 4);  // the ticket was a record, too
  part(&meeting);
}

static void say(struct tls_session *server, enum record_type type, const void *bytes, size_t size)
{
  uint8_t record[256 + RECORD_OVERHEAD];
  const struct span parts[2] = {span_of(bytes, size), {0}};
  assert_in_range(size, 1, 256);
  size_t sealed = record_seal(server->records, type, parts, record);
  assert_true(session_put(server, record, sealed));
}

// What a broker may say after the handshake, and what not.
static void hostile_tidings_end_it(void **state)
{
  struct world *world = *state;
  static const struct {
    struct {
      enum record_type type;
      uint8_t size;
      uint8_t bytes[12];
    } records[4];
    enum tls_result result;
    const char *why;
  } cases[] = {
      // A ticket, whole; cut everywhere; two in a record; an empty one.
      {{{RECORD_HANDSHAKE, 6, {4, 0, 0, 2, 1, 2}}, {RECORD_DATA, 1, {'x'}}}, TLS_DONE, NULL},
      {{{RECORD_HANDSHAKE, 1, {4}},
        {RECORD_HANDSHAKE, 4, {0, 0, 2, 1}},
        {RECORD_HANDSHAKE, 1, {2}},
        {RECORD_DATA, 1, {'x'}}},
       TLS_DONE,
       NULL},
      {{{RECORD_HANDSHAKE, 10, {4, 0, 0, 1, 1, 4, 0, 0, 1, 1}}, {RECORD_DATA, 1, {'x'}}}, TLS_DONE, NULL},
      {{{RECORD_HANDSHAKE, 4, {4, 0, 0, 0}}, {RECORD_DATA, 1, {'x'}}}, TLS_DONE, NULL},
      // Too large to be one.
      {{{RECORD_HANDSHAKE, 4, {4, 0xff, 0xff, 0xff}}}, TLS_FAILED, "a message cannot be decoded"},
      // Data within a ticket, or within its header.
      {{{RECORD_HANDSHAKE, 5, {4, 0, 0, 2, 1}}, {RECORD_DATA, 1, {'x'}}},
       TLS_FAILED,
       "a message that does not belong there"},
      {{{RECORD_HANDSHAKE, 2, {4, 0}}, {RECORD_DATA, 1, {'x'}}}, TLS_FAILED, "a message that does not belong there"},
      // A request for a certificate, a Finished, another hello.
      {{{RECORD_HANDSHAKE, 4, {13, 0, 0, 0}}}, TLS_FAILED, "a message that does not belong there"},
      {{{RECORD_HANDSHAKE, 4, {20, 0, 0, 0}}}, TLS_FAILED, "a message that does not belong there"},
      {{{RECORD_HANDSHAKE, 5, {4, 0, 0, 0, 1}}}, TLS_FAILED, "a message that does not belong there"},
      {{{RECORD_HANDSHAKE, 5, {24, 0, 0, 1, 2}}}, TLS_FAILED, "a message cannot be decoded"},
      {{{RECORD_ALERT, 2, {2, 80}}}, TLS_FAILED, "the broker has an error of its own (TLS alert 80)"},
      {{{RECORD_ALERT, 2, {1, 0}}}, TLS_CLOSED, NULL},
  };
  struct tls_credentials *server = load(&world->settings);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct link_up link = meet_own(&world->client, server);
    size_t size;
    for (int j = 0; j < 4 && cases[i].records[j].size; j++)
      say(link.ours, cases[i].records[j].type, cases[i].records[j].bytes, cases[i].records[j].size);
    assert_int_equal(tls_session_read(link.session, world->buffer, BUFFER_SIZE, &size, &link.why), cases[i].result);
    if (cases[i].why) assert_string_equal(link.why, cases[i].why);
    assert_int_equal(size, cases[i].result == TLS_DONE ? 1 : 0);
    close_link(&link);
  }
  tls_credentials_unref(server);
}

// ---- Settings

static void bad_settings_are_refused_with_the_reason(void **state)
{
  struct world *world = *state;
  struct tls_client_settings settings = world->client;
  settings.ca = "/nowhere/ca.pem";
  refuse_client(&settings, ERR_NOT_FOUND, "/nowhere/ca.pem: No such file or directory");
  settings.ca = world->files.key;
  refuse_client(&settings, ERR_INVALID, "leaf.key: ");
  settings = (struct tls_client_settings){.ca_path = world->root_file};
  refuse_client(&settings, ERR_INVALID, "root.pem: is no directory");
  settings = world->client;
  settings.cert = with_device(world).cert;
  refuse_client(&settings, ERR_INVALID, "a certificate and its key belong together");
  settings.key = world->files.key;
  refuse_client(&settings, ERR_INVALID, "leaf.key: is not the key of ");
  struct identified old =
      certify(&(struct wanted){.name = "old", .issuer = &world->root, .from_s = -7200, .until_s = -3600});
  settings.cert = write_certificate("old.pem", old.certificate);
  settings.key = write_key("old.key", old.key);
  refuse_client(&settings, ERR_INVALID, "(CN=old, OU=Line 7) has ended on 2");
  identified_free(&old);
  static const char lines[] = "one:" PSK_HEX "\ntwo:" PSK_HEX "\n";
  settings = (struct tls_client_settings){.psk = scratch_file("two.txt", lines, sizeof lines - 1)};
  refuse_client(&settings, ERR_INVALID, "two.txt: holds several keys: say which by its identity");
  settings.psk_identity = "three";
  refuse_client(&settings, ERR_INVALID, "two.txt: has no line for \"three\": expected three:KEY");
}

static void a_directory_may_be_trusted(void **state)
{
  struct world *world = *state;
  char name[32];
  snprintf(name, sizeof name, "%08lx.0", X509_subject_name_hash(world->root.certificate));
  const char *path = write_certificate(name, world->root.certificate);
  char directory[128];
  snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
  struct tls_client_settings settings = {.ca_path = directory};
  struct link_up link = meet_foreign(&settings, foreign(world, &world->leaf));
  close_link(&link);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_versions_and_all_suites_carry_data),
      cmocka_unit_test(our_own_broker_is_met_in_either_version),
      cmocka_unit_test(hosts_are_names_or_addresses),
      cmocka_unit_test(an_unknown_authority_is_named),
      cmocka_unit_test(another_host_is_named),
      cmocka_unit_test(the_time_is_compared),
      cmocka_unit_test(a_server_is_no_client),
      cmocka_unit_test(alerts_are_explained),
      cmocka_unit_test(what_is_no_tls_is_named),
      cmocka_unit_test(a_certificate_is_shown),
      cmocka_unit_test(keys_are_shared),
      cmocka_unit_test(old_brokers_with_keys_are_met),
      cmocka_unit_test(tickets_are_left_out_however_they_are_cut),
      cmocka_unit_test(keys_wear_out),
      cmocka_unit_test(keys_of_the_broker_wear_out_too),
      cmocka_unit_test(hostile_tidings_end_it),
      cmocka_unit_test(bad_settings_are_refused_with_the_reason),
      cmocka_unit_test(a_directory_may_be_trusted),
  };
  return cmocka_run_group_tests(tests, make_world, free_world);
}
