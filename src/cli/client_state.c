// What client.c, client_publish.c and client_receive.c stand on: sending a packet, and what becomes of a connection that is
// lost. See client_internal.h.
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "cli/client_internal.h"
#include "cli/commands.h"
#include "cli/url.h"

enum { STABLE_MS = 10000 };  // a connection that held this long starts the back-off anew

uint64_t client_now_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void client_trace(const struct client *client, const char *format, ...)
{
  if (!client->settings.trace) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(client->settings.trace, format, arguments);
  va_end(arguments);
  fputc('\n', client->settings.trace);
}

// Back to the front of the queue, in order.
void client_requeue(struct client *client, struct link *from)
{
  struct link *position = client->queued.next;
  struct link *link;
  while ((link = list_take_first(from))) {
    struct outgoing *outgoing = CONTAINER_OF(link, struct outgoing, link);
    outgoing->phase = OUTGOING_QUEUED;
    outgoing->publish.dup = false;
    outgoing->packet_id = 0;
    list_insert_before(position, link);
  }
}

void client_fail(struct client *client, int exit_code, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(client->failure.text, sizeof client->failure.text, format, arguments);
  va_end(arguments);
  client_requeue(client, &client->unflushed);
  transport_close(&client->transport);
  client->exit_code = exit_code;
  client->state = CLIENT_FAILED;
}

static uint64_t next_backoff_ms(struct client *client)
{
  bool stable = client->online_since_ms != 0 && client_now_ms() - client->online_since_ms >= STABLE_MS;
  uint64_t first_ms = client->settings.backoff_first_ms ? client->settings.backoff_first_ms : CLIENT_BACKOFF_FIRST_MS;
  uint64_t doubled = client->backoff_ms == 0 || stable ? first_ms : client->backoff_ms * 2;
  client->backoff_ms = doubled < CLIENT_BACKOFF_MAX_MS ? doubled : CLIENT_BACKOFF_MAX_MS;
  // Half of it is chance, so that many clients do not come back in the same instant.
  return client->backoff_ms / 2 + prng_below(&client->prng, client->backoff_ms / 2 + 1);
}

void client_lose(struct client *client, const char *text)
{
  if (client->state == CLIENT_ENDING) {
    transport_close(&client->transport);
    client->state = CLIENT_ENDED;
    return;
  }
  bool again = client->was_online ? client->settings.reconnect : client->settings.retry_first;
  if (!again) {
    const struct transport_address *address = &client->settings.address;
    bool secure_port = !client->was_online && client->transport.state == TRANSPORT_OPEN && !address->tls &&
                       !address->unix_path && address->port == URL_PORT_MQTTS;
    client_fail(client, COMMAND_FAILED, "%s%s", text,
                secure_port ? "; port 8883 is usually one with TLS: try mqtts://" : "");
    return;
  }
  client_requeue(client, &client->unflushed);
  transport_close(&client->transport);
  buffer_consume(&client->in, buffer_size(&client->in));
  uint64_t delay_ms = next_backoff_ms(client);
  client->online_since_ms = 0;
  client->state = CLIENT_WAITING;
  client->deadline_ms = client_now_ms() + delay_ms;
  client_trace(client, "connection lost: %s; next attempt in %.1f s", text, (double)delay_ms / 1000);
  if (client->handler.lost) client->handler.lost(client->handler.context, text, delay_ms);
}

bool client_send(struct client *client, const struct mqtt_packet *packet)
{
  enum mqtt_version version = client->settings.version;
  size_t size = mqtt_encoded_size(version, packet);
  if (size == 0) return false;
  uint8_t *at = transport_reserve(&client->transport, size);
  if (!at) {
    client_fail(client, COMMAND_FAILED, "out of memory");
    return false;
  }
  size_t written = mqtt_encode(version, packet, at, size);
  assert(written == size);
  transport_commit(&client->transport, at, written);
  client->last_sent_ms = client_now_ms();
  return true;
}
