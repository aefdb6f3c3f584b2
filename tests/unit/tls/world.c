#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

int make_world(void **state)
{
  struct world *world = calloc(1, sizeof *world);
  scratch_create(NULL);
  world->root = certify(&(struct wanted){.name = "Root", .authority = true});
  world->intermediate = certify(&(struct wanted){.name = "Intermediate", .authority = true, .issuer = &world->root});
  world->leaf =
      certify(&(struct wanted){.name = "broker", .alternative = "DNS:broker.example", .issuer = &world->intermediate});
  world->device = certify(&(struct wanted){.name = "device-1", .issuer = &world->root});
  X509 *chain[] = {world->leaf.certificate, world->intermediate.certificate};
  world->files = (struct tls_certificate){.cert = write_certificates("chain.pem", chain, 2),
                                          .key = write_key("leaf.key", world->leaf.key)};
  world->settings = (struct tls_settings){.certificates = &world->files, .certificate_count = 1};
  world->root_file = write_certificate("root.pem", world->root.certificate);
  world->client = (struct tls_client_settings){.ca = world->root_file, .protocol = "mqtt"};
  world->buffer = malloc(BUFFER_SIZE);
  *state = world;
  return 0;
}

int free_world(void **state)
{
  struct world *world = *state;
  identified_free(&world->root);
  identified_free(&world->intermediate);
  identified_free(&world->leaf);
  identified_free(&world->device);
  free(world->buffer);
  free(world);
  scratch_remove(NULL);
  return 0;
}

struct tls_settings with_psk(const struct world *world, bool certificate)
{
  struct tls_settings settings = world->settings;
  settings.psk = scratch_file("psk.txt", "sensor-1:" PSK_HEX "\n", strlen("sensor-1:" PSK_HEX "\n"));
  if (!certificate) settings.certificate_count = 0;
  return settings;
}

struct tls_credentials *load(const struct tls_settings *settings)
{
  struct tls_credentials *credentials = NULL;
  struct error error = {0};
  if (tls_credentials_load(settings, (struct wall){.ms = (int64_t)time(NULL) * 1000}, &credentials, &error) != OK)
    fail_msg("%s", error.text);
  return credentials;
}

struct peer *meet_with(struct meeting *meeting, const struct tls_settings *settings, SSL_CTX *context)
{
  meeting->credentials = load(settings);
  meeting->context = context;
  peer_connect(&meeting->peer, meeting->credentials, context, NULL, NULL);
  expect_done(&meeting->peer);
  return &meeting->peer;
}

struct peer *meet(struct meeting *meeting, const struct world *world, int version)
{
  SSL_CTX *context = client_context(world->root_file);
  SSL_CTX_set_max_proto_version(context, version);
  return meet_with(meeting, &world->settings, context);
}

void part(struct meeting *meeting)
{
  peer_close(&meeting->peer);
  SSL_CTX_free(meeting->context);
  tls_credentials_unref(meeting->credentials);
}

void expect_done(struct peer *peer)
{
  if (peer->result == TLS_FAILED) fail_msg("%s", peer->why);
  assert_int_equal(peer->result, TLS_DONE);
  assert_int_equal(peer->client_result, 1);
}

void expect_failed(struct peer *peer, const char *why)
{
  assert_int_equal(peer->result, TLS_FAILED);
  assert_string_equal(peer->why, why);
}

void refuse(const struct tls_settings *settings, SSL_CTX *context, const char *why)
{
  struct tls_credentials *credentials = load(settings);
  struct peer peer;
  peer_connect(&peer, credentials, context, NULL, NULL);
  expect_failed(&peer, why);
  assert_int_not_equal(peer.client_result, SSL_ERROR_WANT_READ);
  peer_close(&peer);
  tls_credentials_unref(credentials);
}

void echo(struct world *world, struct peer *peer)
{
  size_t size;
  const char *why;
  assert_int_equal(SSL_write(peer->ssl, "hello", 5), 5);
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_DONE);
  assert_int_equal(size, 5);
  assert_memory_equal(world->buffer, "hello", 5);
  assert_int_equal(tls_session_read(peer->session, world->buffer, BUFFER_SIZE, &size, &why), TLS_AGAIN);
  const struct span parts[2] = {span_text("good"), span_text("bye")};
  assert_int_equal(tls_session_write(peer->session, parts, &size), TLS_DONE);
  assert_int_equal(size, 7);
  char back[16];
  assert_int_equal(peer_client_reads(peer, back, sizeof back), 7);
  assert_memory_equal(back, "goodbye", 7);
}
