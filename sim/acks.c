#include "acks.h"

void acks_clear(struct acks *acks)
{
  acks->due.count = acks->window.count = 0;
}

void acks_deinit(struct acks *acks)
{
  free(acks->due.items);
  free(acks->window.items);
}

void acks_push(struct acks *acks, enum mqtt_packet_type type, uint16_t packet_id, enum mqtt_reason reason)
{
  struct ack ack = {.type = type, .packet_id = packet_id, .reason = reason};
  VECTOR_PUSH(&acks->due, ack);
}

// Where it is in the window, or the end.
static size_t find(const struct acks *acks, uint16_t packet_id)
{
  size_t at = 0;
  while (at < acks->window.count && acks->window.items[at] != packet_id) at++;
  return at;
}

struct mqtt_packet acks_take(struct acks *acks, size_t at)
{
  struct ack ack = acks->due.items[at];
  VECTOR_REMOVE(&acks->due, at);
  bool ends = ack.type == MQTT_PUBACK || ack.type == MQTT_PUBCOMP || (ack.type == MQTT_PUBREC && ack.reason >= 0x80);
  size_t place = find(acks, ack.packet_id);
  if (ends && place < acks->window.count) VECTOR_REMOVE(&acks->window, place);
  return (struct mqtt_packet){.type = ack.type, .ack = {.packet_id = ack.packet_id, .reason = ack.reason}};
}

void acks_receive(struct acks *acks, struct world *world, const char *client_id, uint16_t packet_id,
                  uint16_t receive_maximum)
{
  if (find(acks, packet_id) < acks->window.count)
    world_fail(world, "packet %u was sent to client %s again before it was acknowledged", packet_id, client_id);
  VECTOR_PUSH(&acks->window, packet_id);
  if (acks->window.count > receive_maximum)
    world_fail(world, "client %s has %zu messages in flight, its receive maximum is %u", client_id, acks->window.count,
               receive_maximum);
}
