// Writes a plan as Skerry's configuration, in the order of docs/configuration.md, each key with the line that it comes from.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mosquitto_plan.h"

enum {
  MIB = 1 << 20,
  PACKET_MIN = 256,
  PACKET_MAX = 256 * MIB,
  PACKET_OVERHEAD = 1024,            // room for topic and properties beside a payload of the largest size
  PACKET_DEFAULT_JOURNAL = 8 * MIB,  // what the journal's defaults have room for
  MEMORY_MIN = 4 * MIB,
  QUEUE_BYTES_MIN = 1024,
  CONNECTIONS_DEFAULT = 10000,
  CONNECTIONS_LARGEST = 10000000,
  MESSAGES_LARGEST = 1000000000,
};

static const long long SIZE_LARGEST = 1LL << 40;

struct writer {
  const struct mosquitto_plan *plan;
  const char *main_file;  // lines of others are named with their file
  struct buffer *out;
  bool failed;
};

static long long clamped(long long number, long long minimum, long long maximum)
{
  return number < minimum ? minimum : number > maximum ? maximum : number;
}

static void __attribute__((format(printf, 2, 3))) put(struct writer *writer, const char *format, ...)
{
  char *text = NULL;
  va_list arguments;
  va_start(arguments, format);
  int size = vasprintf(&text, format, arguments);
  va_end(arguments);
  if (size < 0 || buffer_append(writer->out, text, (size_t)size) != OK) writer->failed = true;
  if (size >= 0) free(text);
}

// In double quotes, whatever is in it.
static void put_quoted(struct writer *writer, const char *text)
{
  put(writer, "\"");
  for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
    if (*at == '"' || *at == '\\')
      put(writer, "\\%c", *at);
    else if (*at < ' ' || *at == 0x7f)
      put(writer, "\\x%02x", *at);
    else
      put(writer, "%c", *at);
  }
  put(writer, "\"");
}

// A comment that says where it comes from, and the line's end.
static void put_origin(struct writer *writer, const struct mosquitto_line *line)
{
  put(writer, "  # %s", line->name);
  put(writer, ", %s%sline %u\n", line->file == writer->main_file ? "" : line->file,
      line->file == writer->main_file ? "" : " ", line->number);
}

static void put_path(struct writer *writer, const char *path)
{
  char *absolute = mosquitto_path(writer->plan->place, path);
  if (absolute)
    put_quoted(writer, absolute);
  else
    writer->failed = true;
  free(absolute);
}

// ---- The head

static void put_findings(struct writer *writer, const struct mosquitto_conf *conf, enum mosquitto_gravity gravity,
                         const char *title)
{
  if (conf->counts[gravity] == 0) return;
  put(writer, "#\n# %s\n", title);
  for (size_t i = 0; i < conf->finding_count; i++)
    if (conf->findings[i].gravity == gravity) put(writer, "#   %s\n", conf->findings[i].text);
}

static void put_head(struct writer *writer, const struct mosquitto_conf *conf)
{
  put(writer, "# Made by \"skerry import mosquitto\" from ");
  put(writer, "%s.\n# \"skerry help config\" explains all keys; \"skerry check\" says whether all is in order.\n",
      conf->file_count > 0 ? conf->files[0] : "an empty file");
  put_findings(writer, conf, MOSQUITTO_LOST, "What could not be carried over:");
  put_findings(writer, conf, MOSQUITTO_NOTE, "To know:");
  put_findings(writer, conf, MOSQUITTO_IDLE, "What has no counterpart, and needs none:");
}

// ---- Sections

static void put_broker(struct writer *writer)
{
  const struct mosquitto_settings *settings = writer->plan->settings;
  const struct mosquitto_setting *location = &settings->persistence_location;
  const char *user = settings->user.line ? settings->user.line->value : writer->plan->place->default_user;
  bool memory = settings->memory_limit.line && settings->memory_limit.number > 0;
  bool data = mosquitto_true(settings->persistence), becomes = user && strcmp(user, "root") != 0;
  if (!memory && !data && !becomes) return;
  put(writer, "\nbroker:\n");
  if (data) {
    char *path = mosquitto_path(writer->plan->place, location->line ? location->line->value : ".");
    size_t size = path ? strlen(path) : 0;
    while (size > 1 && (path[size - 1] == '/' || (path[size - 1] == '.' && path[size - 2] == '/'))) path[--size] = '\0';
    char *whole = NULL;
    if (!path || asprintf(&whole, "%s/skerry", strcmp(path, "/") == 0 ? "" : path) < 0) {
      writer->failed = true;
    } else {
      put(writer, "  data: ");
      put_quoted(writer, whole);
      put_origin(writer, location->line ? location->line : settings->persistence.line);
      free(whole);
    }
    free(path);
  }
  if (memory) {
    put(writer, "  memory_limit: %lld", clamped(settings->memory_limit.number, MEMORY_MIN, SIZE_LARGEST));
    put_origin(writer, settings->memory_limit.line);
  }
  if (!becomes) return;
  put(writer, "  user: ");
  put_quoted(writer, user);
  if (settings->user.line)
    put_origin(writer, settings->user.line);
  else
    put(writer, "  # whom Mosquitto becomes; remove it when the service manager starts the broker as a user\n");
}

static void put_url(struct writer *writer, const struct mosquitto_listener *listener, const char *host, bool tls)
{
  const char *protocol = mosquitto_text(listener->protocol);
  bool websocket = protocol && strcmp(protocol, "websockets") == 0;
  char *url = NULL;
  int size;
  if (listener->unix_socket) {
    char *path = mosquitto_path(writer->plan->place, listener->host);
    size = path ? asprintf(&url, "unix://%s", path) : -1;
    free(path);
  } else {
    bool colons = strchr(host, ':') != NULL;
    size = asprintf(&url, "%s%s://%s%s%s:%u", websocket ? "ws" : "mqtt", tls ? "s" : "", colons ? "[" : "", host,
                    colons ? "]" : "", listener->port);
  }
  if (size < 0) {
    writer->failed = true;
    return;
  }
  put(writer, "  - url: ");
  put_quoted(writer, url);
  if (listener->line)
    put_origin(writer, listener->line);
  else
    put(writer, "  # the default listener\n");
  free(url);
}

static void put_tls(struct writer *writer, const struct mosquitto_door *door)
{
  const struct mosquitto_listener *listener = door->listener;
  const char *version = mosquitto_text(listener->tls_version);
  put(writer, "    tls:\n");
  if (listener->certfile.line) {
    put(writer, "      cert: ");
    put_path(writer, listener->certfile.line->value);
    put_origin(writer, listener->certfile.line);
    put(writer, "      key: ");
    put_path(writer, listener->keyfile.line->value);
    put_origin(writer, listener->keyfile.line);
  }
  if (mosquitto_true(listener->require_certificate)) {
    put(writer, "      client_ca: ");
    put_path(writer, listener->cafile.line->value);
    put_origin(writer, listener->cafile.line);
    put(writer, "      client_cert: required");
    put_origin(writer, listener->require_certificate.line);
    if (listener->crlfile.line) {
      put(writer, "      crl: ");
      put_path(writer, listener->crlfile.line->value);
      put_origin(writer, listener->crlfile.line);
    }
  }
  if (door->auth == MOSQUITTO_AUTH_PSK) {
    put(writer, "      psk: ");
    put_quoted(writer, mosquitto_plan_file(writer->plan, door->security->psk_file.line));
    put_origin(writer, door->security->psk_file.line);
  }
  bool newest = version && strcmp(version, "tlsv1.3") == 0;
  put(writer, "      min_version: \"%s\"\n", newest ? "1.3" : "1.2");
}

static void put_door(struct writer *writer, const struct mosquitto_door *door, const char *host, bool ipv6_only)
{
  const struct mosquitto_listener *listener = door->listener;
  put_url(writer, listener, host, door->tls);
  if (ipv6_only) put(writer, "    ipv6_only: true\n");
  // Mosquitto leaves the file to the user that it runs as.
  if (listener->unix_socket) put(writer, "    mode: \"0600\"\n");
  if (door->tls) put_tls(writer, door);
  switch (door->auth) {
    case MOSQUITTO_AUTH_NONE: break;
    case MOSQUITTO_AUTH_CERT:
      put(writer, "    auth: [cert]\n    identity: cert.cn");
      put_origin(writer, listener->use_identity.line);
      break;
    case MOSQUITTO_AUTH_PSK: put(writer, "    auth: [psk]\n"); break;
    case MOSQUITTO_AUTH_PASSWORD:
      put(writer, "    auth: [password]\n    passwords: ");
      put_quoted(writer, mosquitto_plan_file(writer->plan, door->security->password_file.line));
      put_origin(writer, door->security->password_file.line);
      break;
  }
  put(writer, "    anonymous: %s", door->anonymous ? "true" : "false");
  if (door->security->allow_anonymous.line)
    put_origin(writer, door->security->allow_anonymous.line);
  else
    put(writer, "\n");
  if (listener->max_connections.line && listener->max_connections.number > 0) {
    put(writer, "    max_connections: %lld", clamped(listener->max_connections.number, 1, CONNECTIONS_LARGEST));
    put_origin(writer, listener->max_connections.line);
  }
  if (listener->max_topic_alias.line) {
    put(writer, "    limits:\n      topic_alias: %lld", listener->max_topic_alias.number);
    put_origin(writer, listener->max_topic_alias.line);
  }
}

static void put_listeners(struct writer *writer)
{
  const struct mosquitto_plan *plan = writer->plan;
  put(writer, "\nlisteners:\n");
  for (size_t i = 0; i < plan->door_count; i++) {
    const struct mosquitto_door *door = &plan->doors[i];
    const char *domain = mosquitto_text(door->listener->socket_domain);
    bool ipv6 = domain && strcmp(domain, "ipv6") == 0;
    if (door->listener->local_only) {
      put_door(writer, door, "127.0.0.1", false);
      if (plan->place->ipv6) put_door(writer, door, "::1", false);
    } else if (door->listener->host) {
      put_door(writer, door, door->listener->host, false);
    } else {
      put_door(writer, door, ipv6 ? "::" : domain ? "0.0.0.0" : "*", ipv6);
    }
  }
}

// ---- Limits

// The largest packet; 0: Mosquitto has no limit.
static long long packet_size(const struct mosquitto_settings *settings, const struct mosquitto_line **out_line)
{
  long long size = 0;
  *out_line = settings->packet_size.line;
  if (settings->packet_size.line) size = settings->packet_size.number;
  if (settings->message_size.line && settings->message_size.number > 0 &&
      (size == 0 || settings->message_size.number + PACKET_OVERHEAD < size)) {
    size = settings->message_size.number + PACKET_OVERHEAD;
    *out_line = settings->message_size.line;
  }
  return size == 0 ? 0 : clamped(size, PACKET_MIN, PACKET_MAX);
}

static void put_limit(struct writer *writer, const char *name, struct mosquitto_setting setting, long long number,
                      const char *zero)
{
  if (!setting.line) return;
  if (number == 0 && zero)
    put(writer, "  %s: %s", name, zero);
  else
    put(writer, "  %s: %lld", name, number);
  put_origin(writer, setting.line);
}

static void put_seconds(struct writer *writer, const char *name, struct mosquitto_setting setting, const char *zero)
{
  if (setting.number == 0 && zero)
    put(writer, "  %s: %s", name, zero);
  else
    put(writer, "  %s: %llds", name, setting.number);
  put_origin(writer, setting.line);
}

static void put_packet_size(struct writer *writer)
{
  const struct mosquitto_line *line;
  long long size = packet_size(writer->plan->settings, &line);
  if (size > 0) {
    put(writer, "  packet_size: %lld", size);
    put_origin(writer, line);
  } else {
    put(writer, "  packet_size: 8MiB  # Mosquitto has no limit but that of MQTT, 256MiB\n");
  }
}

static void put_connections(struct writer *writer)
{
  const struct mosquitto_setting *global = &writer->plan->settings->connections;
  long long sum = 0;
  for (size_t i = 0; i < writer->plan->door_count; i++) {
    const struct mosquitto_setting *one = &writer->plan->doors[i].listener->max_connections;
    sum += one->line && one->number > 0 ? one->number : 0;
  }
  if (global->line && global->number > 0)
    put_limit(writer, "connections", *global, clamped(global->number, 1, CONNECTIONS_LARGEST), NULL);
  else if (sum > CONNECTIONS_DEFAULT)
    put(writer, "  connections: %lld  # those of all listeners\n", clamped(sum, 1, CONNECTIONS_LARGEST));
}

static void put_limits(struct writer *writer)
{
  const struct mosquitto_settings *settings = writer->plan->settings;
  put(writer, "\nlimits:\n");
  put_connections(writer);
  put_packet_size(writer);
  put_limit(writer, "in_flight", settings->in_flight, settings->in_flight.number, "65535");
  put_limit(writer, "queue_messages", settings->queued_messages,
            clamped(settings->queued_messages.number, 0, MESSAGES_LARGEST), "unlimited");
  if (settings->queued_bytes.number > 0)
    put_limit(writer, "queue_bytes", settings->queued_bytes,
              clamped(settings->queued_bytes.number, QUEUE_BYTES_MIN, SIZE_LARGEST), NULL);
  put(writer, "  queue_drop: newest  # as Mosquitto does\n  queue_age: unlimited\n");
  if (settings->keep_alive.line)
    put_seconds(writer, "keep_alive_max", settings->keep_alive, "unlimited");
  else
    put(writer, "  keep_alive_max: unlimited\n");
  if (settings->expiration.line && settings->expiration.number < UINT32_MAX)
    put_seconds(writer, "session_expiry_max", settings->expiration, NULL);
  else
    put(writer, "  session_expiry_max: never  # without persistent_client_expiration; a number of days is wiser\n");
}

// Packets that are larger than the journal's defaults have room for.
static void put_journal(struct writer *writer)
{
  const struct mosquitto_line *line;
  long long packet = packet_size(writer->plan->settings, &line);
  if (!mosquitto_true(writer->plan->settings->persistence) || packet <= PACKET_DEFAULT_JOURNAL) return;
  long long segment = MIB;
  while (segment < 2 * packet) segment *= 2;
  put(writer, "\njournal:\n  segment: %lldMiB  # for packets of this size\n  reserve: %lldMiB\n", segment / MIB,
      segment * 2 / MIB > 64 ? segment * 2 / MIB : 64);
}

static void put_rest(struct writer *writer)
{
  const struct mosquitto_settings *settings = writer->plan->settings;
  if (settings->sys_interval.line) {
    put(writer, "\nsys:\n");
    put_seconds(writer, "interval", settings->sys_interval, "off");
  }
  if (!settings->log_types) return;
  put(writer, "\nlog:\n  level: %s  # log_type\n",
      settings->log_types & MOSQUITTO_LOG_DEBUG     ? "debug"
      : settings->log_types & MOSQUITTO_LOG_INFO    ? "info"
      : settings->log_types & MOSQUITTO_LOG_WARNING ? "warning"
                                                    : "error");
}

enum status mosquitto_write(const struct mosquitto_plan *plan, struct mosquitto_conf *conf, struct buffer *out)
{
  struct writer writer = {.plan = plan, .main_file = conf->file_count > 0 ? conf->files[0] : NULL, .out = out};
  put_head(&writer, conf);
  put_broker(&writer);
  put_listeners(&writer);
  if (plan->acl) {
    put(&writer, "\nacl: ");
    put_quoted(&writer, mosquitto_plan_file(plan, plan->acl));
    put_origin(&writer, plan->acl);
  }
  put_limits(&writer);
  put_journal(&writer);
  put_rest(&writer);
  return writer.failed || conf->short_of_memory ? ERR_NO_MEMORY : OK;
}
