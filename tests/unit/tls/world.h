// What tests of sessions begin with: authorities, a listener's certificate and a device's, and a client that has connected.
#pragma once

#include <stdint.h>

#include "certificates.h"
#include "peer.h"
#include "tls/client.h"

#define PSK_HEX "000102030405060708090a0b0c0d0e0f"

enum { BUFFER_SIZE = 128 * 1024 };

struct world {
  struct identified root, intermediate, leaf, device;
  struct tls_certificate files;
  struct tls_settings settings;       // of a listener with the leaf, and nothing else
  struct tls_client_settings client;  // of a client of ours that trusts the root
  const char *root_file;
  uint8_t *buffer;
};

// For groups of tests: *state becomes the world.
int make_world(void **state);
int free_world(void **state);

// The world's settings with a pre-shared key for "sensor-1": the bytes 0 to 15. With the certificate, or without.
struct tls_settings with_psk(const struct world *world, bool certificate);

struct tls_credentials *load(const struct tls_settings *settings);

// A listener, and a client that has come through the handshake.
struct meeting {
  struct tls_credentials *credentials;
  SSL_CTX *context;
  struct peer peer;
};

// With the world's settings, and the newest version that the client can. Returns &meeting->peer.
struct peer *meet(struct meeting *meeting, const struct world *world, int version);

// With other settings and a client of its own. Takes the context.
struct peer *meet_with(struct meeting *meeting, const struct tls_settings *settings, SSL_CTX *context);
void part(struct meeting *meeting);

void expect_done(struct peer *peer);
void expect_failed(struct peer *peer, const char *why);

// Connects, expects the failure, closes.
void refuse(const struct tls_settings *settings, SSL_CTX *context, const char *why);

// A few bytes there and back.
void echo(struct world *world, struct peer *peer);
