// Connection options. See client_options.h.
#include "cli/client_options.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mqtt/topic.h"

enum { KEEP_ALIVE_DEFAULT_S = 60, ID_MAX_3_1 = 23, PASSWORD_LINE_SIZE = MQTT_MAX_STRING + sizeof "\r\n" };

// ---- Options that are more than a field

enum status client_read_url(const char *text, struct url *url, struct error *error)
{
  struct url read;
  enum status status = url_parse(text, &read, error);
  if (status != OK) return status;
  if (read.kind == URL_HTTP) {
    url_deinit(&read);
    return error_set(error, ERR_INVALID,
                     "http:// is no address of a broker; use mqtts://, mqtt://, wss://, ws:// or unix://");
  }
  url_deinit(url);
  *url = read;
  return OK;
}

static enum status apply_url(void *target, struct option_words *words, struct error *error)
{
  struct client_options *options = target;
  return client_read_url(option_word(words), &options->url, error);
}

enum status client_read_version(const char *text, enum mqtt_version *out, struct error *error)
{
  static const struct {
    const char *name;
    enum mqtt_version version;
  } names[] = {{"5", MQTT_5_0},          {"5.0", MQTT_5_0}, {"mqttv5", MQTT_5_0}, {"3.1.1", MQTT_3_1_1}, {"311", MQTT_3_1_1},
               {"mqttv311", MQTT_3_1_1}, {"3.1", MQTT_3_1}, {"31", MQTT_3_1},     {"mqttv31", MQTT_3_1}};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (strcasecmp(names[i].name, text) != 0) continue;
    *out = names[i].version;
    return OK;
  }
  return error_set(error, ERR_INVALID, "\"%s\" is no version of MQTT; known are 5, 3.1.1 and 3.1", text);
}

static enum status apply_version(void *target, struct option_words *words, struct error *error)
{
  struct client_options *options = target;
  return client_read_version(option_word(words), &options->version, error);
}

static enum status apply_keep_alive(void *target, struct option_words *words, struct error *error)
{
  struct client_options *options = target;
  const char *text = option_word(words);
  options->keep_alive_given = true;
  return option_parse_uint(text, 0, UINT16_MAX, &options->keep_alive_s, error);
}

static enum status apply_session_expiry(void *target, struct option_words *words, struct error *error)
{
  struct client_options *options = target;
  const char *text = option_word(words);
  uint64_t value = UINT32_MAX;
  bool never = strcmp(text, "-1") == 0 || strcmp(text, "\xe2\x88\x9e") == 0 || strcmp(text, "never") == 0;
  enum status status = never ? OK : option_parse_uint(text, 0, UINT32_MAX, &value, error);
  if (status != OK) return status;
  options->session_expiry_given = true;
  options->session_expiry_s = (uint32_t)value;
  return OK;
}

static enum status apply_will_delay(void *target, struct option_words *words, struct error *error)
{
  struct client_options *options = target;
  const char *text = option_word(words);
  uint64_t value = 0;
  enum status status = option_parse_uint(text, 0, UINT32_MAX, &value, error);
  if (status != OK) return status;
  options->will_delay_given = true;
  options->will_delay_s = (uint32_t)value;
  return OK;
}

static enum status apply_property(void *target, struct option_words *words, struct error *error)
{
  struct client_options *options = target;
  const char *packet = option_word(words);
  const char *name = option_word(words);
  const char *value = option_word(words);
  const char *second = value && property_value_count(name) == 2 ? option_word(words) : NULL;
  if (!value || (property_value_count(name) == 2 && !second))
    return error_set(error, ERR_INVALID, "needs PACKET NAME VALUE (of a user-property: NAME and VALUE) behind it");
  options->property_given = true;
  return property_add(&options->properties, packet, name, value, second, error);
}

// ---- The tables

#define FIELD(name) offsetof(struct client_options, name)

static const struct option connection_rows[] = {
    {'h', "host", "HOST", "Broker's name or address. Default: localhost.", OPTION_TEXT, FIELD(host), 0, 0, NULL},
    {'p', "port", "PORT", "Broker's port. Default: 1883, with TLS 8883.", OPTION_UINT, FIELD(port), 1, 65535, NULL},
    {0, "unix", "PATH", "Connect to a Unix socket instead.", OPTION_TEXT, FIELD(unix_path), 0, 0, NULL},
    {'L', "url", "URL",
     "mqtt://[user[:password]@]host[:port][/topic], ws://host[:port][/path], the same as mqtts:// and wss:// with TLS,\n"
     "or unix:///path.",
     OPTION_APPLY, 0, 0, 0, apply_url},
    {'u', "username", "NAME", "User name.", OPTION_TEXT, FIELD(user_name), 0, 0, NULL},
    {'P', "pw", "PASSWORD", "Password. All users of this machine can see it; better is --pw-file.", OPTION_TEXT,
     FIELD(password), 0, 0, NULL},
    {0, "pw-file", "FILE", "Password, the first line of a file.", OPTION_TEXT, FIELD(password_file), 0, 0, NULL},
    {'V', "protocol-version", "VERSION", "5, 3.1.1 or 3.1 (also mqttv5, mqttv311, mqttv31). Default: 5.", OPTION_APPLY, 0, 0,
     0, apply_version},
    {'k', "keepalive", "SECONDS", "Keep alive; 0 switches it off. Default: 60.", OPTION_APPLY, 0, 0, 0, apply_keep_alive},
    {'d', "debug", NULL, "Print each packet to standard error.", OPTION_FLAG, FIELD(debug), 0, 0, NULL},
    {0, "quiet", NULL, "Print no errors.", OPTION_FLAG, FIELD(quiet), 0, 0, NULL},
};

static const struct option session_rows[] = {
    {'i', "id", "ID", "Client identifier. Default: a random one.", OPTION_TEXT, FIELD(client_id), 0, 0, NULL},
    {'I', "id-prefix", "PREFIX", "Client identifier made of PREFIX and the process number.", OPTION_TEXT, FIELD(id_prefix),
     0, 0, NULL},
    {'c', "disable-clean-session", NULL, "Take up the session of the client identifier, and keep it at the end.",
     OPTION_FLAG, FIELD(keep_session), 0, 0, NULL},
    {'x', "session-expiry-interval", "SECONDS",
     "How long the broker keeps the session after the end, -1 for ever (5.0). Default: 0, with -c -1.", OPTION_APPLY, 0, 0,
     0, apply_session_expiry},
    {'M', "max-inflight", "N", "QoS 1 and 2 messages sent before the first is acknowledged. Default: 100, before 5.0 20.",
     OPTION_UINT, FIELD(in_flight), 1, 65000, NULL},
    {'D', "property", "PACKET NAME VALUE",
     "A property of MQTT 5.0, several allowed: -D publish content-type text/plain, -D connect user-property key value.\n"
     "PACKET: connect, will, publish, subscribe, unsubscribe, disconnect.",
     OPTION_APPLY, 0, 0, 0, apply_property},
};

static const struct option will_rows[] = {
    {0, "will-topic", "TOPIC", "The broker publishes to TOPIC when this client is lost.", OPTION_TEXT, FIELD(will_topic), 0,
     0, NULL},
    {0, "will-payload", "TEXT", "What it publishes. Default: nothing, an empty message.", OPTION_TEXT, FIELD(will_payload),
     0, 0, NULL},
    {0, "will-qos", "QOS", "0, 1 or 2. Default: 0.", OPTION_UINT, FIELD(will_qos), 0, 2, NULL},
    {0, "will-retain", NULL, "Retained.", OPTION_FLAG, FIELD(will_retain), 0, 0, NULL},
    {0, "will-delay", "SECONDS", "How long after the loss (5.0).", OPTION_APPLY, 0, 0, 0, apply_will_delay},
};

struct option_section client_connection_section(struct client_options *options)
{
  return (struct option_section)OPTION_SECTION("Connection", connection_rows, options);
}

struct option_section client_session_section(struct client_options *options)
{
  return (struct option_section)OPTION_SECTION("Session", session_rows, options);
}

struct option_section client_will_section(struct client_options *options)
{
  return (struct option_section)OPTION_SECTION("Will", will_rows, options);
}

void client_options_deinit(struct client_options *options)
{
  url_deinit(&options->url);
  property_sets_deinit(&options->properties);
  if (options->password_read) explicit_bzero(options->password_read, strlen(options->password_read));
  free(options->password_read);
  options->password_read = NULL;
  tls_client_unref(options->tls_client);
  options->tls_client = NULL;
}

// ---- Settings

static enum status fill_address(const struct client_options *options, struct client_settings *settings, struct error *error)
{
  struct transport_address *address = &settings->address;
  const struct url *url = &options->url;
  bool by_url = url->memory != NULL;
  if (by_url && (options->host || options->port || options->unix_path))
    return error_set(error, ERR_INVALID, "-L names the broker already; leave out -h, -p and --unix");
  if (options->unix_path && (options->host || options->port))
    return error_set(error, ERR_INVALID, "--unix names the broker already; leave out -h and -p");
  bool tls_given = client_tls_given(&options->tls);
  if (options->unix_path && tls_given)
    return error_set(error, ERR_INVALID, "TLS is not spoken over a Unix socket; leave out its options");
  if (by_url && !url->tls && tls_given)
    return error_set(error, ERR_INVALID, "with options of TLS the URL begins with mqtts:// or wss://");
  enum status status = client_tls_check(&options->tls, error);
  if (status != OK) return status;
  settings->tls = by_url ? url->tls : tls_given;
  uint16_t default_port = settings->tls ? URL_PORT_MQTTS : URL_PORT_MQTT;
  address->subprotocol = settings->version == MQTT_3_1 ? "mqttv3.1" : "mqtt";
  address->host = by_url ? url->host : options->host ? options->host : "localhost";
  address->port = by_url ? url->port : options->port ? (uint16_t)options->port : default_port;
  address->unix_path = options->unix_path;
  if (by_url && url->kind == URL_UNIX) address->unix_path = url->path;
  if (by_url && url->kind == URL_WEBSOCKET) address->websocket_path = url->path ? url->path : "/mqtt";
  if (address->unix_path) address->host = NULL;
  return OK;
}

static enum status fill_id(struct client_options *options, struct client_settings *settings, struct error *error)
{
  if (options->client_id && options->id_prefix) return error_set(error, ERR_INVALID, "-i and -I exclude each other");
  if (options->keep_session && !options->client_id)
    return error_set(error, ERR_INVALID, "-c needs a client identifier (-i), or the session is never found again");
  const char *id = options->client_id;
  if (!id) {
    if (options->id_prefix)
      snprintf(options->id, sizeof options->id, "%s%ld", options->id_prefix, (long)getpid());
    else
      snprintf(options->id, sizeof options->id, "skerry-%s-%08x", options->command, arc4random());
    id = options->id;
  }
  settings->client_id = span_text(id);
  if (settings->version == MQTT_3_1 && (settings->client_id.size == 0 || settings->client_id.size > ID_MAX_3_1))
    return error_set(error, ERR_INVALID, "MQTT 3.1 wants a client identifier of 1 to 23 characters");
  if (!mqtt_utf8_valid(settings->client_id)) return error_set(error, ERR_INVALID, "the client identifier is not UTF-8");
  return OK;
}

static enum status fill_user(const struct client_options *options, struct client_settings *settings, struct error *error)
{
  const char *user_name = options->user_name ? options->user_name : options->url.user_name;
  const char *password = options->password ? options->password : options->url.password;
  if (password && options->password_file)
    return error_set(error, ERR_INVALID, "the password is given twice, by --pw-file and by -P or -L");
  if ((password || options->password_file) && !user_name && settings->version != MQTT_5_0)
    return error_set(error, ERR_INVALID, "before MQTT 5.0 a password (-P, --pw-file) needs a user name (-u)");
  if (user_name) {
    if (!mqtt_utf8_valid(span_text(user_name))) return error_set(error, ERR_INVALID, "the user name is not UTF-8");
    settings->has_user_name = true;
    settings->user_name = span_text(user_name);
  }
  if (password) {
    settings->has_password = true;
    settings->password = span_text(password);
  }
  return OK;
}

static enum status fill_will(struct client_options *options, struct client_settings *settings, struct error *error)
{
  struct mqtt_properties *properties = &options->properties.packets[PROPERTY_WILL].properties;
  if (!options->will_topic) {
    bool other = options->will_payload || options->will_qos || options->will_retain || options->will_delay_given ||
                 properties->present;
    return other ? error_set(error, ERR_INVALID, "a will needs --will-topic") : OK;
  }
  struct span topic = span_text(options->will_topic);
  if (!mqtt_topic_valid(topic) || !mqtt_utf8_valid(topic))
    return error_set(error, ERR_INVALID,
                     "--will-topic \"%s\" is no topic name: empty, not UTF-8, or with a wildcard (+ or #)",
                     options->will_topic);
  if (options->will_delay_given) {
    properties->present |= 1ULL << MQTT_PROPERTY_WILL_DELAY;
    properties->will_delay_s = options->will_delay_s;
  }
  settings->will = (struct mqtt_will){
      .present = true,
      .qos = (uint8_t)options->will_qos,
      .retain = options->will_retain,
      .topic = topic,
      .payload = span_text(options->will_payload ? options->will_payload : ""),
      .properties = *properties,
  };
  return OK;
}

static enum status fill_session(struct client_options *options, struct client_settings *settings, struct error *error)
{
  bool five = settings->version == MQTT_5_0;
  struct mqtt_properties *properties = &options->properties.packets[PROPERTY_CONNECT].properties;
  if (!five && (options->property_given || options->session_expiry_given || options->will_delay_given))
    return error_set(error, ERR_INVALID, "-D, -x and --will-delay need MQTT 5.0 (-V 5)");
  if (options->session_expiry_given && MQTT_HAS(properties, SESSION_EXPIRY))
    return error_set(error, ERR_INVALID, "the session's expiry is given twice, by -x and by -D");
  settings->clean_start = !options->keep_session;
  bool by_default = options->keep_session && !MQTT_HAS(properties, SESSION_EXPIRY);
  if (five && (options->session_expiry_given || by_default)) {
    properties->present |= 1ULL << MQTT_PROPERTY_SESSION_EXPIRY;
    properties->session_expiry_s = options->session_expiry_given ? options->session_expiry_s : UINT32_MAX;
  }
  return OK;
}

enum status client_options_settings(struct client_options *options, struct client_settings *out_settings,
                                    struct error *error)
{
  struct client_settings settings = {
      .version = options->version ? options->version : MQTT_5_0,
      .keep_alive_s = options->keep_alive_given ? (uint16_t)options->keep_alive_s : KEEP_ALIVE_DEFAULT_S,
      .in_flight = (uint16_t)options->in_flight,
      .trace = options->debug ? stderr : NULL,
  };
  enum status status = fill_address(options, &settings, error);
  if (status == OK) status = fill_id(options, &settings, error);
  if (status == OK) status = fill_user(options, &settings, error);
  if (status == OK) status = fill_session(options, &settings, error);
  if (status == OK) status = fill_will(options, &settings, error);
  if (status != OK) return status;
  settings.connect_properties = options->properties.packets[PROPERTY_CONNECT].properties;
  settings.disconnect_properties = options->properties.packets[PROPERTY_DISCONNECT].properties;
  *out_settings = settings;
  return OK;
}

// ---- Files

enum status client_read_password(const char *path, char **out, struct error *error)
{
  char *line = malloc(PASSWORD_LINE_SIZE);
  if (!line) return error_set(error, ERR_NO_MEMORY, "out of memory");
  errno = 0;
  FILE *file = fopen(path, "re");
  bool found = file && fgets(line, PASSWORD_LINE_SIZE, file);
  int number = errno;
  if (file) fclose(file);
  size_t size = found ? strlen(line) : 0;
  while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) line[--size] = '\0';
  if (size > 0 && size <= MQTT_MAX_STRING) {
    *out = line;
    return OK;
  }
  free(line);
  if (!found && number) return error_set(error, status_from_errno(number), "%s: %s", path, strerror(number));
  return error_set(error, ERR_INVALID, "%s: its first line is %s: expected the password there", path,
                   size > 0 ? "longer than 65535 bytes" : "empty");
}

enum status client_options_read(struct client_options *options, struct client_settings *settings, struct error *error)
{
  enum status status = OK;
  if (options->password_file) {
    status = client_read_password(options->password_file, &options->password_read, error);
    if (status != OK) return error_prefix(error, "--pw-file");
    settings->has_password = true;
    settings->password = span_text(options->password_read);
  }
  if (!settings->tls) return OK;
  const char *protocol = settings->address.websocket_path ? "http/1.1" : "mqtt";
  status = client_tls_load(&options->tls, protocol, &options->tls_client, error);
  if (status != OK) return status;
  settings->address.tls = options->tls_client;
  client_tls_warn(&options->tls, options->command);
  return OK;
}

void client_options_describe(const struct client_settings *settings, char *out, size_t size)
{
  const struct transport_address *address = &settings->address;
  const char *scheme = address->websocket_path ? (settings->tls ? "wss://" : "ws://") : settings->tls ? "mqtts://" : "";
  const char *path = address->websocket_path ? address->websocket_path : "";
  if (address->unix_path)
    snprintf(out, size, "%s", address->unix_path);
  else
    snprintf(out, size, strchr(address->host, ':') ? "%s[%s]:%u%s" : "%s%s:%u%s", scheme, address->host, address->port,
             path);
}
