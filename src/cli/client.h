// An MQTT client, versions 3.1, 3.1.1 and 5.0, for the commands that talk to a broker. One connection at a time, made again
// when it breaks; publishes that were not acknowledged are sent again. Its owner polls with client_wait. One thread.
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "cli/transport.h"
#include "mqtt/packet.h"

enum {
  CLIENT_CONNECT_TIMEOUT_MS = 10000,  // for all of: connecting, the WebSocket handshake, CONNACK
  CLIENT_BACKOFF_FIRST_MS = 500,
  CLIENT_BACKOFF_MAX_MS = 30000,
  // QoS 1 and 2 messages sent before the first is acknowledged, unless a 5.0 broker wants fewer. Before 5.0 it cannot say
  // so, and some break off when there are more than 20.
  CLIENT_IN_FLIGHT = 100,
  CLIENT_IN_FLIGHT_OLD = 20,
  CLIENT_TOPIC_ALIASES = 32,  // that the broker may assign
};

// Everything behind a pointer or in a span is the caller's and outlives the client.
struct client_settings {
  struct transport_address address;
  bool tls;  // address.tls is to be filled
  enum mqtt_version version;
  struct span client_id;
  bool has_user_name;
  bool has_password;
  struct span user_name;
  struct span password;
  uint16_t keep_alive_s;
  bool clean_start;
  bool discard_session;       // 5.0: ends the session when the client ends, however long its expiry is
  bool reconnect;             // when an established connection breaks; otherwise that is a failure
  bool retry_first;           // also when the first connection cannot be made
  uint16_t in_flight;         // 0: the defaults above
  uint64_t backoff_first_ms;  // 0: CLIENT_BACKOFF_FIRST_MS
  struct mqtt_will will;
  struct mqtt_properties connect_properties;     // 5.0
  struct mqtt_properties disconnect_properties;  // 5.0
  FILE *trace;                                   // one line for each packet; NULL: none
};

// What the owner hears. Every member may be NULL. None may destroy the client; calling its other functions is allowed.
struct client_handler {
  void *context;
  // The broker has accepted; also after each reconnection. Subscriptions are made from here.
  void (*connected)(void *context, const struct mqtt_connack *connack);
  // The connection is gone or could not be made; the next attempt comes in retry_ms.
  void (*lost)(void *context, const char *text, uint64_t retry_ms);
  // QoS 2 messages are given once, when they come first. Acknowledgements leave with the next client_wait.
  void (*message)(void *context, const struct mqtt_publish *publish);
  // Done with what client_publish took: the reason is the broker's, or MQTT_SUCCESS at QoS 0 when the kernel has it all.
  void (*published)(void *context, uint64_t tag, enum mqtt_reason reason);
  // One code for each filter (enum mqtt_reason).
  void (*subscribed)(void *context, uint16_t packet_id, struct span codes);
  // No codes before 5.0.
  void (*unsubscribed)(void *context, uint16_t packet_id, struct span codes);
};

// IDLE → CONNECTING → ONLINE → WAITING (back-off) → CONNECTING ...
// From each but IDLE to ENDING (client_end: DISCONNECT is on its way) → ENDED, and to FAILED, which is final like ENDED.
enum client_state {
  CLIENT_IDLE,
  CLIENT_CONNECTING,
  CLIENT_ONLINE,
  CLIENT_WAITING,
  CLIENT_ENDING,
  CLIENT_ENDED,
  CLIENT_FAILED
};

struct client;

CHECK_RESULT enum status client_create(const struct client_settings *settings, const struct client_handler *handler,
                                       struct client **out_client);
void client_destroy(struct client *client);

enum client_state client_state(const struct client *client);

// CLIENT_FAILED: what has happened, and the exit code for it (enum command_exit, or the broker's reason code).
const char *client_failure(const struct client *client);
int client_exit_code(const struct client *client);

// What the broker allows, from its last CONNACK; zeros before the first.
const struct mqtt_connack *client_connack(const struct client *client);

// Publishes; in any state but the last three: messages wait until they can be sent. Topic and payload are copied, the spans
// in the properties are the caller's until the client is destroyed; packet_id and dup are ignored. ERR_NO_MEMORY; ERR_CLOSED
// in a final state.
CHECK_RESULT enum status client_publish(struct client *client, const struct mqtt_publish *publish, uint64_t tag);

// Messages given to client_publish that are not done with.
size_t client_unfinished(const struct client *client);
// The bytes of topics and payloads that wait in memory.
size_t client_queued_bytes(const struct client *client);

// ONLINE only. At least one filter. ERR_INVALID when the packet cannot be encoded.
CHECK_RESULT enum status client_subscribe(struct client *client, const struct mqtt_subscription *subscriptions, size_t count,
                                          const struct mqtt_properties *properties, uint16_t *out_packet_id);
CHECK_RESULT enum status client_unsubscribe(struct client *client, const struct span *filters, size_t count,
                                            const struct mqtt_properties *properties, uint16_t *out_packet_id);

// Starts to connect.
void client_start(struct client *client);

// Ends cleanly: DISCONNECT, then the broker closes. What is not done with by then never will be. With `with_will` a 5.0
// broker is asked to publish the will. Go on calling client_wait until the state is ENDED.
void client_end(struct client *client, bool with_will);

// Sends what is there to send, polls, and handles what comes. fds[0] is filled by the client; the others are the owner's and
// have their events set. Returns at the latest after `timeout_ms` (negative: as late as the client's own timers allow).
void client_wait(struct client *client, struct pollfd *fds, size_t count, int64_t timeout_ms);

// The monotonic clock, in milliseconds, that goes with it.
uint64_t client_now_ms(void);
