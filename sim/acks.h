// The acknowledgements that a client owes, and the packet identifiers of the broker that it has not acknowledged on its
// connection.
#pragma once

#include "mqtt/packet.h"
#include "trial.h"
#include "vector.h"

struct ack {
  enum mqtt_packet_type type;
  uint16_t packet_id;
  enum mqtt_reason reason;
};

struct acks {
  VECTOR(struct ack) due;
  VECTOR(uint16_t) window;
};

void acks_clear(struct acks *acks);  // for another connection
void acks_deinit(struct acks *acks);

void acks_push(struct acks *acks, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason);

// Takes one of those that are due, to be sent.
struct mqtt_packet acks_take(struct acks *acks, size_t at);

// The broker has sent a message with this identifier. Fails when it may not.
void acks_receive(struct acks *acks, struct world *world, const char *client_id, uint16_t packet_id,
                  uint16_t receive_maximum);
