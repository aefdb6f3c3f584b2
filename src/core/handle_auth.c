// AUTH (5.0 sections 3.15, 4.12): exchanges before CONNACK, and of clients that are in and show again who they are.

#include "core/admission.h"
#include "core/shard_internal.h"

static bool fail(struct connection *connection, const char *statement, const char *text)
{
  connection_fail(connection, &(struct mqtt_fault){MQTT_PROTOCOL_ERROR, statement, text});
  return false;
}

bool handle_auth(struct connection *connection, const struct mqtt_disconnect *auth)
{
  const struct admission *admission = admission_of(connection);
  bool again = connection->state == CONNECTED;
  if (!admission || admission->method_size == 0)
    return fail(connection, "MQTT-4.12.0-7", "AUTH without an authentication method in CONNECT");
  if (!span_equal(auth->properties.authentication_method, admission_method(admission)))
    return fail(connection, again ? "MQTT-4.12.1-1" : "MQTT-4.12.0-5", "AUTH with another method than CONNECT");
  if (admission->ticket) return fail(connection, NULL, "AUTH before the one before it is answered");
  if (auth->reason == MQTT_RE_AUTHENTICATE) {
    if (!again) return fail(connection, "MQTT-4.12.0-3", "re-authentication before the first one has ended");
    if (admission->exchanging) return fail(connection, "MQTT-4.12.0-3", "re-authentication begins while one goes on");
  } else if (!admission->exchanging) {
    return fail(connection, NULL, "AUTH goes on with an exchange that has not begun");
  }
  return admission_ask_again(connection, auth);
}

bool handle_in_exchange(struct connection *connection, uint8_t first, struct span body)
{
  struct mqtt_packet packet;
  struct mqtt_fault fault;
  unsigned type = first >> 4;
  connection->shard->counters.packets_received[type]++;
  if (type != MQTT_AUTH && type != MQTT_DISCONNECT)
    return fail(connection, "MQTT-3.1.2-30", "neither AUTH nor DISCONNECT before CONNACK");
  if (!mqtt_decode(MQTT_5_0, MQTT_FROM_CLIENT, first, body, &packet, &fault)) {
    connection_fail(connection, &fault);
    return false;
  }
  if (type == MQTT_AUTH) return handle_auth(connection, &packet.disconnect);
  connection_abandon(connection, "the client has given up its authentication");
  return false;
}
