#include "cli/bench_packets.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static enum status append_packet(enum mqtt_version version, const struct mqtt_packet *packet, struct buffer *out)
{
  size_t size = mqtt_encoded_size(version, packet);
  if (size == 0) return ERR_INVALID;
  uint8_t *at = buffer_reserve(out, size);
  if (!at) return ERR_NO_MEMORY;
  size_t written = mqtt_encode(version, packet, at, size);
  assert(written == size);
  buffer_commit(out, size);
  return OK;
}

enum status packet_write_connect(const struct packet_login *login, struct buffer *out)
{
  struct mqtt_packet packet = {.type = MQTT_CONNECT};
  struct mqtt_connect *connect = &packet.connect;
  connect->version = login->version;
  connect->clean_start = login->clean_start;
  connect->client_id = span_text(login->client_id);
  if (login->user_name) {
    connect->has_user_name = true;
    connect->user_name = span_text(login->user_name);
  }
  if (login->password) {
    connect->has_password = true;
    connect->password = span_text(login->password);
  }
  if (login->session_expiry_s) {
    connect->properties.present |= UINT64_C(1) << MQTT_PROPERTY_SESSION_EXPIRY;
    connect->properties.session_expiry_s = login->session_expiry_s;
  }
  return append_packet(login->version, &packet, out);
}

static enum status append_filter(struct buffer *payload, const char *filter, uint8_t qos)
{
  size_t size = strlen(filter);
  if (size > MQTT_MAX_STRING) return ERR_INVALID;
  uint8_t *at = buffer_reserve(payload, size + 3);
  if (!at) return ERR_NO_MEMORY;
  at[0] = (uint8_t)(size >> 8);
  at[1] = (uint8_t)size;
  memcpy(at + 2, filter, size);
  at[size + 2] = qos;
  buffer_commit(payload, size + 3);
  return OK;
}

enum status packet_write_subscribe(enum mqtt_version version, const struct shape *shape, uint32_t subscriber,
                                   const char *filter, uint8_t qos, struct buffer *out)
{
  struct buffer payload = {0};
  uint32_t count = filter ? 1 : shape_filter_count(shape);
  enum status status = OK;
  for (uint32_t i = 0; i < count && !status; i++) {
    char text[SHAPE_TEXT_SIZE];
    if (!filter) (void)shape_filter(shape, subscriber, i, text);
    status = append_filter(&payload, filter ? filter : text, qos);
  }
  struct mqtt_packet packet = {.type = MQTT_SUBSCRIBE};
  packet.subscribe = (struct mqtt_subscribe){.packet_id = 1, .count = count, .payload = buffer_peek(&payload)};
  if (!status) status = append_packet(version, &packet, out);
  buffer_deinit(&payload);
  return status;
}

enum status packet_template_init(struct packet_template *template, enum mqtt_version version, const char *topic, uint8_t qos,
                                 size_t payload_size)
{
  assert(payload_size >= SHAPE_STAMP_SIZE);
  *template = (struct packet_template){0};
  uint8_t *payload = malloc(payload_size);
  if (!payload) return ERR_NO_MEMORY;
  for (size_t i = 0; i < payload_size; i++) payload[i] = (uint8_t)('A' + i % 26);
  struct mqtt_packet packet = {.type = MQTT_PUBLISH};
  packet.publish = (struct mqtt_publish){
      .qos = qos, .packet_id = qos ? 1 : 0, .topic = span_text(topic), .payload = span_of(payload, payload_size)};
  struct buffer bytes = {0};
  enum status status = append_packet(version, &packet, &bytes);
  free(payload);
  if (status) {
    buffer_deinit(&bytes);
    return status;
  }
  assert(bytes.start == 0);
  template->bytes = bytes.data;
  template->size = bytes.end;
  template->payload_at = template->size - payload_size;
  if (qos) template->packet_id_at = template->payload_at - (version == MQTT_5_0 ? 1 : 0) - 2;
  return OK;
}

void packet_template_deinit(struct packet_template *template)
{
  free(template->bytes);
  *template = (struct packet_template){0};
}
