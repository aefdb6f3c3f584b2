// A scripted MQTT client: the protocol as a client has to keep it, and whims from the seed. It is the other side of the
// oracles, so it checks what only a client can see: receive maximum, packet size, aliases, packet identifiers, the QoS 2
// handshake.
#pragma once

#include "acks.h"
#include "world.h"

struct flight {
  uint16_t packet_id;
  struct message *message;
  bool released;  // PUBREC came: PUBREL is next
};

struct client {
  struct broker *broker;
  struct world *world;
  unsigned index;
  char id[24];
  enum mqtt_version version;
  bool shares_only;  // 3.x without subscription identifiers: one shared subscription and nothing else, so that copies
                     // can be told apart
  uint32_t maximum_packet_size;  // asked for by 5.0, 0: none
  uint16_t receive_maximum;
  uint16_t alias_maximum;
  bool careless;    // refuses some messages with reason codes from 0x80
  bool is_witness;  // came last, to look at the retained messages

  struct session *session;   // what the broker has for this client, by the model
  struct session *believed;  // whose state the client has

  struct link *link;  // NULL: not connected
  bool connected;     // CONNACK was read
  bool stalled;       // does not read
  struct splitter in;
  uint16_t next_packet_id;
  uint16_t server_receive_maximum, server_alias_maximum;
  uint8_t server_aliases[64];     // topic + 1, by alias: what we have told the broker
  uint8_t aliases[256];           // topic + 1: what the broker has told us
  VECTOR(struct flight) flights;  // ours, unacknowledged, in order
  struct acks acks;
  VECTOR(struct flight) received;  // QoS 2 that the application has, waiting for PUBREL
  VECTOR(uint16_t) requests;       // SUBSCRIBE and UNSUBSCRIBE without answer
};

struct client *client_create(struct broker *broker, unsigned index);
void client_destroy(struct client *client);

// One whim. While the world heals: only what convergence needs. Returns whether anything was done.
bool client_act(struct client *client);

// Single acts, for the end of a run.
void client_connect(struct client *client, bool clean_start);
bool client_may_publish(const struct client *client);  // the window towards the broker has room
void client_publish(struct client *client, struct message *message);
void client_subscribe(struct client *client, const uint8_t *filters, const uint8_t *groups, unsigned count);
void client_disconnect(struct client *client, bool with_will, bool end_session);

// client_receive.c: reads what has arrived, at most `size` bytes. Returns whether anything was read.
bool client_read(struct client *client, size_t size);
void client_send(struct client *client, const struct mqtt_packet *packet);
void client_send_again(struct client *client);
void client_lose_link(struct client *client);
void client_forget_session(struct client *client);
